"""Whom a test may kill or stop: processes of a federation by their kind, found through the kernel, never by a name."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from federation import Federation

KINDS = ("worker", "node", "agent", "hub", "etcd")


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that live."""
    try:
        return [
            int(word)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    """The processes that `pid` has started, and theirs."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def pids(federation: Federation, kind: str) -> list[int]:
    """The processes of one kind that live just now; workers are what nodes have started, the spawner among them."""
    supervisor, processes = federation.supervised()
    living = set(children(supervisor))  # the number of one that has ended may be somebody else's by now
    role = "node" if kind == "worker" else kind
    found = [process["pid"] for process in processes if process["role"] == role and process["pid"] in living]
    return [each for pid in found for each in descendants(pid)] if kind == "worker" else found


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """The process neither does nor says anything meanwhile, as if it were cut off."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def kill_one(federation: Federation, chance: random.Random, kind: str) -> bool:
    """Kill a process of this kind, if there is one."""
    candidates = sorted(pids(federation, kind))
    if not candidates:
        return False
    try:
        os.kill(chance.choice(candidates), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
