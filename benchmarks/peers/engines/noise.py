"""How much of the machine other programs used while an engine was measured: whether its figure is worth keeping.

What the whole machine was busy, less what the processes of this benchmark used. Those are the runner and all below
it. The time of a process that has ended is in its parent's account, so the sum over the tree loses nothing when one
ends (but for daemons that don't look after their children, whose time then counts as others').
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Self

import psutil

SHORTEST = 1.0  # seconds; the system counts in hundredths


@dataclass(frozen=True)
class Watch:
    """The accounts at one moment, in seconds of processor time."""

    root: int
    at: float
    machine: float
    ours: float

    @classmethod
    def of_parent(cls) -> Self:
        """Begin in a process that the runner started."""
        return cls._of(os.getppid())

    @classmethod
    def of_self(cls) -> Self:
        """Begin in the runner."""
        return cls._of(os.getpid())

    @classmethod
    def _of(cls, root: int) -> Self:
        return cls(root, time.monotonic(), _busy(), _used_by_tree(root))

    def others(self) -> float | None:
        """The share of all processors, 0 to 1, that others used since; None if that is too short a time to tell."""
        now = self._of(self.root)
        if now.at - self.at < SHORTEST:
            return None
        used = (now.machine - self.machine) - (now.ours - self.ours)
        return max(0.0, min(1.0, used / ((now.at - self.at) * (psutil.cpu_count() or 1))))


def _busy() -> float:
    times = psutil.cpu_times()._asdict()
    return float(sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))


def _used_by_tree(root: int) -> float:
    total = 0.0
    top = psutil.Process(root)
    for process in [top, *top.children(recursive=True)]:
        try:
            total += sum(process.cpu_times()[:4])  # user, system, and both of children that ended
        except psutil.NoSuchProcess:
            continue
    return total
