"""What a federation's daemons hold: open files, processes that they have started, files in stores and directories.

Taken before and after, it shows a leak of any of them. Workers that are idle and connections between runs come and go,
so whoever compares waits until nothing more is held than before.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path

from federation import Federation
from killing import descendants

ONCE = 24  # connections that a daemon which was started again opens once and keeps
PATIENCE = 40.0  # workers that were started on demand are kept for a while
FREED = 120.0  # clusters that were cut off from each other have to find each other first


def held(federation: Federation) -> Counter[str]:
    """How much of each kind each daemon holds just now."""
    found: Counter[str] = Counter()
    for process in federation.supervised()[1]:
        name, pid = process["name"], process["pid"]
        found[f"{name}: open files"] = len(_entries(Path(f"/proc/{pid}/fd")))
        found[f"{name}: processes"] = len(descendants(pid))
    return found + stored(federation)


def stored(federation: Federation) -> Counter[str]:
    """How many files each node has just now."""
    found: Counter[str] = Counter()
    for node in federation.state.glob("node-*"):
        for place in ("units", "content", "partial"):
            found[f"{node.name}: files in {place}"] = _files(node / "store" / place)
        found[f"{node.name}: tasks' files"] = _files(node / "tasks")
    return found


def _files(directory: Path) -> int:
    """Files below it; what vanishes meanwhile is none, nor are the directories kept for tasks to come."""
    return sum(len(files) for place, _, files in os.walk(directory) if ".spare" not in Path(place).parts)


def _entries(directory: Path) -> list[str]:
    try:
        return [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []


def await_nothing_more(federation: Federation, before: Counter[str]) -> None:
    """Until nothing more is held than `before`; AssertionError that says what is."""
    deadline = time.monotonic() + PATIENCE
    while more := {
        what: (before[what], count)
        for what, count in held(federation).items()
        if count > before[what] + (ONCE if what.endswith("open files") else 0)
    }:
        assert time.monotonic() < deadline, f"left over (before, after): {more}"
        threading.Event().wait(0.3)


def whole(found: Counter[str]) -> Counter[str]:
    return Counter({what: count for what, count in found.items() if count and not what.endswith("partial")})


def await_stored(federation: Federation, wanted: Counter[str]) -> None:
    """Until nodes have just these files, and no others; AssertionError that says what they have.

    Beside them there may be parts of units: the next life of a daemon keeps them for a while.
    """
    deadline = time.monotonic() + FREED
    while (found := whole(stored(federation))) != wanted:
        assert time.monotonic() < deadline, f"files of nodes: {found}, and not {wanted}"
        threading.Event().wait(0.3)
