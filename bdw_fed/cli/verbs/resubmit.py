"""`resubmit`: start a new run of what another one was of."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.options import Namespace, NoCache, Output, Parameters, RunName, State, connect, parameters_from
from bdw_fed.cli.output import Format
from bdw_fed.cli.submission import show_submitted

EXAMPLES = """\
  bdw-fed resubmit delays-x7k2p
  bdw-fed resubmit delays-x7k2p -p late_minutes=60 --wait
"""


def command(
    run: RunName,
    parameter: Parameters = None,
    name: Annotated[str, Option(("--name",), "Name for the new run. Default: one is made.", "RUN")] = "",
    no_cache: NoCache = False,
    wait: Annotated[bool, Option(("--wait", "-w"), "Follow the run; exit with its result.")] = False,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    state: State = None,
) -> int | None:
    """Start a new run of the same workflow, as it was then, with the same parameters but for those given here."""
    with connect(state, namespace) as client:
        response = client.resubmit(run, parameters_from(parameter or []), name=name, no_cache=no_cache)
        return show_submitted(client, response, output, wait=wait)
