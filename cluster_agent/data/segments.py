"""The files of a journal, as one log: written at its tail, shortened at its head, and synced together.

    <root>/<number>.journal, …      head … tail
    a head of which nothing is needed ─▶ doomed ─▶ deleted, once what was written again is as safe as it was

What a crash tears is cut off at the next start, so that what is found is what was written up to some flush.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from cluster_agent.data.replay import Replay
from cluster_agent.data.segment import SUFFIX, Segment


class Segments:
    """The segments in `directory`, which `replay` reads at once; there is at least one. `close` them.

    JournalError if they were written by another release.
    """

    def __init__(self, directory: Path, replay: Replay) -> None:
        self._directory = directory
        self._doomed: list[Segment] = []
        self._segments: deque[Segment] = deque()
        self._new_file = True
        directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            segment = Segment(path)
            if self._segments and (replay.torn or segment.number != self.tail.number + 1):
                segment.remove()  # it is behind the first tear
                continue
            replay.read(segment)
            self._segments.append(segment)
        if not self._segments:
            self._begin(1)

    # ------------------------------------------------------------------------------------------------- questions

    def __iter__(self) -> Iterator[Segment]:
        """The oldest first."""
        return iter(self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def head(self) -> Segment:
        """The oldest."""
        return self._segments[0]

    @property
    def tail(self) -> Segment:
        """The one that is written to."""
        return self._segments[-1]

    @property
    def file_bytes(self) -> int:
        """Bytes that they take on the disk."""
        return sum(segment.size for segment in (*self._doomed, *self._segments))

    # --------------------------------------------------------------------------------------------------- changes

    def extend(self) -> None:
        """What comes goes into another file. OSError."""
        self._begin(self.tail.number + 1)

    def behead(self) -> None:
        """Heads that nobody needs anything of are to go."""
        while len(self._segments) > 1 and not self.head.units and not self.head.results:
            self._doomed.append(self._segments.popleft())

    def drop(self) -> None:
        """Delete what is to go, where this need not survive a loss of power."""
        doomed, self._doomed = self._doomed, []
        for segment in doomed:
            segment.remove()

    def begin_sync(self) -> tuple[list[int], list[Segment]]:
        """Descriptors to sync and to close, and what `end_sync` takes; after a flush."""
        files = [segment.descriptor() for segment in self._segments if segment.unsynced]
        if self._new_file and files:
            files.append(os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC))
            self._new_file = False
        for segment in self._segments:
            segment.unsynced = False
        doomed, self._doomed = self._doomed, []
        return files, doomed

    def end_sync(self, doomed: list[Segment], synced: bool) -> None:
        """The sync that began with `doomed` is over."""
        if synced:
            for segment in doomed:
                segment.remove()
            return
        self._doomed = doomed + self._doomed
        self._new_file = True
        for segment in self._segments:
            segment.unsynced = True

    def close(self) -> None:
        """Close the files."""
        for segment in (*self._doomed, *self._segments):
            segment.close()

    def _begin(self, number: int) -> None:
        self._segments.append(Segment(self._directory / f"{number:016x}{SUFFIX}"))
        self._new_file = True
