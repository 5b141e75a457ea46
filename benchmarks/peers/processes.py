"""Runs one program to its end or its deadline, and ends everything that it started.

Engines start daemons in sessions of their own, which a signal to the child or to its group does not reach. On Linux
this process becomes the one to which orphans are given, so that all descendants stay below it and can be found.
Elsewhere an orphan is missed.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
GRACE = 3.0  # seconds that what is left has to end by itself, and again after SIGTERM


@dataclass(frozen=True)
class Ended:
    """How a program ended. code: None where the deadline passed. left_behind: names of the processes that outlived it
    and were ended here."""

    code: int | None
    left_behind: list[str]


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path, timeout: float) -> Ended:
    """Run `command` with its output in `log`; when this returns or raises, nothing that it started is running."""
    code: int | None = None
    left: list[str] = []
    with log.open("wb") as output:
        program = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # an interrupt from the keyboard is for us; we end it in order
        )
        try:
            code = program.wait(timeout)
        except subprocess.TimeoutExpired:
            program.terminate()
        finally:
            left = end_descendants()
    return Ended(code, left)


def end_descendants() -> list[str]:
    """Wait a little for all descendants, then end them; returns the names of those that had to be told."""
    told: dict[int, str] = {}
    psutil.wait_procs(psutil.Process().children(recursive=True), timeout=GRACE)
    for force in (False, True, True):  # what one ends may orphan or start another
        remaining = psutil.Process().children(recursive=True)
        for process in remaining:
            try:
                told.setdefault(process.pid, process.name())
                process.kill() if force else process.terminate()
            except psutil.NoSuchProcess:
                told.pop(process.pid, None)
        psutil.wait_procs(remaining, timeout=GRACE)
    return sorted(told.values())
