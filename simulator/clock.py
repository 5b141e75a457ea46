"""Virtual time: what is to happen, in order, as fast as it can be worked off."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Clock:
    """`now` is seconds since the beginning. What is due at once happens in the order in which it was asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Let it happen then."""
        heapq.heappush(self._due, (max(when, self.now), next(self._count), what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Let it happen so many seconds from now."""
        self.at(self.now + seconds, what)

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Go on until then, or until `done`."""
        while not done():
            if not self._due or self._due[0][0] > until:
                self.now = max(self.now, until)
                return
            self.now, _, what = heapq.heappop(self._due)
            what()
