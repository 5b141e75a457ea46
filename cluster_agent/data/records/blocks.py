"""A file block by block, decompressed on the way where it is gzip or zstd.

Whether it is compressed its first bytes say, and not its name: what was called `rows.csv.gz` may have been decompressed
on its way here. Both formats may be several streams one behind the other. A stream that ends early is an error that
names the offset in the file where it does, so that a truncated upload is never taken for a short file.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, cast

from cluster_agent.data.errors import ContentChangedError, WrongContentError

BLOCK_BYTES = 1 << 20  # larger pieces are dearer to hash, smaller ones to write
_COMPRESSED_BYTES = 16 << 10  # read at a time, if they don't grow much
_LEAST_COMPRESSED_BYTES = 256  # zeros grow more than ten thousandfold
_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = tuple(bytes([kind]) + b"\x2a\x4d\x18" for kind in range(0x50, 0x60))  # zstd frames without content


@dataclass(slots=True)
class Block:
    """`size` bytes of a file from offset `base` on. `data` may be longer, and is reused for the next block."""

    base: int
    data: bytes | bytearray
    size: int

    @property
    def stop(self) -> int:
        """The offset behind the block."""
        return self.base + self.size


def compression(path: Path) -> str:
    """`gzip`, `zstd`, or nothing: as the file's first bytes say."""
    with path.open("rb", buffering=0) as file:
        begin = file.read(4)
    if begin.startswith(_GZIP):
        return "gzip"
    return "zstd" if begin == _ZSTD or begin in _SKIPPABLE else ""


def blocks(path: Path, compressed: str) -> Iterator[Block]:
    """The file from its beginning to its end, `compressed` as `compression` says. Blocks; do not keep a block.

    WrongContentError where a compressed stream is damaged or ends early, ContentChangedError if a file that is not
    compressed becomes shorter meanwhile.
    """
    with path.open("rb", buffering=0) as file:
        yield from _decompressed(file, compressed) if compressed else _plain(file)


def length(path: Path, compressed: str, stopped: Callable[[], bool]) -> int:
    """How many bytes there are in all: a compressed file is decompressed for this."""
    if not compressed:
        return path.stat().st_size
    found = 0
    for block in blocks(path, compressed):
        found = block.stop
        if stopped():
            break
    return found


def _plain(file: FileIO) -> Iterator[Block]:
    end = os.fstat(file.fileno()).st_size
    block = Block(0, bytearray(min(BLOCK_BYTES, end)), 0)
    view = memoryview(block.data)
    while block.stop < end:
        block.base = block.stop
        block.size = 0
        count = file.readinto(view[: min(len(view), end - block.base)])
        if not count:
            raise ContentChangedError(f"{file.name} became shorter while it was read")
        block.size = count
        yield block


# ------------------------------------------------------------------------------------------------- decompressing


class _Stream:
    """One compressed stream."""

    def __init__(self, kind: str) -> None:
        if kind == "gzip":
            from isal import isal_zlib  # here: loaded where it is used

            self._stream: Any = isal_zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            self._damaged = cast(type[Exception], isal_zlib.error)
        else:
            import zstandard

            self._stream = zstandard.ZstdDecompressor().decompressobj()
            self._damaged = zstandard.ZstdError

    @property
    def ended(self) -> bool:
        """All of it was fed."""
        return bool(self._stream.eof)

    @property
    def left(self) -> bytes:
        """What was fed and stands behind its end."""
        return bytes(self._stream.unused_data)

    def feed(self, data: bytes) -> bytes:
        """What some more bytes decompress to. ValueError where the stream is damaged."""
        try:
            return bytes(self._stream.decompress(data))
        except self._damaged as error:
            raise ValueError(str(error)) from error


def _decompressed(file: FileIO, kind: str) -> Iterator[Block]:
    read, at_once, base = 0, _LEAST_COMPRESSED_BYTES, 0
    stream = _Stream(kind)
    fed = False  # the open stream has been given bytes
    while data := file.read(at_once):
        read += len(data)
        while data:
            if not fed and kind == "gzip" and base and not data.strip(b"\0"):
                break  # padding of tapes and disks behind the last stream
            fed = True
            try:
                made = stream.feed(data)
            except ValueError as error:
                raise WrongContentError(
                    f"at byte {read - len(data)} of the file: its {kind} stream is damaged ({error}); "
                    "get or make the file anew"
                ) from error
            if made:
                yield Block(base, made, len(made))
                base += len(made)
            at_once = _next_bite(at_once, len(made))
            data = b""
            if stream.ended:
                data = stream.left
                stream, fed = _Stream(kind), False
    if fed:
        raise WrongContentError(
            f"at byte {read} of the file: it ends within its {kind} stream, so something is missing; "
            "get or make the file anew"
        )


def _next_bite(now: int, made: int) -> int:
    """How many compressed bytes to read next, so that blocks are of about one size."""
    if made > BLOCK_BYTES:
        return max(_LEAST_COMPRESSED_BYTES, now // 2)
    return min(_COMPRESSED_BYTES, now * 2) if made < BLOCK_BYTES // 4 else now
