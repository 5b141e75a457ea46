"""`outputs`: the results of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.options import Namespace, Output, RunName, State, connect
from bdw_fed.cli.output import Format, plain, show_table, show_values
from bdw_fed.cli.quantities import kept, size, wall_clock

EXAMPLES = """\
  bdw-fed outputs delays-x7k2p                    what is there, and where
  bdw-fed outputs delays-x7k2p --to out           save all of it
  bdw-fed outputs delays-x7k2p report --to out    only this one
"""


def command(
    run: RunName,
    names: Annotated[list[str] | None, Argument("Only these outputs.", "OUTPUT")] = None,
    to: Annotated[Path | None, Option(("--to",), "Directory to save them into.", "DIR")] = None,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    state: State = None,
) -> None:
    """List the results of a run, or save them.

    The bytes come straight from the nodes that have them, are checked, and continue where an earlier try broke off.
    What a node has found damaged since the run ended is lost; all else is saved.
    """
    with connect(state, namespace) as client:
        if to is not None:
            for saved in client.download(run, to, names=names or []):
                print(f"{saved.path}  {size(saved.size)}" + ("" if saved.received else "  (was there)"))
            return
        located = client.outputs(run, names=names or [])
    if not output.for_people and output is not Format.NAME:
        show_values([plain(item) for item in located], output)
    elif output is Format.NAME:
        for item in located:
            print(item.output.name)
    else:
        columns = ["OUTPUT", "FILE", ">SIZE", "CLUSTER", "NODE", "DIGEST"]
        timed = any(item.kept_until for item in located)
        columns += ["KEPT UNTIL"] if timed else []
        rows = []
        for item in located:
            found = item.output
            digest = found.unit.digest.hex()
            shown = digest if output is Format.WIDE else digest[:12]
            node = "lost" if found.lost else found.node
            row = [found.name, found.file, size(found.unit.size), found.cluster, node, shown]
            rows.append([*row, kept(item.kept_until, wall_clock())] if timed else row)
        show_table(columns, rows)
        for item in located:
            if item.output.lost:
                print(f"{item.output.file} is lost: {item.output.lost}; resubmit the run to have it made again")
