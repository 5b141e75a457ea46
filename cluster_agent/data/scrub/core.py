"""How fast the scrubber reads, and what next: the pure part of it.

A pass reads all files once, in the order of their places, a piece at a time. It is to take as long as `period`: each
piece is followed by a pause such that what is left would be read in the time that is left. Never faster than `most`
bytes a second, so that a large store takes longer; nor slower than a small part of that, so that a small store is
through early, and the next pass waits for its time. A file counts for a little more than its bytes, which is what it
costs to open it; so many small ones are no storm either.

What comes into the store during a pass is the business of the next. The place reached is kept now and then: after a
restart the pass goes on behind it, with what is stored then.

`handle(event, now)` returns actions; `now` is monotonic seconds. Of each List and each Read there is one answer, and
nothing else is asked meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cluster_agent.data.scrub.messages import (
    Action,
    Event,
    File,
    FileEnded,
    Keep,
    List,
    Listed,
    PieceRead,
    Progress,
    Read,
    Tick,
    WakeAt,
)

PIECE_BYTES: Final = 1 << 20
FILE_BYTES: Final = 32 << 10  # that a file counts for beside its own
SLOWEST: Final = 64  # such a part of `most` is the least that a pass reads a second
KEEP_SECONDS: Final = 60.0


class ScrubCore:
    """The state of one node's scrubber. `period` is seconds, more than 0; `most` bytes a second."""

    def __init__(self, period: float, most: float, progress: Progress, now: float) -> None:
        self._period = period
        self._most = most
        self._began = now - progress.seconds
        self._through = progress.through
        self._after = progress.after
        self._read = progress.read
        self._damaged = progress.damaged
        self._ended = now - progress.last if progress.last >= 0 else None
        self._files: Sequence[File] | None = None  # None: they are to be asked for
        self._left = 0  # what the files from the present one on count for
        self._at = 0
        self._offset = 0
        self._asked = False  # an answer is to come
        self._due = now
        self._kept = now

    def progress(self, now: float) -> Progress:
        """How far it is."""
        last = now - self._ended if self._ended is not None else -1.0
        return Progress(now - self._began, self._after, self._through, self._read, self._damaged, last)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event in; what is to be done now."""
        actions: list[Action] = []
        match event:
            case Listed():
                self._asked = False
                self._files, self._offset = event.files, 0
                self._at = sum(file.place <= self._after for file in event.files)
                self._left = sum(file.size + FILE_BYTES for file in event.files[self._at :])
            case PieceRead():
                self._asked = False
                self._count(event.size)
                self._offset += event.size
                self._pause(event.size, now)
            case FileEnded():
                actions += self._end_file(event, now)
            case Tick():
                pass
        return [*actions, *self._go_on(now)]

    def _end_file(self, event: FileEnded, now: float) -> list[Action]:
        assert self._files is not None
        self._asked = False
        file = self._files[self._at]
        self._read += event.size
        self._left -= file.size - self._offset + FILE_BYTES
        self._at, self._offset = self._at + 1, 0
        self._after = file.place
        if event.size:
            self._pause(event.size + FILE_BYTES, now)
        if event.damaged:
            self._damaged += 1
        return self._keep(now) if event.damaged or now >= self._kept + KEEP_SECONDS else []

    def _count(self, size: int) -> None:
        self._read += size
        self._left -= size

    def _pause(self, size: int, now: float) -> None:
        time_left = self._period - (now - self._began)
        wanted = self._left / time_left if time_left > 0 else self._most
        rate = min(self._most, max(wanted, self._most / SLOWEST))
        self._due = now + size / rate

    def _go_on(self, now: float) -> list[Action]:
        if self._asked:
            return []
        if self._through:
            due = self._began + self._period
            if now < due:
                return [WakeAt(due)]
            self._began, self._after, self._through, self._read = now, b"", False, 0
            self._files = None
        if now < self._due:
            return [WakeAt(self._due)]
        if self._files is None:
            self._asked = True
            return [List()]
        if self._at < len(self._files):
            self._asked = True
            return [Read(self._at, self._offset, PIECE_BYTES)]
        self._through, self._ended, self._files = True, now, None
        return [*self._keep(now), *self._go_on(now)]

    def _keep(self, now: float) -> list[Action]:
        self._kept = now
        return [Keep(self.progress(now))]
