"""The workers of a simulated node: they take a while to start, stay warm, and are as many as the coordinator says.

A node starts one by itself where a task waits and the step has none, as the real one does; a start that takes no time
leaves all workers warm from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.clock import Clock


@dataclass
class _Pool:
    wanted: int = 0
    starting: int = 0
    idle: int = 0
    busy: int = 0

    @property
    def all(self) -> int:
        return self.starting + self.idle + self.busy


class Workers:
    """By definition. `told` hears of each change: definition, starting, idle, busy, seconds of a start."""

    def __init__(
        self,
        clock: Clock,
        start_seconds: float,
        told: Callable[[str, int, int, int, float], None],
        ready: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._start_seconds = start_seconds
        self._told = told
        self._ready = ready
        self._pools: dict[str, _Pool] = {}

    def size(self, definition: str, workers: int) -> None:
        """So many are kept ready."""
        if not self._start_seconds:
            return
        pool = self._pools.setdefault(definition, _Pool())
        pool.wanted = workers
        for _ in range(workers - pool.all):
            self._start(definition, pool)
        pool.idle -= max(0, min(pool.idle, pool.all - workers))
        self._tell(definition, pool)

    def take(self, definition: str) -> bool:
        """Whether a worker takes a task now; if there is none at all, one is started."""
        if not self._start_seconds:
            return True
        pool = self._pools.setdefault(definition, _Pool())
        if pool.idle:
            pool.idle -= 1
            pool.busy += 1
            self._tell(definition, pool)
            return True
        if not pool.all:
            self._start(definition, pool)
            self._tell(definition, pool)
        return False

    def leave(self, definition: str) -> None:
        """A task has left its worker."""
        if not self._start_seconds:
            return
        pool = self._pools[definition]
        pool.busy -= 1
        pool.idle += pool.all < max(1, pool.wanted)
        self._tell(definition, pool)

    def _start(self, definition: str, pool: _Pool) -> None:
        pool.starting += 1
        self._clock.after(self._start_seconds, lambda: self._started(definition, pool))

    def _started(self, definition: str, pool: _Pool) -> None:
        pool.starting -= 1
        pool.idle += 1
        self._tell(definition, pool, self._start_seconds)
        self._ready()

    def _tell(self, definition: str, pool: _Pool, seconds: float = 0.0) -> None:
        self._told(definition, pool.starting, pool.idle, pool.busy, seconds)
