"""`watch`: follow a run while it runs."""

from __future__ import annotations

from bdw_fed.cli.options import Agent, Namespace, Output, RunName, State, connect
from bdw_fed.cli.output import Format

EXAMPLES = """\
  bdw-fed watch delays-x7k2p
  bdw-fed watch delays-x7k2p && bdw-fed outputs delays-x7k2p --to out
"""


def command(
    run: RunName, output: Output = Format.TABLE, agent: Agent = "", namespace: Namespace = None, state: State = None
) -> int:
    """Follow a run until it ends: what waits, runs and is done, for each step and cluster.

    A live table on a terminal, a line at each change elsewhere; with -o json, a line of JSON at each change.
    Exits 0 if the run succeeded, else 1.
    """
    from bdw_fed.cli.progress import follow

    with connect(state, namespace, agent) as client:
        return follow(client, run, output)
