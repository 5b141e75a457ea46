"""One file of the journal: frames that are written with one call each, and read again after a crash.

    <number, 16 hex digits>.journal:   magic, then frames
    frame:   length of entries, length of contents, CRC-32 of all that follows · entries (msgpack) · contents

A frame is what was put, freed and told between two flushes. Its entries come first, the contents of its `Put`s after
them in the same order, so that a content can be read where it lies. A frame that is not whole, or not what its
checksum says, ends the file: what a crash left of the last write is cut off, and what is before it is a prefix of
what was written.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import JournalError
from cluster_agent.orders.messages import Result

MAGIC: Final = b"bdw-fed journal 1\n"
SUFFIX: Final = ".journal"
_FRAME: Final = struct.Struct("<III")


class RunNamed(msgspec.Struct, array_like=True, tag=True, gc=False):
    """The entries of this segment call a run by this number from now on."""

    number: int
    namespace: str
    run: str


class Put(msgspec.Struct, array_like=True, tag=True, gc=False):
    """A unit's content, `size` bytes of the frame's contents."""

    run: int
    unit: bytes
    digest: bytes
    size: int


class Freed(msgspec.Struct, array_like=True, tag=True):
    """Units that are not needed any more, 16 bytes each."""

    run: int
    units: list[bytes]


class Told(msgspec.Struct, array_like=True, tag=True):
    """A result that has to be acknowledged; `sequence` grows with each."""

    run: int
    sequence: int
    result: Result


class Acked(msgspec.Struct, array_like=True, tag=True):
    """These attempts' results need not be told again."""

    run: int
    tasks: list[tuple[bytes, int]]


Entry = RunNamed | Put | Freed | Told | Acked
ResultKey = tuple[str, str, bytes, int]
"""Namespace, run, task, attempt."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Entry])


class Segment:
    """A file of the journal, and what of it is still needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = int(path.name.removesuffix(SUFFIX), 16)
        self.units: dict[Content, UnitKey] = {}
        self.results: dict[ResultKey, tuple[int, Result]] = {}
        self.runs: dict[tuple[str, str], int] = {}
        self.unsynced = True
        self.spilled = False  # its contents are not kept in memory
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.size = os.fstat(self._file).st_size
        self.torn = False  # something was cut off by `frames`
        if self.size < len(MAGIC):  # new, or its first write was torn
            try:
                os.ftruncate(self._file, 0)
                self.size = 0
                self._write(MAGIC)
            except OSError:
                self.close()
                raise

    def append(self, entries: list[Entry], contents: list[bytes]) -> int:
        """Write a frame; the offset of the first content. OSError: nothing was written."""
        encoded = _encoder.encode(entries)
        body = encoded + b"".join(contents)
        start = self.size + _FRAME.size + len(encoded)
        self._write(_FRAME.pack(len(encoded), len(body) - len(encoded), zlib.crc32(body)) + body)
        return start

    def frames(self) -> Iterator[tuple[list[Entry], bytes, int]]:
        """What was written: of each frame the entries, the contents and their offset. What is behind is cut off.

        JournalError if the file is of another format.
        """
        with self.path.open("rb") as file:
            written = file.read()
        if not written.startswith(MAGIC):
            raise JournalError(f"{self.path} is not a journal of this release; start the release that wrote it")
        sound = len(MAGIC)
        while (frame := _frame_at(written, sound)) is not None:
            entries, contents, start = frame
            try:
                yield _decoder.decode(entries), contents, start
            except msgspec.DecodeError as error:
                raise JournalError(f"{self.path}: {error}; start the release that wrote it") from None
            sound = start + len(contents)
        self.torn = sound < len(written)
        if self.torn:
            os.ftruncate(self._file, sound)
            self.size = sound

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of a content."""
        return os.pread(self._file, size, offset)

    def descriptor(self) -> int:
        """A descriptor of the file for a thread that syncs it; to be closed there."""
        return os.dup(self._file)

    def close(self) -> None:
        """Keep the file."""
        os.close(self._file)

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, memoryview(data)[written:] if written else data)
        except OSError:
            if written:
                os.ftruncate(self._file, self.size)
            raise
        self.size += written
        self.unsynced = True


def is_sound(written: bytes | bytearray) -> bool:
    """Whether a file of the journal, up to where a frame ends, is what was written."""
    offset = len(MAGIC)
    while offset < len(written) and (frame := _frame_at(written, offset)) is not None:
        offset = frame[2] + len(frame[1])
    return written.startswith(MAGIC) and offset == len(written)


def _frame_at(written: bytes | bytearray, offset: int) -> tuple[bytes, bytes, int] | None:
    """The frame at an offset: entries, contents, offset of the contents; None if there is no sound one."""
    if len(written) - offset < _FRAME.size:
        return None
    of_entries, of_contents, checksum = _FRAME.unpack_from(written, offset)
    start = offset + _FRAME.size
    body = written[start : start + of_entries + of_contents]
    if not of_entries or len(body) < of_entries + of_contents or zlib.crc32(body) != checksum:
        return None
    return bytes(body[:of_entries]), bytes(body[of_entries:]), start + of_entries
