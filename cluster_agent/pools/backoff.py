"""How long to wait before something that failed is tried again: not at all, then twice as long each time, to a cap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST: Final = 0.2
MOST: Final = 30.0


@dataclass(slots=True)
class Backoff:
    """Failures in a row. They are forgotten after a while without one."""

    failures: int = 0
    until: float = 0.0

    def failed(self, now: float, *, at_once: bool = False) -> None:
        """It failed; `at_once` if the first failure of a row is followed by no wait. What fails together fails once."""
        if self.waits(now):
            return
        if now > self.until + MOST:
            self.failures = 0
        self.failures += 1
        doublings = min(self.failures - 1, 10)
        wait = min(MOST, FIRST * 2.0**doublings)
        self.until = now if at_once and self.failures == 1 else now + wait

    def waits(self, now: float) -> bool:
        """It must not be tried yet."""
        return now < self.until
