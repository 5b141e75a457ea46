"""`cache clear`: have results of tasks given up, so that the tasks are executed again."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.caches import InCluster, name_unreachable, show_steps
from bdw_fed.cli.exits import OK, UNAVAILABLE
from bdw_fed.cli.options import Agent, Namespace, Output, State, connect
from bdw_fed.cli.output import Format

EXAMPLES = """\
  bdw-fed cache clear score-degree@1      of one version of a step
  bdw-fed cache clear --age 30d           whatever was executed longer ago
  bdw-fed cache clear --all --cluster edge-jfk
"""


def command(
    step: Annotated[str, Argument("Of this step: NAME, or NAME@VERSION.", "STEP", "step")] = "",
    age: Annotated[str, Option(("--age",), "Only what was executed longer ago, such as 7d.", "DURATION")] = "",
    everything: Annotated[bool, Option(("--all",), "Of all steps, however old.")] = False,
    cluster: InCluster = "",
    namespace: Namespace = None,
    output: Output = Format.TABLE,
    agent: Agent = "",
    state: State = None,
) -> int:
    """Give up results of tasks: of a step, those older than an age, or all of the namespace. Shows which.

    Runs that have taken them already keep what they have. A cluster that can't be reached keeps its results, too: it is
    named on standard error, and the exit code is 4.
    """
    seconds = _seconds(age) if age else 0.0
    _expect_words(step, age, everything)
    with connect(state, namespace, agent) as client:
        answer = client.clear_cache(step=step, age=seconds, cluster=cluster)
    show_steps(answer.steps, output)
    name_unreachable(answer.unreachable, "it may still have all that it had")
    return UNAVAILABLE if answer.unreachable else OK


def _expect_words(step: str, age: str, everything: bool) -> None:
    from bdw_fed.cli.exits import UsageError

    if everything and (step or age):
        raise UsageError("--all is everything: leave it out, or leave out the step and --age")
    if not (step or age or everything):
        raise UsageError("expected a step, --age or --all")


def _seconds(text: str) -> float:
    from bdw_fed.cli.exits import UsageError
    from topology.errors import WrongValue
    from topology.quantity import parse_duration

    try:
        seconds = parse_duration(text)
    except WrongValue as error:
        raise UsageError(f"--age {text}: {error.message}; {error.remedy}") from None
    if not seconds:
        raise UsageError("--age 0: everything is older; write --all")
    return seconds
