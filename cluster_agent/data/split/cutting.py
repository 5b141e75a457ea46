"""Where parts end: each class goes through the ends of records, block by block, and says which of them it takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from cluster_agent.data.records.ends import Ends


class Cutter(ABC):
    """Cuts what stands between `start` and the file's end.

    `fit` is an end that may be decided for later, when its block has passed: the last one that a part could have.
    """

    def __init__(self, start: int) -> None:
        self.start = start  # of the part that is open
        self.fit: int | None = None

    @abstractmethod
    def cuts(self, ends: Ends) -> Iterator[int]:
        """The ends of parts that the next block decides, in order; the first may be `fit`."""

    def last(self, end: int) -> Iterator[int]:
        """The ends of the parts that are left: there is no more behind `end`."""
        if self.start < end:
            self.start = end
            yield end


class BySize(Cutter):
    """As many records as `size` bytes hold, and at least one."""

    def __init__(self, start: int, size: int) -> None:
        super().__init__(start)
        self._size = size

    def cuts(self, ends: Ends) -> Iterator[int]:
        """See Cutter."""
        while (limit := self.start + self._size) < ends.stop:
            cut = ends.last(limit)
            if cut is None or cut <= self.start:
                cut = self.fit
            if cut is None:  # one record alone is larger
                cut = ends.first(max(limit, ends.base))
                if cut is None:
                    return
            self.start, self.fit = cut, None
            yield cut
        found = ends.last(ends.stop)
        if found is not None and found > self.start:
            self.fit = found

    def last(self, end: int) -> Iterator[int]:
        """See Cutter."""
        if end - self.start > self._size and self.fit is not None and self.fit < end:
            self.start = self.fit
            yield self.fit
        yield from super().last(end)


class ByRecords(Cutter):
    """So many records."""

    def __init__(self, start: int, records: int) -> None:
        super().__init__(start)
        self._records = records
        self._wanted = records

    def cuts(self, ends: Ends) -> Iterator[int]:
        """See Cutter."""
        here = max(self.start, ends.base)
        while True:
            cut, passed = ends.nth(here, self._wanted)
            self._wanted -= passed
            if cut is None:
                return
            self.start = here = cut
            self._wanted = self._records
            yield cut


class ByCount(Cutter):
    """So many parts of about one size, of all bytes up to `end`. Fewer if there are fewer records."""

    def __init__(self, start: int, count: int, end: int) -> None:
        super().__init__(start)
        self._first = start
        self._body = max(0, end - start)
        self._count = count
        self._share = 1

    def cuts(self, ends: Ends) -> Iterator[int]:
        """See Cutter."""
        while self._share < self._count:
            goal = self._first + self._body * self._share // self._count
            if goal > self.start:
                if goal > ends.stop:
                    return
                cut = ends.first(max(goal, ends.base))
                if cut is None:
                    return
                self.start = cut
                yield cut
            self._share += 1
