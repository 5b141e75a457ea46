"""`perf`: what a step costs on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.exits import OK, RefusedError, UsageError
from bdw_fed.cli.options import StorageCredentials
from bdw_fed.cli.output import show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bdw_fed.perf import Result, Series
    from topology.storage import Storage

EXAMPLES = """\
  bdw-fed perf                          all cases, and a summary
  bdw-fed perf chain fanout:1000        two of them, the second with 1,000 units
  bdw-fed perf fanout --size 1000 --repetitions 9
  bdw-fed perf chain --durability power
  bdw-fed perf pipeline transfer --size 256
  bdw-fed perf pipeline --topology topology.yaml --cluster edge-jfk    with its Redis and its bucket
  bdw-fed perf chain --json             one line of JSON a case
"""


def command(
    cases: Annotated[
        list[str] | None,
        Argument(
            "Among: chain, fanout, command, pipeline, split, transfer, dispatch, catch-up, start. Default: all. "
            "With :N, of that size.",
            "CASE",
        ),
    ] = None,
    as_json: Annotated[bool, Option(("--json",), "One line of JSON for each case, all samples in it.")] = False,
    repetitions: Annotated[
        int, Option(("--repetitions",), "Samples after the warm-up. Default: what the case has, at least 5.", "N")
    ] = 0,
    size: Annotated[int, Option(("--size",), "Steps, units, MiB, submissions or tasks of a repetition.", "N")] = 0,
    durability: Annotated[
        str, Option(("--durability",), "What accepted state survives, as of 'bdw-fed up'.", "process|power")
    ] = "process",
    topology: Annotated[
        Path | None,
        Option(("--topology",), "Of pipeline: YAML file with a topology, for the Redis and the bucket in it.", "FILE"),
    ] = None,
    cluster: Annotated[
        str, Option(("--cluster",), "With --topology: the cluster whose storage is meant.", "NAME")
    ] = "",
    storage_credentials: StorageCredentials = None,
) -> int:
    """Measure the engine on this machine, each case beside its floor: the least that the machine makes unavoidable.

    Each case starts a federation of its own in a directory under /var/tmp (or TMPDIR) and removes it. Times are those
    of the coordinator's events; starting this command is never counted. Give the machine nothing else to do meanwhile.
    A case that can't be measured does not keep the others from it. A Redis and a bucket are somebody's: contents go
    there below a prefix of their own, and are deleted in the end.
    """
    import os

    from bdw_fed.embedded.errors import EmbeddedError
    from bdw_fed.perf import CASES, PerfError
    from bdw_fed.perf.base import Settings

    if durability not in ("process", "power"):
        raise UsageError(f"--durability: expected process or power, not {durability!r}")
    storage = _storage(topology, cluster)
    chosen = []
    for asked in cases or CASES:
        name, _, own_size = asked.partition(":")
        if name not in CASES:
            raise UsageError(f"there is no case {name!r}; the cases are {', '.join(CASES)}")
        if ":" in asked and not own_size.isdecimal():
            raise UsageError(f"{asked}: expected a number after the colon, for example {name}:{CASES[name].size}")
        case = CASES[name]
        settings = Settings(
            int(own_size or 0) or size or case.size,
            repetitions or case.repetitions,
            durability,
            storage,
            storage_credentials,
        )
        try:
            chosen.append((case, case.checked(settings)))
        except PerfError as error:
            raise RefusedError(str(error)) from error
    if topology is not None and not any(case.name == "pipeline" for case, _ in chosen):
        raise UsageError(
            "--topology: of the cases only pipeline measures what it names, and is not among those asked for"
        )
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


def _storage(topology: Path | None, cluster: str) -> Storage:
    """What may be measured beside disks and memory."""
    from bdw_fed.cli.verbs.node import storage_of

    if (topology is None) != (not cluster):
        raise UsageError("--topology and --cluster: expected both, the file and which cluster's storage in it is meant")
    return storage_of(topology, cluster)


def _show(result: Result, load: float, *, as_json: bool) -> None:
    """One case."""
    if as_json:
        import json

        print(json.dumps({**result.to_values(), "load_before": round(load, 2)}), flush=True)
        return
    print(f"{result.case}: size {result.size}, durability {result.durability}, load before {load:.1f}\n")
    columns = ["", ">MEDIAN", ">MIN", ">MAX", ">P99", ">N", ">MB/S", ">UNITS/S", ">FLOOR", ">RATIO", "TO REACH"]
    rows = [_row(series) for series in (result.main, *result.others)]
    if all(series.megabytes is None for series in (result.main, *result.others)):
        columns, *rows = ([*row[:6], *row[8:]] for row in (columns, *rows))
    show_table(columns, rows)
    print()
    for series in (result.main, *result.others):
        print(f"  {series.name}: {series.what}")
    print()
    floors = _floors(result)
    for what, names in floors.items():
        whose = f" of {', '.join(names)}" if len(floors) > 1 else ""
        print(f"  floor{whose}: {what}")
    for what in result.left_out:
        print(f"  left out, {what}")
    print(flush=True)


def _floors(result: Result) -> dict[str, list[str]]:
    """What each floor is, and whose."""
    floors: dict[str, list[str]] = {}
    for series in (result.main, *result.others):
        if series.floor_what:
            floors.setdefault(series.floor_what, []).append(series.name)
    return floors


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
        _rate(series.megabytes),
        _rate(series.units),
        _floor(series),
        f"{ratio:.1f}" if ratio is not None else "-",
        series.target or "-",
    ]


def _floor(series: Series) -> str:
    import statistics

    return _ms(statistics.median(series.floor)) if series.floor else "-"


def _rate(value: float | None) -> str:
    """So many a second."""
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _ms(value: float) -> str:
    """Milliseconds, to three digits that count."""
    return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms"
