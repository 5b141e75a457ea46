"""A figure that is measured again and again: its mean and how far single ones lie from it, the newest counting most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NEWEST: Final = 0.125  # what one more measurement counts
_FIRST_SPREAD: Final = 0.25  # of the first one, so that a second one surprises nobody


@dataclass(slots=True)
class Measured:
    """Seconds, mostly. `mean` is the prior until `known`."""

    mean: float
    deviation: float = 0.0
    known: bool = False

    def add(self, value: float, count: int = 1) -> None:
        """`count` measurements of that mean value."""
        if not self.known:
            self.known = True
            self.mean = value
            self.deviation = value * _FIRST_SPREAD
            return
        share = 1.0 - (1.0 - _NEWEST) ** count
        self.deviation += share * (abs(value - self.mean) - self.deviation)
        self.mean += share * (value - self.mean)

    @property
    def high(self) -> float:
        """What few measurements exceed."""
        return self.mean + 2.0 * self.deviation
