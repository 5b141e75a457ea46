"""`perf`: what a step costs on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.exits import OK, RefusedError, UsageError
from bdw_fed.cli.output import show_table

if TYPE_CHECKING:
    from bdw_fed.perf import Result, Series

EXAMPLES = """\
  bdw-fed perf                          all cases
  bdw-fed perf chain fanout
  bdw-fed perf fanout --size 1000 --repetitions 9
  bdw-fed perf chain --durability power
  bdw-fed perf pipeline transfer --size 256
  bdw-fed perf chain --json             one line of JSON a case
"""


def command(
    cases: Annotated[
        list[str] | None,
        Argument("Among: chain, fanout, command, pipeline, transfer, dispatch, start. Default: all.", "CASE"),
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
    """
    import json
    import os

    from bdw_fed.embedded.errors import EmbeddedError
    from bdw_fed.perf import CASES, PerfError
    from bdw_fed.perf.base import Settings

    for name in cases or []:
        if name not in CASES:
            raise UsageError(f"there is no case {name!r}; the cases are {', '.join(CASES)}")
    if durability not in ("process", "power"):
        raise UsageError(f"--durability: expected process or power, not {durability!r}")
    chosen = [CASES[name] for name in cases or CASES]
    for case in chosen:
        try:
            settings = case.checked(Settings(size or case.size, repetitions or case.repetitions, durability))
            before = os.getloadavg()[0]
            result = case.measure(settings)
        except (PerfError, EmbeddedError) as error:
            raise RefusedError(str(error)) from error
        if as_json:
            print(json.dumps({**result.to_values(), "load_before": round(before, 2)}), flush=True)
        else:
            _show(result, before)
    return OK


def _show(result: Result, load: float) -> None:
    """One case for people."""
    print(f"{result.case}: size {result.size}, durability {result.durability}, load before {load:.1f}\n")
    columns = ["", ">MEDIAN", ">MIN", ">MAX", ">P99", ">N", ">FLOOR", ">RATIO", "TO REACH"]
    show_table(columns, [_row(series) for series in (result.main, *result.others)])
    print()
    for series in (result.main, *result.others):
        print(f"  {series.name}: {series.what}")
    if result.main.floor_what:
        print(f"  floor: {result.main.floor_what}")
    print(flush=True)


def _row(series: Series) -> list[str]:
    import statistics

    ratio = series.ratio
    return [
        series.name,
        _ms(series.median),
        _ms(min(series.samples)),
        _ms(max(series.samples)),
        _ms(series.percentile(0.99)),
        str(len(series.samples)),
        _ms(statistics.median(series.floor)) if series.floor else "-",
        f"{ratio:.1f}" if ratio is not None else "-",
        series.target or "-",
    ]


def _ms(value: float) -> str:
    """Milliseconds, to three digits that count."""
    return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms"
