"""`retry`: try a run again that has failed or was cancelled."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.options import Namespace, Output, RunName, State, connect
from bdw_fed.cli.output import Format, word

EXAMPLES = """\
  bdw-fed retry delays-x7k2p
  bdw-fed retry delays-x7k2p --wait
"""


def command(
    run: RunName,
    wait: Annotated[bool, Option(("--wait", "-w"), "Follow the run; exit with its result.")] = False,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    state: State = None,
) -> int | None:
    """Try a run again that has failed or was cancelled; what is done and still kept is not done again."""
    from bdw_fed.v1 import model_pb2 as model

    with connect(state, namespace) as client:
        changed = client.retry(run)
        if output is Format.TABLE:
            print(f"run {changed.name} is {word(model.RunState, changed.state)} again")
        if wait:
            from bdw_fed.cli.progress import follow

            return follow(client, run, output)
    return None
