"""`explain`: why a run's steps go where they go."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.options import Namespace, Output, Parameters, State, connect, parameters_from
from bdw_fed.cli.output import Format, plain, show_values

EXAMPLES = """\
  bdw-fed explain delays-x7k2p          of a run: the plan it got
  bdw-fed explain delays -o wide        of a workflow: the plan it would get now, every score
  bdw-fed explain workflow/delays -p late_minutes=30
"""


def command(
    subject: Annotated[str, Argument("A run or a workflow; run/NAME or workflow/NAME where both exist.", "NAME")],
    parameter: Parameters = None,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    state: State = None,
) -> None:
    """Show where each step may run and why: who was left out by what, every score, expected time and bytes."""
    from bdw_fed.cli.explanation import show_plan
    from bdw_fed.client.errors import NotFound

    kind, slash, name = subject.rpartition("/")
    parameters = parameters_from(parameter or [])
    with connect(state, namespace) as client:
        if slash and kind in ("run", "runs"):
            plan = client.explain(run=name)
        elif slash or parameters:
            plan = client.explain(workflow=name, parameters=parameters)
        else:
            try:
                plan = client.explain(run=name)
            except NotFound:
                try:
                    plan = client.explain(workflow=name)
                except NotFound:
                    raise NotFound(f"there is neither a run nor a workflow {name}") from None
    if output in (Format.JSON, Format.YAML):
        show_values(plain(plan), output)
    else:
        show_plan(plan, wide=output is Format.WIDE)
