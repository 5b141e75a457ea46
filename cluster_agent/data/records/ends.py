"""Where records end within one block, in the three questions that cutting asks; each class answers them in its way.

Offsets are of the file. An end is the offset behind a record, so it may be the block's `stop` but not its `base`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

_FEW = 32  # ends that are sought one by one; more are counted and then found by halves
_WINDOW = 256  # bytes of bits that are looked at together


class Ends(ABC):
    """The ends of records in a block that begins at `base` and ends before `stop`."""

    def __init__(self, base: int, stop: int) -> None:
        self.base = base
        self.stop = stop

    @abstractmethod
    def last(self, limit: int) -> int | None:
        """The last end at or before `limit`."""

    @abstractmethod
    def first(self, goal: int) -> int | None:
        """The first end at or after `goal`."""

    @abstractmethod
    def nth(self, start: int, wanted: int) -> tuple[int | None, int]:
        """The `wanted`-th end after `start`, or None; and how many were passed till there."""


class Marked(Ends):
    """A record ends behind each `mark` in `text`, which is as long as the block: its bytes, or ones made of them."""

    def __init__(self, base: int, stop: int, text: bytes | bytearray, mark: bytes) -> None:
        super().__init__(base, stop)
        self._text = text
        self._mark = mark

    def last(self, limit: int) -> int | None:
        """See Ends."""
        found = self._text.rfind(self._mark, 0, max(0, min(limit, self.stop) - self.base))
        return None if found < 0 else self.base + found + 1

    def first(self, goal: int) -> int | None:
        """See Ends."""
        found = self._text.find(self._mark, max(0, goal - 1 - self.base), self.stop - self.base)
        return None if found < 0 else self.base + found + 1

    def nth(self, start: int, wanted: int) -> tuple[int | None, int]:
        """See Ends."""
        text, mark, here, end = self._text, self._mark, start - self.base, self.stop - self.base
        if wanted > _FEW:
            found = text.count(mark, here, end)
            return (None, found) if found < wanted else (self.base + self._by_halves(here, wanted), wanted)
        for passed in range(wanted):
            here = text.find(mark, here, end) + 1
            if not here:
                return None, passed
        return self.base + here, wanted

    def _by_halves(self, start: int, wanted: int) -> int:
        """The offset in the block behind the `wanted`-th mark from `start`; there are so many."""
        end = self.stop - self.base
        while end - start > 1:
            middle = (start + end) // 2
            before = self._text.count(self._mark, start, middle)
            if before >= wanted:
                end = middle
            else:
                start, wanted = middle, wanted - before
        return end


class Packed(Ends):
    """A record ends behind each byte of the block whose bit is set in `bits`, the first in the lowest."""

    def __init__(self, base: int, stop: int, bits: bytes, unpacked: Callable[[], bytes]) -> None:
        """`unpacked`: the same as a byte for each, 0 or 1; made where ends are counted."""
        super().__init__(base, stop)
        self._bits = bits
        self._unpacked = unpacked
        self._marked: Marked | None = None

    def last(self, limit: int) -> int | None:
        """See Ends."""
        end = min(limit, self.stop) - self.base
        while end > 0:
            begin = max(0, (end + 7) // 8 - _WINDOW)
            window = int.from_bytes(self._bits[begin : (end + 7) // 8], "little") & ((1 << (end - 8 * begin)) - 1)
            if window:
                return self.base + 8 * begin + window.bit_length()
            end = 8 * begin
        return None

    def first(self, goal: int) -> int | None:
        """See Ends."""
        start = max(0, goal - 1 - self.base)
        while start < self.stop - self.base:
            begin = start // 8
            window = int.from_bytes(self._bits[begin : begin + _WINDOW], "little") >> (start - 8 * begin)
            if window:
                return self.base + start + (window & -window).bit_length()
            start = 8 * (begin + _WINDOW)
        return None

    def nth(self, start: int, wanted: int) -> tuple[int | None, int]:
        """See Ends."""
        if self._marked is None:
            self._marked = Marked(self.base, self.stop, self._unpacked(), b"\x01")
        return self._marked.nth(start, wanted)


class Listed(Ends):
    """The ends are few, and known."""

    def __init__(self, base: int, stop: int, ends: Sequence[int]) -> None:
        super().__init__(base, stop)
        self._ends = ends

    def last(self, limit: int) -> int | None:
        """See Ends."""
        at = bisect_right(self._ends, limit)
        return self._ends[at - 1] if at else None

    def first(self, goal: int) -> int | None:
        """See Ends."""
        at = bisect_left(self._ends, goal)
        return self._ends[at] if at < len(self._ends) else None

    def nth(self, start: int, wanted: int) -> tuple[int | None, int]:
        """See Ends."""
        at = bisect_right(self._ends, start) + wanted - 1
        if at < len(self._ends):
            return self._ends[at], wanted
        return None, wanted - 1 - (at - len(self._ends))


class Anywhere(Ends):
    """Each byte is a record."""

    def last(self, limit: int) -> int | None:
        """See Ends."""
        return min(limit, self.stop) if limit > self.base else None

    def first(self, goal: int) -> int | None:
        """See Ends."""
        return max(goal, self.base + 1) if goal <= self.stop else None

    def nth(self, start: int, wanted: int) -> tuple[int | None, int]:
        """See Ends."""
        left = self.stop - start
        return (start + wanted, wanted) if wanted <= left else (None, left)
