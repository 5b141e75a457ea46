"""Cuts a file of lines into parts: the built-in step between a dataset and a step that wants smaller units.

A line ends with a newline byte, so carriage returns stay with their line and no UTF-8 character is ever cut. A part
holds whole lines: as many as its size allows and at least one, or so many lines, or its share of a given number of
parts. Where the first line is a header it leads every part. Input of no lines, or of a header alone, makes no parts.
The parts' bodies, put together, are the input's.

`ranges` decides where to cut, reading only what it must. `make_parts` makes the parts and yields them as soon as they
exist: small ones in memory, many at a time, large ones as files, copied a block at a time, with the digest made while
the block is at hand. The same input and split always make the same parts, so a second attempt makes the same units.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from cluster_agent.data.errors import ContentChangedError
from wire.digests import ContentHasher, bytes_digest

BLOCK_BYTES = 1 << 20
_COPY_BYTES = 1 << 20  # a file in larger pieces is dearer to hash, in smaller ones to write
_AT_ONCE = 256  # small parts in one list
_FEW = 32  # newlines that are sought one by one; more are counted and then found by halves
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


@dataclass(frozen=True, slots=True)
class Part:
    """A part that has been made: its place in the order, bytes, BLAKE3 digest, and either content or file."""

    index: int
    size: int
    digest: bytes
    data: bytes | None = None
    path: Path | None = None


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


def make_parts(
    source: Path, spec: SplitSpec, directory: Path, stopped: Callable[[], bool], small: int
) -> Iterator[list[Part]]:
    """Make all parts: those of up to `small` bytes in memory, others as files in `directory`; lists of them, in order.

    Blocks; `stopped` is asked before each block and ends it early. ContentChangedError if `source` becomes shorter.
    """
    with source.open("rb", buffering=0) as file, source.open("rb") as cutter:
        header = b""
        waiting: list[tuple[int, int]] = []  # bodies of small parts, one behind the other
        for index, (start, end) in enumerate(ranges(cutter, spec)):
            if index == 0 and start:
                header = os.pread(file.fileno(), start, 0)
            is_small = len(header) + end - start <= small
            if waiting and (not is_small or len(waiting) == _AT_ONCE or end - waiting[0][0] > BLOCK_BYTES):
                yield _in_memory(file, header, index - len(waiting), waiting)
                waiting = []
            if stopped():
                return
            if is_small:
                waiting.append((start, end))
            else:
                part = _in_file(file, header, index, (start, end), directory / str(index), stopped)
                if part is None:
                    return
                yield [part]
        if waiting:
            yield _in_memory(file, header, index + 1 - len(waiting), waiting)


def _in_memory(file: FileIO, header: bytes, first: int, bodies: list[tuple[int, int]]) -> list[Part]:
    begin, end = bodies[0][0], bodies[-1][1]
    block = os.pread(file.fileno(), end - begin, begin)
    if len(block) < end - begin:
        raise _shorter(file)
    parts = []
    for index, (start, stop) in enumerate(bodies, first):
        data = header + block[start - begin : stop - begin]
        parts.append(Part(index, len(data), bytes_digest(data), data))
    return parts


def _in_file(
    file: FileIO, header: bytes, index: int, body: tuple[int, int], path: Path, stopped: Callable[[], bool]
) -> Part | None:
    """A part as a file; None if it was stopped."""
    start, end = body
    buffer = memoryview(bytearray(_COPY_BYTES))
    hasher = ContentHasher()
    file.seek(start)
    with path.open("wb", buffering=0) as part:
        part.write(header)
        hasher.update(header)
        while start < end:
            if stopped():
                return None
            count = file.readinto(buffer[: min(_COPY_BYTES, end - start)])
            if not count:
                raise _shorter(file)
            _write_all(part, buffer[:count])
            hasher.update(buffer[:count])
            start += count
    return Part(index, len(header) + body[1] - body[0], hasher.digest(), path=path)


def _write_all(file: FileIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]


def _shorter(file: FileIO) -> ContentChangedError:
    return ContentChangedError(f"{file.name} became shorter while it was split")


def _by_size(file: BinaryIO, start: int, end: int, budget: int) -> Iterator[tuple[int, int]]:
    while start < end:
        cut = end if end - start <= budget else _last_cut(file, start, start + budget)
        if cut is None:  # one line alone is longer
            cut = _after_newline(file, start + budget, end)
        yield start, cut
        start = cut


def _by_lines(file: BinaryIO, start: int, end: int, lines: int) -> Iterator[tuple[int, int]]:
    wanted = lines
    for position, block in _blocks(file, start, end):
        here: int | None = 0
        while here is not None:
            passed, found = _pass_lines(block, here, wanted)
            wanted -= found
            here = passed
            if passed is not None:
                yield start, position + passed
                start, wanted = position + passed, lines
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


def _pass_lines(block: bytes, start: int, wanted: int) -> tuple[int | None, int]:
    """The offset after the `wanted`-th newline from `start`, or None, and how many newlines were passed till there."""
    if wanted > _FEW:
        found = block.count(_NEWLINE, start)
        return (None, found) if found < wanted else (_nth_newline(block, start, wanted), wanted)
    for passed in range(wanted):
        start = block.find(_NEWLINE, start) + 1
        if not start:
            return None, passed
    return start, wanted


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
