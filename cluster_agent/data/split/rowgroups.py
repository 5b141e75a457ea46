"""Divides a Parquet file by its row groups: each part is a Parquet file of some of them.

A row group is never divided, since that would mean to decode it. So a part has as many as its size or its rows allow,
and at least one; a file that shall be divided finely must be written with small row groups.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from itertools import accumulate
from pathlib import Path

from cluster_agent.data.errors import ContentChangedError
from cluster_agent.data.records.parquet import MAGIC, Footer, RowGroup, footer_for, footer_of
from cluster_agent.data.split.base import Part, SplitSpec
from cluster_agent.data.split.writing import Writer

_PIECE_BYTES = 1 << 20


def divide(
    source: Path, spec: SplitSpec, folder: Callable[[], Path], stopped: Callable[[], bool], small: int
) -> Iterator[list[Part]]:
    """As `make_parts`."""
    with source.open("rb", buffering=0) as file:
        footer = footer_of(file)
        writer = Writer(folder, small, MAGIC)
        try:
            for groups in _chosen(footer, spec):
                offsets = accumulate((group.size for group in groups), initial=len(MAGIC))
                writer.trailer = footer_for(footer, list(zip(groups, offsets, strict=False)))
                for group in groups:
                    for piece in pieces(file, group):
                        if stopped():
                            return
                        writer.add(piece)
                writer.end()
                made, writer.made = writer.made, []
                yield made
        finally:
            writer.close()


def pieces(file: FileIO, group: RowGroup) -> Iterator[memoryview]:
    """The bytes of a row group, column behind column; a piece is good until the next. ContentChangedError."""
    buffer = memoryview(bytearray(_PIECE_BYTES))
    for start, length in group.chunks:
        offset, end = start, start + length
        while offset < end:
            count = os.preadv(file.fileno(), [buffer[: min(_PIECE_BYTES, end - offset)]], offset)
            if not count:
                raise ContentChangedError(f"{file.name} became shorter while it was read")
            yield buffer[:count]
            offset += count


def _chosen(footer: Footer, spec: SplitSpec) -> Iterator[Sequence[RowGroup]]:
    """The row groups of each part."""
    if spec.count:
        yield from _by_count(footer.groups, spec.count)
        return
    most = spec.at_once or max(1, spec.size - len(MAGIC) - footer.length)
    gathered: list[RowGroup] = []
    amount = 0
    for group in footer.groups:
        more = group.rows if spec.at_once else group.size
        if gathered and amount + more > most:
            yield gathered
            gathered, amount = [], 0
        gathered.append(group)
        amount += more
    if gathered:
        yield gathered


def _by_count(groups: Sequence[RowGroup], count: int) -> Iterator[Sequence[RowGroup]]:
    """So many parts of about one size, as far as there are row groups for them."""
    whole = sum(group.size for group in groups)
    parts: dict[int, list[RowGroup]] = {}
    passed = 0
    for number, group in enumerate(groups):
        middle = passed + group.size / 2
        share = number if count >= len(groups) else int(middle * count / max(1, whole))
        parts.setdefault(share, []).append(group)
        passed += group.size
    yield from parts.values()
