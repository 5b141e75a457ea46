"""Makes parts of the bytes that come by: small ones in memory, large ones as files, each with its digest.

Bytes are written before it is known to which part the last of them belong: a record may turn out not to fit. Then what
was written since the last `mark` is taken back and begins the next part.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from cluster_agent.data.split.base import Part
from wire.digests import ContentHasher, bytes_digest

_PIECE_BYTES = 1 << 20


class Writer:
    """Parts of up to `small` bytes are kept in memory, others are files, each in the folder that is told as it begins.
    Each begins with `header` and ends with `trailer`. Whoever writes empties `made`, and calls `close` in the end."""

    def __init__(self, folder: Callable[[], Path], small: int, header: bytes = b"", trailer: bytes = b"") -> None:
        self.made: list[Part] = []
        self.header = header
        self.trailer = trailer
        self._folder = folder
        self._path = Path()
        self._small = small
        self._index = 0
        self._memory = bytearray()
        self._length = 0  # of the part's body
        self._file: FileIO | None = None
        self._hasher = ContentHasher()
        self._mark: tuple[int, ContentHasher | None] | None = None

    def add(self, data: memoryview | bytes) -> None:
        """More bytes of the open part."""
        self._length += len(data)
        if self._file is None:
            if len(self.header) + self._length + len(self.trailer) <= self._small:
                self._memory += data
                return
            self._path = self._folder() / str(self._index)
            self._file = self._path.open("wb+", buffering=0)
            self._write(self.header)
            self._write(self._memory)
            self._memory.clear()
        self._write(data)

    def whole(self, data: memoryview) -> None:
        """All bytes of a part, or what is still missing of it."""
        if self._length or len(self.header) + len(data) + len(self.trailer) > self._small:
            self.add(data)
            self.end()
            return
        content = b"".join((self.header, data, self.trailer))
        self.made.append(Part(self._index, len(content), bytes_digest(content), content))
        self._index += 1

    def end(self, *, name: str = "") -> None:
        """The open part is complete."""
        size = len(self.header) + self._length + len(self.trailer)
        if self._file is None:
            content = b"".join((self.header, self._memory, self.trailer))
            self._memory.clear()
            self.made.append(Part(self._index, size, bytes_digest(content), content, name=name))
        else:
            self._write(self.trailer)
            self._file.close()
            self.made.append(Part(self._index, size, self._hasher.digest(), path=self._path, name=name))
        self._begin_next()

    def mark(self) -> None:
        """What comes from here on may be taken back."""
        self._mark = (self._length, self._hasher.copy() if self._file is not None else None)

    def end_at_mark(self) -> None:
        """The part is complete as it was at the mark; the bytes since then begin the next."""
        assert self._mark is not None
        length, hasher = self._mark
        surplus = self._length - length
        if self._file is None:
            rest = bytes(self._memory[length:])
            del self._memory[length:]
            self._length = length
            self.end()
            self.add(rest)
            return
        former, place, index = self._file, self._path, self._index
        begin = len(self.header) + length
        if hasher is None:  # it was in memory then
            hasher = ContentHasher()
            hasher.update(os.pread(former.fileno(), begin, 0))
        self._begin_next()
        for offset in range(begin, begin + surplus, _PIECE_BYTES):
            self.add(os.pread(former.fileno(), min(_PIECE_BYTES, begin + surplus - offset), offset))
        former.truncate(begin)
        former.seek(begin)
        write_all(former, self.trailer)
        hasher.update(self.trailer)
        former.close()
        self.made.append(Part(index, begin + len(self.trailer), hasher.digest(), path=place))

    def close(self) -> None:
        """Drop what is incomplete."""
        if self._file is not None:
            self._file.close()
            self._path.unlink()
            self._file = None

    def _begin_next(self) -> None:
        self._index += 1
        self._length = 0
        self._file = None
        self._mark = None
        self._hasher = ContentHasher()

    def _write(self, data: memoryview | bytes | bytearray) -> None:
        assert self._file is not None
        write_all(self._file, data)
        self._hasher.update(data)


def write_all(file: FileIO, data: memoryview | bytes | bytearray) -> None:
    """Write all of it, in as many calls as that takes."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
