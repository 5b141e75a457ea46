"""Cuts a file of lines into parts: the built-in step between a dataset and a step that wants smaller units.

A line ends with a newline byte, so carriage returns stay with their line and no UTF-8 character is ever cut. A part
holds whole lines: as many as its size allows and at least one, or so many lines, or its share of a given number of
parts. Where the first line is a header it leads every part. Input of no lines, or of a header alone, makes no parts.
The parts' bodies, put together, are the input's.

`ranges` decides where to cut, reading only what it must; `write_parts` copies, a block at a time, and yields each part
as soon as it exists. The same input and split always make the same parts, so a second attempt makes the same units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wire.digests import ContentHasher

BLOCK_BYTES = 1 << 20
_NEWLINE = b"\n"


@dataclass(frozen=True)
class SplitSpec:
    """Exactly one of `size` (bytes a part, header included), `lines` and `count` (parts a file) is not zero."""

    size: int = 0
    lines: int = 0
    count: int = 0
    header: bool = False

    def __post_init__(self) -> None:
        given = [value for value in (self.size, self.lines, self.count) if value]
        if len(given) != 1 or given[0] < 0:
            raise ValueError("a split has exactly one of size, lines and count, and it is positive")


@dataclass(frozen=True)
class Part:
    """A part that has been written: its place in the order, its file, bytes and BLAKE3 digest."""

    index: int
    path: Path
    size: int
    digest: bytes


def ranges(file: BinaryIO, spec: SplitSpec) -> Iterator[tuple[int, int]]:
    """The (start, end) of each part's body, in order; the header is the bytes before the first start."""
    end = file.seek(0, 2)
    header = _after_newline(file, 0, end) if spec.header else 0
    if spec.size:
        yield from _by_size(file, header, end, max(1, spec.size - header))
    elif spec.lines:
        yield from _by_lines(file, header, end, spec.lines)
    else:
        yield from _by_count(file, header, end, spec.count)


def write_parts(
    source: Path, spec: SplitSpec, name: Callable[[int], Path], stopped: Callable[[], bool]
) -> Iterator[Part]:
    """Write each part to `name(index)`. Blocks; `stopped` is asked before each block and ends it early."""
    with source.open("rb") as file, source.open("rb") as cutter:
        header = b""
        for index, (start, end) in enumerate(ranges(cutter, spec)):
            if index == 0 and start:
                header = file.read(start)
            hasher = ContentHasher()
            path = name(index)
            file.seek(start)
            left = end - start
            with path.open("wb", buffering=0) as part:
                part.write(header)
                hasher.update(header)
                while left:
                    block = file.read(min(left, BLOCK_BYTES))
                    if stopped() or not block:
                        return
                    part.write(block)
                    hasher.update(block)
                    left -= len(block)
            yield Part(index, path, len(header) + end - start, hasher.digest())


def _by_size(file: BinaryIO, start: int, end: int, budget: int) -> Iterator[tuple[int, int]]:
    while start < end:
        cut = end if end - start <= budget else _last_cut(file, start, start + budget)
        if cut is None:  # one line alone is longer
            cut = _after_newline(file, start + budget, end)
        yield start, cut
        start = cut


def _by_lines(file: BinaryIO, start: int, end: int, lines: int) -> Iterator[tuple[int, int]]:
    cut, wanted = start, lines
    for position, block in _blocks(file, start, end):
        here = 0
        while (found := block.count(_NEWLINE, here)) >= wanted:
            here = _nth_newline(block, here, wanted)
            cut, wanted = position + here, lines
            yield start, cut
            start = cut
        wanted -= found
    if start < end:
        yield start, end


def _by_count(file: BinaryIO, start: int, end: int, count: int) -> Iterator[tuple[int, int]]:
    body, first = end - start, start
    for share in range(1, count + 1):
        goal = first + body * share // count
        if goal <= start:
            continue
        cut = _after_newline(file, goal - 1, end)
        yield start, cut
        start = cut


def _blocks(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    while start < end:
        file.seek(start)
        block = file.read(min(BLOCK_BYTES, end - start))
        if not block:
            return
        yield start, block
        start += len(block)


def _after_newline(file: BinaryIO, start: int, end: int) -> int:
    """The offset after the first newline at or after `start`; `end` if there is none."""
    for position, block in _blocks(file, start, end):
        found = block.find(_NEWLINE)
        if found >= 0:
            return position + found + 1
    return end


def _last_cut(file: BinaryIO, start: int, end: int) -> int | None:
    """The offset after the last newline in [start, end); None if there is none."""
    while end > start:
        begin = max(start, end - BLOCK_BYTES)
        file.seek(begin)
        found = file.read(end - begin).rfind(_NEWLINE)
        if found >= 0:
            return begin + found + 1
        end = begin
    return None


def _nth_newline(block: bytes, start: int, wanted: int) -> int:
    """The offset after the `wanted`-th newline from `start`; there are so many."""
    end = len(block)
    while end - start > 1:
        middle = (start + end) // 2
        before = block.count(_NEWLINE, start, middle)
        if before >= wanted:
            end = middle
        else:
            start, wanted = middle, wanted - before
    return end
