"""The splitting itself: reads a file through and yields its parts as soon as they exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.records.archive import TRAILER, Members, aligned
from cluster_agent.data.records.blocks import Block, blocks, compression, length
from cluster_agent.data.records.ends import Ends
from cluster_agent.data.records.formats import scanner
from cluster_agent.data.records.scanners import Scanner
from cluster_agent.data.split.base import Part, SplitSpec
from cluster_agent.data.split.cutting import ByCount, ByRecords, BySize, Cutter
from cluster_agent.data.split.rowgroups import divide
from cluster_agent.data.split.unpacking import unpack
from cluster_agent.data.split.writing import Writer

_AT_ONCE = 256  # small parts in one list
_MOST_HEADER = 16 << 20  # bytes; a longer first record is no header


def make_parts(
    source: Path, spec: SplitSpec, folder: Callable[[], Path], stopped: Callable[[], bool], small: int
) -> Iterator[list[Part]]:
    """Make all parts: those of up to `small` bytes in memory, others as files in `folder()`; lists of them, in order.

    Blocks; `stopped` is asked before each block and ends it early. WrongContentError where the file is not of its
    format, ContentChangedError if it becomes shorter.
    """
    compressed = "" if spec.format == "bytes" else compression(source)
    if spec.format == "parquet":
        if compressed:
            raise WrongContentError(
                f"at byte 0: the Parquet file is compressed as a whole ({compressed}), and can be read from its end "
                "only; decompress it: Parquet compresses its pages itself"
            )
        yield from divide(source, spec, folder, stopped, small)
        return
    writer = Writer(folder, small)
    found = blocks(source, compressed)
    if spec.format == "tar":
        found = aligned(found)
    try:
        if spec.members:
            yield from unpack(found, writer, stopped)
            return
        reading = _Reading(spec, writer, scanner(spec.format))
        end = length(source, compressed, stopped) if spec.count else 0
        for block in found:
            if stopped():
                return
            reading.take(block, end)
            yield from _ready(writer)
        reading.end()
        yield from _ready(writer)
    finally:
        writer.close()


def _ready(writer: Writer) -> Iterator[list[Part]]:
    """What was made, in lists that are not too long."""
    made, writer.made = writer.made, []
    for start in range(0, len(made), _AT_ONCE):
        yield made[start : start + _AT_ONCE]


class _Reading:
    """A file that is read block by block: first its header, then what is cut."""

    def __init__(self, spec: SplitSpec, writer: Writer, scanner_of_it: Scanner) -> None:
        self._spec = spec
        self._writer = writer
        self._scanner = scanner_of_it
        self._header = bytearray()
        self._cutter: Cutter | None = None
        self._stop = 0

    def take(self, block: Block, end: int) -> None:
        """The next block; `end` is the file's, where parts are counted."""
        ends = self._scanner.ends(block)
        stop = block.stop if self._scanner.ended is None else min(block.stop, self._scanner.ended)
        view = memoryview(block.data)
        at = block.base
        if self._cutter is None:
            cut = self._header_ends(ends)
            self._header += view[: (stop if cut is None else cut) - block.base]
            if cut is None:
                if len(self._header) > _MOST_HEADER:
                    raise WrongContentError(
                        f"at byte 0: the first record has more than {_MOST_HEADER >> 20} MiB, so it is no header; "
                        "leave out header: true, or say another format"
                    )
                return
            at = cut
            self._begin(cut, end)
        assert self._cutter is not None
        for cut in self._cutter.cuts(ends):
            if cut < at:
                self._writer.end_at_mark()
            else:
                self._writer.whole(view[at - block.base : cut - block.base])
                at = cut
        fit = self._cutter.fit
        if fit is not None and fit > at:
            self._writer.add(view[at - block.base : fit - block.base])
            at = fit
        if fit == at:
            self._writer.mark()
        if at < stop:
            self._writer.add(view[at - block.base : stop - block.base])
        self._stop = stop

    def end(self) -> None:
        """There are no more blocks."""
        end = self._scanner.close(self._stop)
        if self._cutter is None:
            return  # nothing but a header
        for cut in self._cutter.last(end):
            if cut < end:
                self._writer.end_at_mark()
            else:
                self._writer.end()

    def _header_ends(self, ends: Ends) -> int | None:
        """Where the cutting begins: behind the first record, if that is a header, or behind what an archive has.

        None if that is not in this block.
        """
        if isinstance(self._scanner, Members):
            return self._scanner.header if self._scanner.header < ends.stop else None
        return ends.first(1) if self._spec.header else 0

    def _begin(self, start: int, end: int) -> None:
        self._writer.header = bytes(self._header)
        if self._spec.format == "tar":
            self._writer.trailer = TRAILER
        if self._spec.size:
            own = len(self._writer.header) + len(self._writer.trailer)
            self._cutter = BySize(start, max(1, self._spec.size - own))
        elif self._spec.at_once:
            self._cutter = ByRecords(start, self._spec.at_once)
        else:
            self._cutter = ByCount(start, self._spec.count, end)
