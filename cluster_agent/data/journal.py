"""Where a node keeps small units and the results that it has to tell: files that are only appended to.

    put, free, result, acked ──▶ entries in memory ── flush: one write ──▶ <root>/<number>.journal, …
                                                   ── sync: one fdatasync

A file of its own for a unit of a few hundred bytes costs a hundred times what the unit is worth. What is here costs a
share of a write. Contents stay in memory, up to `MEMORY_BYTES`; older ones are read from the file again.

The files are one log, and it is only ever shortened at its head: a free refers to a put before it, so no file can go
before an older one. When more is dead than alive, what the head still has is written again at the end, and the head
goes (see `segments`). So there are never more than twice the live bytes and a constant on disk. A flush that fails has
written nothing and loses nothing: what it was to write is written by the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import ContentChangedError
from cluster_agent.data.replay import Replay
from cluster_agent.data.segment import Acked, Entry, Freed, Put, ResultKey, RunNamed, Segment, Told
from cluster_agent.data.segments import Segments
from cluster_agent.orders.messages import Result
from wire.digests import bytes_digest

SEGMENT_BYTES: Final = 8 << 20
SPARE_BYTES: Final = 16 << 20  # may be dead before anything is written again
MEMORY_BYTES: Final = 256 << 20
_FLUSH_BYTES: Final = 1 << 20
_ENTRY_BYTES: Final = 80  # what a put takes besides its content, about
_RESULT_BYTES: Final = 200


class Journal:
    """The journal in `directory`, read at once. Use from the event loop; `close` it.

    JournalError if it was written by another release.
    """

    def __init__(
        self, directory: Path, *, segment: int = SEGMENT_BYTES, spare: int = SPARE_BYTES, memory: int = MEMORY_BYTES
    ) -> None:
        self._segment_bytes = segment
        self._spare_bytes = spare
        self._memory_bytes = memory
        self._entries: list[Entry] = []  # of the next frame, with the contents that it has
        self._contents: list[bytes] = []
        self._fresh: list[Content] = []
        self._pending = 0
        self._live = 0  # bytes that what is needed takes, about
        self._held = 0  # bytes of contents in memory
        self._results: dict[ResultKey, Segment] = {}
        replay = Replay()
        self.segments = Segments(directory, replay)
        self._sequence = replay.sequence
        for found in self.segments:
            self._results.update(dict.fromkeys(found.results, found))
            self._live += len(found.results) * _RESULT_BYTES
            for content in found.units:
                self._live += content.size + _ENTRY_BYTES
                self._held += content.size
        if self.segments.tail.size >= self._segment_bytes:
            self.segments.extend()
        self._shorten()
        self.segments.drop()

    # ----------------------------------------------------------------------------------------------------- units

    def put(self, key: UnitKey, content: Content, data: bytes) -> None:
        """Take over a content; the index is the caller's. OSError if there is no room, and nothing has happened."""
        if self._pending >= _FLUSH_BYTES:
            self._write()
        self._take(key, content, data)
        if content.data is not None:
            self._held += content.size

    def free(self, content: Content) -> None:
        """The unit of this content is not needed any more."""
        segment = content.segment
        assert segment is not None
        key = segment.units.pop(content)
        tail = self.segments.tail
        run = tail.runs.get(key[:2]) or self._number(key[0], key[1])
        last = self._entries[-1] if self._entries else None
        if type(last) is Freed and last.run == run:
            last.units.append(key.unit)
        else:
            self._entries.append(Freed(run, [key.unit]))
        self._pending += len(key.unit)
        self._live -= content.size + _ENTRY_BYTES
        if content.data is not None:
            self._held -= content.size

    def read(self, content: Content) -> bytes:
        """The bytes of a content. ContentChangedError if the file has other ones by now."""
        if content.data is not None:
            return content.data
        segment = content.segment
        assert segment is not None
        data = segment.read(content.offset, content.size)
        if bytes_digest(data) != content.digest:
            raise ContentChangedError(f"{segment.path} was changed: a unit in it is not what it was")
        return data

    def units(self) -> Iterable[tuple[UnitKey, Content]]:
        """All that is here."""
        for segment in self.segments:
            for content, key in segment.units.items():
                yield key, content

    def unreadable(self, segment: Segment) -> list[Content]:
        """The contents of a file that are nowhere else, and damaged there."""
        found = []
        for content in segment.units:
            try:
                self.read(content)
            except (ContentChangedError, OSError):
                found.append(content)
        return found

    def renew(self, damaged: Segment) -> None:
        """Write all again that is needed of a file, and of those before it, so that they can go. OSError."""
        if self._entries:
            self._write()
        if self.segments.tail is damaged:
            self.segments.extend()
        for segment in list(self.segments):
            self._write_again(segment)
            if segment is damaged:
                break
        self._shorten()

    # --------------------------------------------------------------------------------------------------- results

    def result(self, namespace: str, run: str, result: Result) -> None:
        """Keep a result until it is acknowledged. A result of the same attempt takes its place."""
        self._sequence += 1
        self._keep((namespace, run, result.task, result.attempt), self._sequence, result)

    def acked(self, namespace: str, run: str, tasks: Iterable[tuple[bytes, int]]) -> None:
        """Forget the results of these attempts; unknown ones are ignored."""
        gone = []
        for task, attempt in tasks:
            key = (namespace, run, task, attempt)
            segment = self._results.pop(key, None)
            if segment is not None:
                del segment.results[key]
                gone.append((task, attempt))
        if gone:
            self._entries.append(Acked(self._number(namespace, run), gone))
            self._live -= _RESULT_BYTES * len(gone)

    def results(self) -> list[tuple[str, str, Result]]:
        """Namespace, run and result of all that are not acknowledged, in the order in which they were told."""
        kept = [(*segment.results[key], key) for key, segment in self._results.items()]
        return [(key[0], key[1], result) for _, result, key in sorted(kept, key=lambda each: each[0])]

    def end_run(self, namespace: str, run: str) -> None:
        """Forget all results of a run."""
        self.acked(namespace, run, [key[2:] for key in self._results if key[:2] == (namespace, run)])

    # ------------------------------------------------------------------------------------------------- the files

    def flush(self) -> None:
        """Write all that has happened: it survives this process then. OSError: it is still to be written."""
        if not self._entries:
            return
        self._write()
        self._shorten()

    @property
    def unsynced(self) -> bool:
        """Whether anything is not on the disk yet."""
        return bool(self._entries) or self.segments.tail.unsynced

    def close(self) -> None:
        """Write what is left, and close the files. OSError."""
        try:
            self.flush()
        finally:
            self.segments.close()

    # ---------------------------------------------------------------------------------------------------- inside

    def _number(self, namespace: str, run: str) -> int:
        """The number of a run in the newest segment."""
        runs = self.segments.tail.runs
        number = runs.get((namespace, run))
        if number is None:
            number = runs[namespace, run] = len(runs) + 1
            self._entries.append(RunNamed(number, namespace, run))
        return number

    def _take(self, key: UnitKey, content: Content, data: bytes) -> None:
        """Make a content part of the next frame."""
        segment = self.segments.tail
        run = segment.runs.get(key[:2]) or self._number(key[0], key[1])
        size = content.size
        self._entries.append(Put(run, key.unit, content.digest, size))
        self._contents.append(data)
        self._fresh.append(content)
        content.segment = segment
        segment.units[content] = key
        self._pending += size + _ENTRY_BYTES
        self._live += size + _ENTRY_BYTES

    def _keep(self, key: ResultKey, sequence: int, result: Result) -> None:
        former = self._results.get(key)
        if former is not None:
            del former.results[key]
            self._live -= _RESULT_BYTES
        segment = self._results[key] = self.segments.tail
        segment.results[key] = (sequence, result)
        self._entries.append(Told(self._number(key[0], key[1]), sequence, result))
        self._live += _RESULT_BYTES

    def _write(self) -> None:
        """Write one frame. OSError: it is still to be written."""
        tail = self.segments.tail
        offset = tail.append(self._entries, self._contents)
        for content in self._fresh:
            content.offset = offset
            offset += content.size
        self._entries, self._contents, self._fresh, self._pending = [], [], [], 0
        if tail.size >= self._segment_bytes:
            with contextlib.suppress(OSError):  # then this one grows until there is room for another
                self.segments.extend()

    def _shorten(self) -> None:
        """Delete what is dead at the head, after writing it again if that pays. Right after a write."""
        total = sum(segment.size for segment in self.segments)
        if total > 2 * self._live + self._spare_bytes:
            with contextlib.suppress(OSError):  # the disk is full; what is not moved now is moved later
                if len(self.segments) == 1:
                    self.segments.extend()
                self._write_again(self.segments.head)
        self.segments.behead()
        self._spill()

    def _write_again(self, head: Segment) -> None:
        for content, key in list(head.units.items()):
            if self._pending >= _FLUSH_BYTES:
                self._write()
            data = head.read(content.offset, content.size) if content.data is None else content.data
            del head.units[content]
            self._live -= content.size + _ENTRY_BYTES
            self._take(key, content, data.ljust(content.size, b"\0"))  # a file cut short shows when it is read
        for of, (sequence, result) in list(head.results.items()):
            self._keep(of, sequence, result)
        if self._entries:
            self._write()

    def _spill(self) -> None:
        """Keep the contents of the oldest segments only in their files, once memory is used up."""
        for segment in self.segments:
            if self._held <= self._memory_bytes or segment is self.segments.tail:
                return
            if not segment.spilled:
                segment.spilled = True
                for content in segment.units:
                    if content.data is not None:
                        self._held -= content.size
                        content.data = None
