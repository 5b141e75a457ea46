"""`submit`: start a run of a workflow."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.options import Namespace, NoCache, Output, Parameters, State, connect, parameters_from
from bdw_fed.cli.output import Format, plain, show_values
from bdw_fed.cli.submission import show_submitted

EXAMPLES = """\
  bdw-fed submit delays
  bdw-fed submit delays -p late_minutes=30 --wait
  bdw-fed submit delays --dry-run          where would it run, and why?
  run=$(bdw-fed submit delays -o name) && bdw-fed logs -f $run
"""


def command(
    workflow: Annotated[str, Argument("Name of the workflow.", "WORKFLOW", "workflow")],
    parameter: Parameters = None,
    name: Annotated[str, Option(("--name",), "Name for the run. Default: one is made.", "RUN")] = "",
    topology: Annotated[str, Option(("--topology",), "Which topology, where there are several.", "NAME")] = "",
    no_cache: NoCache = False,
    dry_run: Annotated[bool, Option(("--dry-run",), "Plan only, and show the plan.")] = False,
    wait: Annotated[bool, Option(("--wait", "-w"), "Follow the run; exit with its result.")] = False,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    state: State = None,
) -> int | None:
    """Start a run of a workflow, and print its name."""
    with connect(state, namespace) as client:
        response = client.submit(
            workflow,
            parameters_from(parameter or []),
            name=name,
            topology=topology,
            dry_run=dry_run,
            no_cache=no_cache,
        )
        if not dry_run:
            return show_submitted(client, response, output, wait=wait)
    if output in (Format.JSON, Format.YAML):
        show_values(plain(response), output)
    else:
        from bdw_fed.cli.explanation import show_plan

        show_plan(response.plan, wide=output is Format.WIDE)
    return None
