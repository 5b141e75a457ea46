"""How long to wait before a request is tried again, without a clock and without chance.
 The server's own word (`Retry-After`) is kept to, and never undercut; without it the wait is drawn from nothing to a
bound that doubles with each failure in a row, so that a thousand agents don't come back at once. Who waits draws:
chance is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST: Final = 0.1
MOST: Final = 30.0
LONGEST_ASKED: Final = 300.0  # a server that asks for more is mistaken, or not one


@dataclass(frozen=True, slots=True)
class Delay:
    """A wait of `least` to `most` seconds."""

    least: float
    most: float

    def drawn(self, chance: float) -> float:
        """The wait itself; `chance` is uniform from 0 to 1."""
        return self.least + (self.most - self.least) * chance


def delay(failures: int, retry_after: float | None = None) -> Delay:
    """The wait after so many failures in a row, one or more. What the server asks for is spread by up to a tenth."""
    bound = min(MOST, FIRST * 2.0 ** min(failures - 1, 32))
    if retry_after is not None and retry_after > 0:
        least = min(retry_after, LONGEST_ASKED)
        return Delay(least, least + max(least * 0.1, FIRST))
    return Delay(0.0, bound)


def retry_after(header: str | None) -> float | None:
    """Seconds of the header, which the API server writes as a whole number; another spelling is passed over."""
    if header is None or not header.strip().isascii() or not header.strip().isdigit():
        return None
    return min(float(header.strip()), LONGEST_ASKED)
