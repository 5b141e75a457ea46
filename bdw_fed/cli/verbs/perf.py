"""`perf`: what a step costs on this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.exits import OK, RefusedError, UsageError
from bdw_fed.cli.output import show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bdw_fed.perf import Result, Series

EXAMPLES = """\
  bdw-fed perf                          all cases, and a summary
  bdw-fed perf chain fanout:1000        two of them, the second with 1,000 units
  bdw-fed perf fanout --size 1000 --repetitions 9
  bdw-fed perf chain --durability power
  bdw-fed perf pipeline transfer --size 256
  bdw-fed perf chain --json             one line of JSON a case
"""


def command(
    cases: Annotated[
        list[str] | None,
        Argument(
            "Among: chain, fanout, command, pipeline, split, transfer, dispatch, start. Default: all. "
            "With :N, of that size.",
            "CASE",
        ),
    ] = None,
    as_json: Annotated[bool, Option(("--json",), "One line of JSON for each case, all samples in it.")] = False,
    repetitions: Annotated[
        int, Option(("--repetitions",), "Samples after the warm-up. Default: what the case has, at least 5.", "N")
    ] = 0,
    size: Annotated[int, Option(("--size",), "Steps, units, MiB or submissions of a repetition.", "N")] = 0,
    durability: Annotated[
        str, Option(("--durability",), "What accepted state survives, as of 'bdw-fed up'.", "process|power")
    ] = "process",
) -> int:
    """Measure the engine on this machine, each case beside its floor: the least that the machine makes unavoidable.

    Each case starts a federation of its own in a directory under /var/tmp (or TMPDIR) and removes it. Times are those
    of the coordinator's events; starting this command is never counted. Give the machine nothing else to do meanwhile.
    A case that can't be measured does not keep the others from it.
    """
    import os

    from bdw_fed.embedded.errors import EmbeddedError
    from bdw_fed.perf import CASES, PerfError
    from bdw_fed.perf.base import Settings

    if durability not in ("process", "power"):
        raise UsageError(f"--durability: expected process or power, not {durability!r}")
    chosen = []
    for asked in cases or CASES:
        name, _, own_size = asked.partition(":")
        if name not in CASES:
            raise UsageError(f"there is no case {name!r}; the cases are {', '.join(CASES)}")
        if ":" in asked and not own_size.isdecimal():
            raise UsageError(f"{asked}: expected a number after the colon, for example {name}:{CASES[name].size}")
        case = CASES[name]
        settings = Settings(int(own_size or 0) or size or case.size, repetitions or case.repetitions, durability)
        try:
            chosen.append((case, case.checked(settings)))
        except PerfError as error:
            raise RefusedError(str(error)) from error
    measured: list[tuple[Result, float]] = []
    failed: list[str] = []
    for case, settings in chosen:
        before = os.getloadavg()[0]
        try:
            result = case.measure(settings)
        except (PerfError, EmbeddedError) as error:
            if len(chosen) == 1:
                raise RefusedError(str(error)) from error
            print(f"{case.name} could not be measured: {error}\n", file=sys.stderr)
            failed.append(case.name)
            continue
        measured.append((result, before))
        _show(result, before, as_json=as_json)
    if len(measured) > 1 and not as_json:
        _summarize(measured)
    if failed:
        raise RefusedError(f"{len(failed)} of {len(chosen)} cases could not be measured: {', '.join(failed)}")
    return OK


def _show(result: Result, load: float, *, as_json: bool) -> None:
    """One case."""
    if as_json:
        import json

        print(json.dumps({**result.to_values(), "load_before": round(load, 2)}), flush=True)
        return
    print(f"{result.case}: size {result.size}, durability {result.durability}, load before {load:.1f}\n")
    columns = ["", ">MEDIAN", ">MIN", ">MAX", ">P99", ">N", ">FLOOR", ">RATIO", "TO REACH"]
    show_table(columns, [_row(series) for series in (result.main, *result.others)])
    print()
    for series in (result.main, *result.others):
        print(f"  {series.name}: {series.what}")
    if result.main.floor_what:
        print(f"  floor: {result.main.floor_what}")
    print(flush=True)


def _summarize(measured: Sequence[tuple[Result, float]]) -> None:
    """All figures of which something is expected."""
    rows = []
    for result, load in measured:
        name = result.case if result.durability == "process" else f"{result.case}, {result.durability}"
        for series in (result.main, *result.others):
            if series.reached is None:
                continue
            values = [_ms(series.median), _ms(series.percentile(0.99)), _floor(series), series.target]
            reached = "yes" if series.reached else "no"
            rows.append([name, str(result.size), series.name, *values, reached, f"{load:.1f}"])
    columns = ["CASE", ">SIZE", "FIGURE", ">MEDIAN", ">P99", ">FLOOR", "TO REACH", "REACHED", ">LOAD BEFORE"]
    show_table(columns, rows)


def _row(series: Series) -> list[str]:
    ratio = series.ratio
    return [
        series.name,
        _ms(series.median),
        _ms(min(series.samples)),
        _ms(max(series.samples)),
        _ms(series.percentile(0.99)),
        str(len(series.samples)),
        _floor(series),
        f"{ratio:.1f}" if ratio is not None else "-",
        series.target or "-",
    ]


def _floor(series: Series) -> str:
    import statistics

    return _ms(statistics.median(series.floor)) if series.floor else "-"


def _ms(value: float) -> str:
    """Milliseconds, to three digits that count."""
    return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms"
