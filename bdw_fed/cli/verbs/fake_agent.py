"""`fake-agent`: what a hub makes of many agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import OK, RefusedError, UsageError
from bdw_fed.cli.output import show_table

if TYPE_CHECKING:
    from bdw_fed.load.figures import Figures

EXAMPLES = """\
  bdw-fed fake-agent --count 1000
  bdw-fed fake-agent --count 100 --count 300 --count 1000 --count 3000
  bdw-fed fake-agent --count 300 --runs 1000 --rate 20 --json
"""
_COLUMNS = [
    ">AGENTS",
    ">RUNS",
    ">RATE",
    ">CONNECTED IN",
    ">HUB, QUIET",
    ">HUB, BUSY",
    ">GENERATOR",
    ">HUB MEMORY",
    ">DISPATCH P50",
    ">P99",
    ">WRITES A RUN",
]


def command(
    count: Annotated[list[int], Option(("--count",), "How many agents. Repeatable: one after the other.", "N")],
    runs: Annotated[int, Option(("--runs",), "How many runs are submitted.", "N")] = 200,
    rate: Annotated[float, Option(("--rate",), "Submissions a second.", "NUMBER")] = 5.0,
    tasks: Annotated[int, Option(("--tasks",), "Tasks of a run.", "N")] = 100,
    seconds: Annotated[float, Option(("--seconds",), "That a task takes; four of a run at a time.", "NUMBER")] = 0.1,
    quiet: Annotated[float, Option(("--quiet",), "Seconds of nothing but heartbeats, before.", "NUMBER")] = 10.0,
    as_json: Annotated[bool, Option(("--json",), "One line of JSON for each count.")] = False,
) -> int:
    """Load a hub with agents that speak the true protocol and execute nothing, and tell what it takes.

    A hub and an etcd of their own are started in a directory under /var/tmp (or TMPDIR), which is removed in the end.
    The hub's processor and memory are those of its process; what the agents and submissions take stands apart. A
    dispatch is the time from a submission to the agent's having its part. Give the machine nothing else to do.
    """
    import asyncio
    import json

    from bdw_fed.embedded.errors import EmbeddedError
    from bdw_fed.load.agent import Work
    from bdw_fed.load.figures import Load, measure
    from bdw_fed.perf.federation import scratch

    if min([*count, runs, tasks]) < 1 or min(rate, quiet) <= 0 or seconds < 0:
        raise UsageError("--count, --runs, --tasks, --rate and --quiet are above 0")
    rows = []
    for agents in count:
        load = Load(agents, runs, rate, quiet, work=Work(tasks, seconds))
        try:
            with scratch() as place:
                figures = asyncio.run(measure(load, place))
        except (EmbeddedError, TimeoutError) as error:
            raise RefusedError(f"{agents} agents: {error or 'the runs did not end in time'}") from error
        if as_json:
            print(json.dumps(figures.to_values()), flush=True)
        rows.append(_row(figures))
    if not as_json:
        show_table(_COLUMNS, rows)
    return OK


def _row(figures: Figures) -> list[str]:
    from bdw_fed.cli.quantities import duration, size

    return [
        str(figures.agents),
        str(figures.runs),
        f"{figures.rate:.1f}/s",
        duration(figures.connect_seconds),
        f"{figures.quiet_hub:.0%}",
        f"{figures.busy_hub:.0%}",
        f"{figures.busy_generator:.0%}",
        size(figures.hub_memory),
        duration(figures.dispatch_p50),
        duration(figures.dispatch_p99),
        f"{figures.writes_per_run:.1f}",
    ]
