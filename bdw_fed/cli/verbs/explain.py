"""`explain`: why a run's steps go where they go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.options import Namespace, Output, Parameters, State, connect, parameters_from
from bdw_fed.cli.output import Format, plain, show_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bdw_fed.client import SyncClient
    from bdw_fed.v1 import model_pb2 as model

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
    from bdw_fed.cli.figures import show_run_figures

    kind, slash, name = subject.rpartition("/")
    parameters = parameters_from(parameter or [])
    with connect(state, namespace) as client:
        plan = _plan(client, kind, name, plain_name=not slash and not parameters, parameters=parameters)
        if output in (Format.JSON, Format.YAML):
            show_values(plain(plan), output)
            return
        show_plan(plan, wide=output is Format.WIDE)
        if plan.run:
            show_run_figures(client.get_run(plan.run), plan, client.status().clusters)


def _plan(
    client: SyncClient, kind: str, name: str, *, plain_name: bool, parameters: Mapping[str, object]
) -> model.Plan:
    """The plan of a run, or of a workflow if there is no such run or it was asked for. NotFound if there is neither."""
    from bdw_fed.client.errors import NotFound

    if kind in ("run", "runs"):
        return client.explain(run=name)
    if not plain_name:
        return client.explain(workflow=name, parameters=parameters)
    try:
        return client.explain(run=name)
    except NotFound:
        try:
            return client.explain(workflow=name)
        except NotFound:
            raise NotFound(f"there is neither a run nor a workflow {name}") from None
