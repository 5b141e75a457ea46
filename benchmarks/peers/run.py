"""Measures the engines one after another, each case in a process of its own; prints a table, writes results.json.

run.py                                   everything, as published
run.py --engine floor --engine bdw-fed   some engines
run.py --steps 20 --units 500 --repetitions 2 --output /tmp/try.json    does it work?
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import machine
import processes
from engines import CLASSES
from engines.base import Case
from engines.noise import Watch

HERE = Path(__file__).resolve().parent
NOISY = 0.1  # share of the machine's processor time used by others from which a figure is not worth keeping
IDLE_WATCH = 1.5  # seconds before each measurement
FORMAT = 1


def main() -> int:
    """Returns 1 if an engine that is here failed; one that is not is skipped."""
    given = _arguments()
    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, _terminated)
    sizes = {Case.CHAIN: given.steps, Case.FANOUT: given.units}
    facts = machine.facts(given.scratch)
    results = []
    given.logs.mkdir(parents=True, exist_ok=True)
    for case in given.case or list(Case):
        for engine in given.engine or list(CLASSES):
            print(f"{case} {engine} …", end=" ", flush=True, file=sys.stderr)
            result = measure(engine, case, sizes[case], given)
            print(_summary(result), file=sys.stderr)
            results.append(result)
    report = {
        "format": FORMAT,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": facts,
        "settings": {"steps": given.steps, "units": given.units, "repetitions": given.repetitions},
        "results": results,
    }
    given.output.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(report))
    print(f"\nwritten to {given.output}")
    return int(any(result["status"] == "failed" for result in results))


def measure(engine: str, case: Case, size: int, given: argparse.Namespace) -> dict[str, Any]:
    """One engine's result for one case, as it stands in results.json."""
    log = given.logs / f"{engine}-{case}.log"
    before = watched_idle()
    state = Path(tempfile.mkdtemp(prefix="peers-", dir=given.scratch))
    try:
        answer = state / "result.json"
        command = [sys.executable, "-m", "engines", engine, str(case), "--size", str(size)]
        command += ["--repetitions", str(given.repetitions), "--state", str(state), "--result", str(answer)]
        ended = processes.run(
            command,
            cwd=HERE,
            # for the worker processes too, which import the step's module
            environment={**os.environ, "PYTHONPATH": str(HERE)},
            log=log,
            timeout=given.timeout,
        )
        result: dict[str, Any]
        if ended.code is None:
            result = {"status": "failed", "reason": f"not done after {given.timeout:g} s; see {log}"}
        elif ended.code != 0 or not answer.exists():
            result = {"status": "failed", "reason": f"{_last_words(log)}; see {log}"}
        else:
            result = json.loads(answer.read_text(encoding="utf-8"))
    finally:
        shutil.rmtree(state, ignore_errors=True)
    head = {"case": str(case), "engine": engine}
    if result["status"] == "measured":
        result["samples_ms"] = [round(sample, 5) for sample in result["samples_ms"]]
        result["median_ms"] = round(statistics.median(result["samples_ms"]), 5)
        result["others_cpu"] = round(max(before, result["others_cpu"] or 0.0), 3)
        result["left_behind"] = ended.left_behind
    return head | result


def watched_idle() -> float:
    """The share of the machine that others use while nothing of ours runs: the engine may be done too soon to tell."""
    watch = Watch.of_self()
    time.sleep(IDLE_WATCH)
    return watch.others() or 0.0


def table(report: dict[str, Any]) -> str:
    """The report for people: one block for each case, the quickest engine first."""
    blocks = []
    for case in Case:
        rows = [result for result in report["results"] if result["case"] == case]
        if not rows:
            continue
        settings = report["settings"]
        title = (
            f"chain: {settings['steps']} dependent steps on one unit, ms per step"
            if case is Case.CHAIN
            else f"fanout: {settings['units']} units through one step, ms per task"
        )
        lines = [["engine", "version", "median", "min … max", "survives", "steps run in", "others' CPU", ""]]
        measured = [row for row in rows if row["status"] == "measured"]
        lines += [_row(row) for row in sorted(measured, key=lambda row: float(row["median_ms"]))]
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        text += [f"{row['engine']}: {row['status']}: {row['reason']}" for row in rows if row["status"] != "measured"]
        blocks.append("\n".join([title, *text]))
    noisy = [row for row in report["results"] if row.get("others_cpu", 0) > NOISY]
    if noisy:
        blocks.append(
            f"Not to be kept: in {len(noisy)} of the measurements other programs used more than {NOISY:.0%} of this"
            " machine. Run again when it is quiet."
        )
    return "\n\n".join(blocks)


def _row(result: dict[str, Any]) -> list[str]:
    samples = result["samples_ms"]
    notes = [*result["remarks"]]
    if result["left_behind"]:
        notes.append(f"left running, and ended here: {', '.join(result['left_behind'])}")
    return [
        result["engine"],
        result["version"],
        f"{result['median_ms']:.3f}",
        f"{min(samples):.3f} … {max(samples):.3f}",
        result["keeps"],
        result["steps_run_in"],
        f"{result['others_cpu']:.0%}",
        "; ".join(notes),
    ]


def _summary(result: dict[str, Any]) -> str:
    if result["status"] == "measured":
        return f"{result['median_ms']:.3f} ms"
    return f"{result['status']}: {result['reason']}"


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended without a word"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", choices=CLASSES, help="only this one (may be repeated)")
    parser.add_argument("--case", action="append", type=Case, choices=list(Case), help="only this one")
    parser.add_argument("--steps", type=int, default=100, help="of the chain (100)")
    parser.add_argument("--units", type=int, default=10_000, help="of the fanout (10000)")
    parser.add_argument("--repetitions", type=int, default=7, help="timed, after one that is not (7)")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one engine and case (900)")
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    parser.add_argument("--logs", type=Path, default=HERE / "out" / "logs", help="what the engines printed")
    scratch = Path("/var/tmp")  # noqa: S108 - /tmp is often memory, where a sync costs nothing
    parser.add_argument(
        "--scratch",
        type=Path,
        default=scratch if scratch.is_dir() else Path(tempfile.gettempdir()),
        help=f"a directory on a real disk, with a short path as sockets lie there ({scratch})",
    )
    given = parser.parse_args()
    for name, least in {"steps": 1, "units": 1, "repetitions": 1}.items():
        if getattr(given, name) < least:
            parser.error(f"--{name} must be at least {least}")
    return given


def _terminated(_signal: int, _frame: object) -> NoReturn:
    sys.exit(143)  # through the `finally`s, which end the engine


if __name__ == "__main__":
    sys.exit(main())
