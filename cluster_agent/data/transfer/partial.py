"""A file that is arriving: which of its bytes are here, also after a crash.

The bytes lie in `<digest>`, and beside it, if there is more than one chunk, `<digest>.done` has one byte for each, 1
once the chunk is whole. Within a chunk bytes come in order, so what is known beyond whole chunks is one offset for
each, kept in memory only. Nothing here is trusted: the digest of the complete file decides. It is made of the bytes as
they come, as far as they come in the order of the file; the rest is read again.
"""

from __future__ import annotations

import os
from pathlib import Path

from wire.digests import ContentHasher

CHUNK_BYTES = 8 << 20
_READ_BYTES = 256 << 10
_DONE = ".done"


def remove(directory: Path, digest: bytes) -> None:
    """Delete what is left of the file of `digest`, which nobody writes any more."""
    path = directory / digest.hex()
    path.unlink(missing_ok=True)
    path.with_suffix(_DONE).unlink(missing_ok=True)


class PartialFile:
    """The arriving content of `digest`, `size` bytes, in `directory`. `close` it.

    Several threads may write, each a chunk of its own.
    """

    def __init__(self, directory: Path, digest: bytes, size: int) -> None:
        self.path = directory / digest.hex()
        self.size = size
        self.chunks = max(1, -(-size // CHUNK_BYTES))
        self._done_path = self.path.with_suffix(_DONE)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._done_file = -1
        whole = b""
        if self.chunks > 1:
            self._done_file = os.open(self._done_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            whole = os.read(self._done_file, self.chunks + 1)
        self._hasher = ContentHasher()
        self._hashed = 0
        if len(whole) != self.chunks or os.fstat(self._file).st_size != size:
            self._reset()
            whole = bytes(self.chunks)
        self._got = [self.length(chunk) if done else 0 for chunk, done in enumerate(whole)]
        self._first = 0  # no chunk before this one is missing

    def length(self, chunk: int) -> int:
        """Bytes of a chunk."""
        return min(CHUNK_BYTES, self.size - chunk * CHUNK_BYTES)

    def offset(self, chunk: int) -> int:
        """Where in the file a chunk goes on."""
        return chunk * CHUNK_BYTES + self._got[chunk]

    def end(self, chunk: int) -> int:
        """Where in the file a chunk ends, exclusive."""
        return chunk * CHUNK_BYTES + self.length(chunk)

    def missing(self) -> list[int]:
        """The chunks that are not whole, in order."""
        return [chunk for chunk, got in enumerate(self._got) if got < self.length(chunk)]

    @property
    def received(self) -> int:
        """Bytes that are here."""
        return sum(self._got)

    def complete(self) -> bool:
        """Whether every byte is here; whether they are the right ones, only the digest tells."""
        return self._first_missing() is None

    @property
    def contiguous(self) -> int:
        """Bytes that are here from the start on, without a gap."""
        chunk = self._first_missing()
        return self.size if chunk is None else self.offset(chunk)

    def write(self, chunk: int, data: bytes | memoryview) -> None:
        """Add bytes at a chunk's offset; ValueError if they are more than it takes."""
        view = memoryview(data)
        if len(view) > self.length(chunk) - self._got[chunk]:
            raise ValueError("more bytes came than were asked for")
        if self.offset(chunk) == self._hashed:
            self._hasher.update(view)
            self._hashed += len(view)
        while view:
            written = os.pwrite(self._file, view, self.offset(chunk))
            self._got[chunk] += written
            view = view[written:]
        if self._got[chunk] == self.length(chunk) and self._done_file >= 0:
            os.pwrite(self._done_file, b"\1", chunk)

    def digest(self) -> bytes:
        """The BLAKE3 of the file, which is complete. Blocks."""
        buffer = memoryview(bytearray(min(_READ_BYTES, max(1, self.size - self._hashed))))
        while self._hashed < self.size and (got := os.preadv(self._file, [buffer], self._hashed)):
            self._hasher.update(buffer[:got])
            self._hashed += got
        return self._hasher.digest()

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes at `contiguous`, over as many chunks as they fill."""
        view = memoryview(data)
        while view:
            chunk = self._first_missing()
            if chunk is None:
                raise ValueError("more bytes came than the unit has")
            piece = view[: self.length(chunk) - self._got[chunk]]
            self.write(chunk, piece)
            view = view[len(piece) :]

    def restart(self) -> None:
        """Forget all bytes: they were not what they should be."""
        self._reset()
        self._got = [0] * self.chunks
        self._first = 0

    def close(self) -> None:
        """Keep what is here for another time."""
        os.close(self._file)
        if self._done_file >= 0:
            os.close(self._done_file)

    def _first_missing(self) -> int | None:
        while self._first < self.chunks and self._got[self._first] == self.length(self._first):
            self._first += 1
        return self._first if self._first < self.chunks else None

    def _reset(self) -> None:
        if os.fstat(self._file).st_size:
            # Not of a new file: ext4 writes what was cut to nothing to the disk as it is closed, and the loop waits.
            os.ftruncate(self._file, 0)
        os.ftruncate(self._file, self.size)
        self._hasher = ContentHasher()
        self._hashed = 0
        if self._done_file >= 0:
            os.ftruncate(self._done_file, 0)
            os.pwrite(self._done_file, bytes(self.chunks), 0)
