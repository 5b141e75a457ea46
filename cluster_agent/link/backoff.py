"""How long to wait before connecting again: full jitter, so that a thousand agents don't come back at once."""

from __future__ import annotations

import asyncio
from secrets import SystemRandom

_random = SystemRandom()


class Backoff:
    """Each wait is drawn from 0 to a bound, which doubles from `first` to `most` seconds until `reset`."""

    def __init__(self, first: float = 0.1, most: float = 10.0) -> None:
        self._first = first
        self._most = most
        self._bound = first

    def reset(self) -> None:
        """An attempt succeeded."""
        self._bound = self._first

    def next(self) -> float:
        """Seconds to wait now."""
        seconds = _random.uniform(0.0, self._bound)
        self._bound = min(2 * self._bound, self._most)
        return seconds

    async def wait(self) -> None:
        """Wait so long."""
        await asyncio.sleep(self.next())
