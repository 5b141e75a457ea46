"""Ours, which measures itself: `bdw-fed perf CASE --json` starts a federation, warms up, and prints its samples.

The program is the repository's own, or the one that the environment variable BDW_FED names. What it must print, as the
last line of its output, is a JSON object:

    {"case": "chain", "size": 100, "samples_ms": [0.9, …], "durability": "process", "start_seconds": 3.1}

`size` is the steps or units of one repetition and `samples_ms` the milliseconds per step or task, one sample for each
repetition after the warm-up. `durability` (power or process) and `start_seconds` may be left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines.base import Case, Engine, Keeps, Measurement, UnavailableError
from engines.noise import Watch

REPOSITORY = Path(__file__).resolve().parents[3]
KEEPS = {"power": Keeps.POWER, "process": Keeps.PROCESS}
USAGE = 2  # the exit code of a command line that is not understood


class PerfError(Exception):
    """`bdw-fed perf` failed, or printed something else than it should."""


class BdwFed(Engine):
    """A federation of our own processes on this machine."""

    def measure(self, case: Case, size: int, repetitions: int, state: Path) -> Measurement:
        """Take what `perf` says, whatever it was asked for; a different size or fewer samples become remarks."""
        program = _program()
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        watch = Watch.of_parent()
        done = subprocess.run(
            [program, "perf", str(case), "--json"],
            cwd=state,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        others = watch.others()
        if done.returncode == USAGE and "no such command" in done.stderr.lower():
            raise UnavailableError("this bdw-fed has no verb `perf` yet")
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip() or "it said nothing"
            raise PerfError(f"`bdw-fed perf {case} --json` ended with {done.returncode}: {said}")
        measurement = _measurement(case, size, repetitions, _last_line(done.stdout))
        return replace(measurement, version=_version(program, environment), others_cpu=others)


def _program() -> str:
    named = os.environ.get("BDW_FED")
    if named:
        return named
    own = REPOSITORY / ".venv" / "bin" / "bdw-fed"
    found = str(own) if own.exists() else shutil.which("bdw-fed")
    if found is None:
        raise UnavailableError("bdw-fed is not installed; run `make setup` in the repository, or set BDW_FED")
    return found


def _version(program: str, environment: dict[str, str]) -> str:
    done = subprocess.run([program, "version"], env=environment, capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return words[-1] if done.returncode == 0 and words else ""


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else ""


def _measurement(case: Case, size: int, repetitions: int, line: str) -> Measurement:
    try:
        said: dict[str, Any] = json.loads(line)
        named = said["case"]
        actual = int(said["size"])
        samples = [float(sample) for sample in said["samples_ms"]]
        keeps = KEEPS[said.get("durability", "process")]
    except (ValueError, TypeError, KeyError) as wrong:
        raise PerfError(
            f"`bdw-fed perf {case} --json` printed {line[:200]!r}: {type(wrong).__name__} {wrong}"
        ) from wrong
    if named != case or not samples:
        raise PerfError(f"`bdw-fed perf {case} --json` answered for case {named!r} with {len(samples)} samples")
    remarks = []
    if actual != size:
        remarks.append(f"of {actual} instead of {size}")
    if len(samples) != repetitions:
        remarks.append(f"{len(samples)} samples instead of {repetitions}")
    return Measurement(
        version="",
        keeps=keeps,
        steps_run_in="warm worker processes",
        size=actual,
        samples_ms=samples,
        start_seconds=said.get("start_seconds"),
        remarks=remarks,
    )
