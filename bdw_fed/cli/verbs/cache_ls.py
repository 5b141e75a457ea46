"""`cache ls`: which results of tasks are kept, and where."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.caches import InCluster, name_unreachable, show_steps
from bdw_fed.cli.options import Agent, Namespace, Output, State, connect
from bdw_fed.cli.output import Format

EXAMPLES = """\
  bdw-fed cache ls
  bdw-fed cache ls score-degree               of all its versions
  bdw-fed cache ls --agent edge-jfk -o json   what one cluster has, hub or no hub
"""


def command(
    step: Annotated[str, Argument("Only of this step: NAME, or NAME@VERSION.", "STEP", "step")] = "",
    cluster: InCluster = "",
    namespace: Namespace = None,
    output: Output = Format.TABLE,
    agent: Agent = "",
    state: State = None,
) -> None:
    """Show which results of tasks clusters keep, a line for each step version on each cluster.

    SIZE counts contents for each result that has them; TAKEN how often one was taken there in place of a task.
    """
    with connect(state, namespace, agent) as client:
        answer = client.cached(step=step, cluster=cluster)
    show_steps(answer.steps, output)
    name_unreachable(answer.unreachable, "what it keeps is missing here")
