"""`simulate`: whole federations on virtual time, under faults."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.exits import OK, RefusedError, UsageError
from bdw_fed.cli.options import Output
from bdw_fed.cli.output import Format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.trials.scenario import Scenario
    from simulator.trials.sweep import Tried

EXAMPLES = """\
  bdw-fed simulate                            200 federations, workflows and sets of faults, drawn from seeds
  bdw-fed simulate --seeds 2000 --jobs 2
  bdw-fed simulate --seed 4711 --seeds 1      one of them again
  bdw-fed simulate simulator/scenarios/*.yaml what once went wrong
  bdw-fed simulate mine.yaml --seeds 50       one scenario, its delays and losses drawn 50 times
  bdw-fed simulate --seeds 2000 -o json       one line of JSON for each seed, then one for all
"""


def command(
    scenarios: Annotated[
        list[Path] | None,
        Argument("Files that `simulate` wrote, or people. Default: drawn from the seeds.", "SCENARIO"),
    ] = None,
    seeds: Annotated[int, Option(("--seeds",), "How many. Default: 200; of a scenario its own one.", "N")] = 0,
    seed: Annotated[int, Option(("--seed",), "The first. Default: 1; of a scenario its own.", "S")] = 0,
    jobs: Annotated[int, Option(("--jobs", "-j"), "Processes that share the work. Default: one a processor.", "N")] = 0,
    save: Annotated[
        Path | None, Option(("--save",), "Where a scenario that goes wrong is written. Default: here.", "DIR")
    ] = None,
    output: Output = Format.TABLE,
) -> int:
    """Live through whole federations in one process on virtual time, while nearly everything goes wrong.

    Hubs, agents, node daemons and their sessions are those of production; networks, disks, clocks, workers, relays and
    etcd are played. A seed decides all of it: loss, duplication, reordering, delay, partitions, crashes with torn
    writes, full disks, clock jumps, slow nodes, clusters that are replaced, drained or revoked. Units must be consumed
    exactly once, nothing may be lost or left over, and every run must end once the faults have stopped.

    What goes wrong is made small, told as a story, and written as a scenario file. Exits 1 if anything did.
    """
    if seeds < 0 or jobs < 0:
        raise UsageError("--seeds and --jobs: expected a number from 1 on")
    if output not in (Format.TABLE, Format.JSON):
        raise UsageError(f"-o {output.value}: expected table or json")
    from simulator.trials.scenario import ScenarioError, read
    from simulator.trials.sweep import sweep

    processes = jobs or os.cpu_count() or 1
    found: list[Tried] = []
    failures: list[tuple[Scenario | None, Tried]] = []
    chosen: list[Scenario | None] = [None]
    if scenarios:
        try:
            chosen = [read(path.read_text(), str(path)) for path in scenarios]
        except ScenarioError as error:
            raise UsageError(str(error)) from error
    total = sum(seeds or (200 if scenario is None else 1) for scenario in chosen)
    with _bar(total, output) as advance:
        for scenario in chosen:
            count = seeds or (200 if scenario is None else 1)
            first = seed or (1 if scenario is None else scenario.seed)
            for one in sweep(first, count, processes=processes if count > 1 else 1, scenario=scenario):
                found.append(one)
                if one.verdict.violations:
                    failures.append((scenario, one))
                if output is Format.JSON:
                    _json(scenario, one)
                advance(len(found), len(failures))
    _summary(found, failures, output)
    if failures:
        first_scenario, first_failure = failures[0]
        _explain(first_scenario, first_failure, save or Path(), output)
        raise RefusedError(f"{len(failures)} of {len(found)} went wrong")
    return OK


def _explain(scenario: Scenario | None, failure: Tried, save: Path, output: Format) -> None:
    """Make it small, write it down, and tell its story."""
    from dataclasses import replace

    from simulator.trials.drawing import scenario_of
    from simulator.trials.scenario import written
    from simulator.trials.shrink import shrunk
    from simulator.trials.story import story

    whole = scenario_of(failure.seed) if scenario is None else replace(scenario, seed=failure.seed)
    print(f"seed {failure.seed} went wrong: {failure.verdict.violations[0]}", file=sys.stderr)
    print("making it small …", file=sys.stderr, flush=True)
    small, verdict = shrunk(whole, failure.verdict)
    path = save / f"{whole.name}.yaml"
    save.mkdir(parents=True, exist_ok=True)
    path.write_text(written(replace(small, name=path.stem, why=verdict.violations[0])))
    out = sys.stderr if output is Format.JSON else sys.stdout
    print(f"\n{len(small.faults)} faults, {len(small.submissions)} runs, {len(small.clusters)} clusters:", file=out)
    for line in story(small, verdict):
        print(line, file=out)
    for violation in verdict.violations:
        print(f"  {violation}", file=out)
    print(f"\nwritten to {path}; once more: bdw-fed simulate {path}", file=out)


def _json(scenario: Scenario | None, one: Tried) -> None:
    import json

    verdict = one.verdict
    values: dict[str, Any] = {
        "scenario": scenario.name if scenario else None,
        "seed": one.seed,
        "ok": not verdict.violations,
        "violations": list(verdict.violations),
        "ends": verdict.ends,
        "virtual_seconds": round(verdict.virtual_seconds, 3),
        "events": verdict.events,
        "commits": verdict.commits,
        "digest": verdict.digest,
        "cpu_seconds": round(one.cpu_seconds, 4),
    }
    print(json.dumps(values), flush=True)


def _summary(found: list[Tried], failures: list[tuple[Scenario | None, Tried]], output: Format) -> None:
    cpu = sum(one.cpu_seconds for one in found)
    events = sum(one.verdict.events for one in found)
    totals = {
        "trials": len(found),
        "wrong": len(failures),
        "runs": sum(len(one.verdict.ends) for one in found),
        "virtual_seconds": round(sum(one.verdict.virtual_seconds for one in found)),
        "events": events,
        "cpu_seconds": round(cpu, 1),
        "events_per_second": round(events / cpu) if cpu else 0,
    }
    if output is Format.JSON:
        import json

        print(json.dumps({"all": totals}), flush=True)
        return
    print(
        f"{totals['trials']} trials, {totals['runs']} runs, {totals['virtual_seconds']:,} virtual seconds,"
        f" {events:,} events in {totals['cpu_seconds']} s of processor time"
        f" ({totals['events_per_second']:,} a second): {totals['wrong'] or 'nothing'} went wrong"
    )


@contextmanager
def _bar(total: int, output: Format) -> Iterator[Any]:
    """Shows how far it is, where somebody looks."""
    if output is Format.JSON or not sys.stderr.isatty():
        yield lambda _done, _wrong: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda done, wrong: progress.update(
            task, completed=done, description=f"{wrong} went wrong" if wrong else ""
        )
