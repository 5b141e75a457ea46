"""What transfers and tasks took, as measured here: seconds by size, learned from observations that fade. Pure.

    seconds(size) = fixed + size x per_byte

A `Line` fits this to what was observed. Observations count by their relative error, so that units of a kilobyte are
learned beside those of a gigabyte; old ones fade by the half-life below and by the number of newer ones. What was
declared (or is guessed) stands in as a tenth of an observation, and as less the more there are: it decides before the
first one, resolves what sizes alone can't tell, and comes back as all others fade. `Link` gives a transfer only the
time in which no other was counted already, so that its line tells what the link carries, however many share it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SMALL: Final = 100e3  # bytes: a size far below takes what nothing takes, one far above is paid by the byte
_HALF_LIFE: Final = 120.0  # seconds
_WINDOW: Final = 64.0  # observations after which an old one hardly counts
_DOUBT: Final = 0.1  # observations that the declared figures are worth beside none


class Fit(NamedTuple):
    """What holds now: seconds = fixed + size x per_byte; `mean` of a task as they come; observations it rests on."""

    fixed: float
    per_byte: float
    mean: float
    weight: float

    def seconds(self, size: float) -> float:
        """Expected of something of `size` bytes."""
        return self.fixed + size * self.per_byte


class Line:
    """Seconds by size. `fixed` and `per_byte` are what is declared; a mere guess gives way to the first observation."""

    __slots__ = ("_guessed", "_sums", "at", "prior")

    def __init__(self, fixed: float, per_byte: float, *, guessed: bool = False) -> None:
        self.prior = (fixed, per_byte)
        self._guessed = guessed
        # In rates, y = seconds / (size + SMALL) is small_rate * u + large_rate * v, with u + v = 1.
        self._sums = [0.0] * 7  # weight, seconds, uu, uv, vv, uy, vy
        self.at = 0.0  # of the newest observation

    def observe(self, size: float, seconds: float, now: float, weight: float = 1.0) -> None:
        """Something of `size` bytes took so long, on the mean of `weight` such things."""
        scale = size + SMALL
        u, v, y = SMALL / scale, size / scale, seconds / scale
        if self._guessed:  # of what nobody knows, a small thing takes what nothing takes, and a large one by the byte
            self._guessed = False
            self.prior = (y * u / (u * u + v * v) * SMALL, y * v / (u * u + v * v))
        keep = self._kept(now) * max(0.0, 1.0 - weight / _WINDOW)
        fresh = (1.0, seconds, u * u, u * v, v * v, u * y, v * y)
        self._sums = [old * keep + weight * new for old, new in zip(self._sums, fresh, strict=True)]
        self.at = now

    def fit(self, now: float) -> Fit:
        """What is expected now."""
        fixed, per_byte = self.prior
        keep = self._kept(now)
        weight, total, uu, uv, vv, uy, vy = (each * keep for each in self._sums)
        small, large = fixed / SMALL, per_byte
        doubt = _DOUBT / (1.0 + weight) ** 3
        uu += doubt
        vv += doubt
        uy += doubt * small
        vy += doubt * large
        determinant = uu * vv - uv * uv
        small = (uy * vv - vy * uv) / determinant
        large = (vy * uu - uy * uv) / determinant
        if small < 0.0:
            small, large = 0.0, vy / vv
        elif large < 0.0:
            small, large = uy / uu, 0.0
        mean = (total + doubt * (fixed + SMALL * per_byte)) / (weight + doubt)
        return Fit(small * SMALL, large, mean, weight)

    def _kept(self, now: float) -> float:
        return float(0.5 ** (max(0.0, now - self.at) / _HALF_LIFE))


class Link:
    """What comes from another cluster."""

    __slots__ = ("_busy_from", "_busy_to", "line")

    def __init__(self, latency: float, bandwidth: float) -> None:
        self.line = Line(*declared(latency, bandwidth))
        self._busy_from = self._busy_to = float("-inf")

    def arrived(self, size: float, seconds: float, now: float) -> float:
        """A transfer that took so long has ended just now. Returns the seconds that it is charged with."""
        begun = now - seconds
        if begun <= self._busy_to:
            alone = (now - self._busy_to) + max(0.0, self._busy_from - begun)
            self._busy_from = min(self._busy_from, begun)
        else:
            alone, self._busy_from = seconds, begun
        self._busy_to = now
        self.line.observe(size, alone, now)
        return alone


def declared(latency: float, bandwidth: float) -> tuple[float, float]:
    """Fixed seconds and seconds a byte of a transfer over a link: a request and its answer, and the bytes."""
    return 2.0 * latency, 1.0 / max(bandwidth, 1.0)


class Measured:
    """All that was measured here since the process started: by step version, and by the cluster at the other end."""

    def __init__(self) -> None:
        self.steps: dict[str, Line] = {}
        self.links: dict[str, Link] = {}
        self.words: dict[str, Line] = {}  # seconds that a word takes to a cluster
