"""Parquet: what stands in a file's footer, and footers for other files that are made of its row groups.

A row group's bytes do not say where in the file they lie; only the footer does. So a part of a file is the bytes of
some of its row groups, copied, and a footer of its own; and files of one schema are joined in the same way. Nothing is
decoded: types, encodings and compressions are kept, whatever they are, at the speed of copying. What a footer says of
page indexes and Bloom filters is left out, because those are not copied.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from typing import Final

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.records.thrift import BINARY, I32, I64, LIST, STRUCT, Items, Reader, Struct, write

MAGIC: Final = b"PAR1"
_ENCRYPTED: Final = b"PARE"
_TAIL_BYTES: Final = 8  # length of the footer, magic
# Fields of FileMetaData,
_VERSION, _SCHEMA, _ROWS, _GROUPS, _ORDERS, _ENCRYPTION, _SIGNED = 1, 2, 3, 4, 7, 8, 9
# of SchemaElement,
_REPETITION, _NAME, _CHILDREN = 3, 4, 5
# of RowGroup,
_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _ORDINAL = 1, 3, 5, 7
# of ColumnChunk
_FILE, _CHUNK_OFFSET, _META, _INDEXES, _CRYPTO = 1, 2, 3, (4, 5, 6, 7), 8
# and of ColumnMetaData.
_COMPRESSED, _DATA_PAGE, _INDEX_PAGE, _DICTIONARY, _BLOOM = 7, 9, 10, 11, (14, 15)


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a file: its rows, and where the bytes of its columns lie: (offset, length)."""

    meta: Struct
    rows: int
    chunks: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        return sum(length for _, length in self.chunks)


@dataclass(frozen=True, slots=True)
class Footer:
    """A file's footer, and its row groups that have rows."""

    meta: Struct
    groups: tuple[RowGroup, ...]
    length: int

    @property
    def schema(self) -> list[Struct]:
        return self.meta.structs(_SCHEMA)


def footer_of(file: FileIO) -> Footer:
    """Read a file's footer. WrongContentError where it has none, or one that can't be divided."""
    end = os.fstat(file.fileno()).st_size
    tail = os.pread(file.fileno(), _TAIL_BYTES, max(0, end - _TAIL_BYTES))
    begin = os.pread(file.fileno(), len(MAGIC), 0)
    if _ENCRYPTED in (tail[4:], begin):
        raise WrongContentError("at byte 0: the Parquet file is encrypted; decrypt it before")
    if begin != MAGIC:
        raise WrongContentError("at byte 0: not a Parquet file: it does not begin with PAR1; say another format")
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length > end - _TAIL_BYTES - len(MAGIC):
        raise WrongContentError(
            f"at byte {max(0, end - _TAIL_BYTES)}: the Parquet file has no footer, so its end is missing; make it anew"
        )
    start = end - _TAIL_BYTES - length
    try:
        meta = Reader(os.pread(file.fileno(), length, start)).struct()
        if not meta.structs(_SCHEMA):
            raise ValueError("it has no schema")
        groups = tuple(_group(each) for each in meta.structs(_GROUPS) if each.integer(_GROUP_ROWS))
    except ValueError as error:
        raise WrongContentError(f"at byte {start}: the footer of the Parquet file is damaged: {error}") from error
    if _ENCRYPTION in meta or _SIGNED in meta:
        raise WrongContentError(f"at byte {start}: columns of the Parquet file are encrypted; decrypt it before")
    for group in groups:
        for offset, size in group.chunks:
            if offset < len(MAGIC) or size < 0 or offset + size > start:
                raise WrongContentError(f"at byte {start}: the Parquet footer names bytes that the file does not have")
    return Footer(meta, groups, length)


def footer_for(first: Footer, placed: Sequence[tuple[RowGroup, int]]) -> bytes:
    """The end of a file that begins as `first`, and has these row groups, the bytes of each at an offset."""
    groups: list[object] = []
    for ordinal, (group, offset) in enumerate(placed):
        groups.append(_moved(group, offset, ordinal))
    meta = first.meta.without()
    meta.set_integer(_ROWS, sum(group.rows for group, _ in placed))
    meta.fields[_GROUPS] = (LIST, Items(STRUCT, groups))
    written = write(meta)
    return written + len(written).to_bytes(4, "little") + MAGIC


def difference(one: Footer, other: Footer) -> str:
    """In what the schemas of two files differ, for people; empty if they are the same."""
    ours, theirs = one.schema, other.schema
    for left, right in zip(ours[1:], theirs[1:], strict=False):
        if left.without(_REPETITION) != right.without(_REPETITION):
            if _name(left) != _name(right):
                return f"{_name(right)} stands where {_name(left)} does in the first"
            return f"column {_name(left)} has another type"
        if left != right:
            return f"column {_name(left)} may be null in one of them only"
    if len(ours) != len(theirs):
        longer = max(ours, theirs, key=len)
        return f"column {_name(longer[min(len(ours), len(theirs))])} is in one of them only"
    if one.meta.fields.get(_ORDERS) != other.meta.fields.get(_ORDERS):
        return "the columns are ordered otherwise"
    return ""


def _name(element: Struct) -> str:
    name = element.fields.get(_NAME, (0, b"?"))[1]
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else "?"


def _group(meta: Struct) -> RowGroup:
    chunks = []
    for chunk in meta.structs(_COLUMNS):
        if _FILE in chunk or _CRYPTO in chunk:
            raise ValueError("columns lie in other files, or are encrypted")
        column = chunk.struct(_META)
        chunks.append((_start(column), column.integer(_COMPRESSED)))
    return RowGroup(meta, meta.integer(_GROUP_ROWS), tuple(chunks))


def _start(column: Struct) -> int:
    """Where a column's bytes begin: some writers say 0 for a dictionary that is not there."""
    data, dictionary = column.integer(_DATA_PAGE), column.integer(_DICTIONARY, 0)
    return dictionary if 0 < dictionary < data else data


def _moved(group: RowGroup, offset: int, ordinal: int) -> Struct:
    """What the footer says of a row group whose bytes begin at `offset`, column behind column."""
    columns: list[object] = []
    begin = offset
    for chunk, (start, length) in zip(group.meta.structs(_COLUMNS), group.chunks, strict=True):
        by = offset - start
        column = chunk.struct(_META).without(_INDEX_PAGE, *_BLOOM)
        column.set_integer(_DATA_PAGE, column.integer(_DATA_PAGE) + by)
        if column.integer(_DICTIONARY, 0) > 0:
            column.set_integer(_DICTIONARY, column.integer(_DICTIONARY) + by)
        moved = chunk.without(*_INDEXES)
        moved.fields[_META] = (STRUCT, column)
        if moved.integer(_CHUNK_OFFSET):  # writers say 0 nowadays
            moved.set_integer(_CHUNK_OFFSET, offset)
        columns.append(moved)
        offset += length
    meta = group.meta.without()
    meta.fields[_COLUMNS] = (LIST, Items(STRUCT, columns))
    if _GROUP_OFFSET in meta:
        meta.set_integer(_GROUP_OFFSET, begin)
    if _ORDINAL in meta:
        if ordinal < 1 << 15:
            meta.set_integer(_ORDINAL, ordinal)
        else:
            meta = meta.without(_ORDINAL)  # it has 16 bits, and may be left out
    return meta


def empty_footer() -> Footer:
    """Of a file with neither columns nor rows, which stands for nothing merged."""
    root = Struct()
    root.fields[_NAME] = (BINARY, b"schema")
    root.fields[_CHILDREN] = (I32, 0)
    meta = Struct()
    meta.fields[_VERSION] = (I32, 1)
    meta.fields[_SCHEMA] = (LIST, Items(STRUCT, [root]))
    meta.fields[_ROWS] = (I64, 0)
    return Footer(meta, (), 0)
