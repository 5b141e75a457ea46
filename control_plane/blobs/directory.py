"""Blobs in a directory, which several hubs may share.

A blob is written beside its place, synced, and renamed, so that a reader sees all of it or nothing, also after a crash.
Two who put the same blob at once both succeed.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from control_plane.blobs.base import CHUNK_BYTES, BlobStore
from control_plane.blobs.errors import CorruptBlob, NoSuchBlob, TooLarge, WrongDigest
from wire.digests import DIGEST_BYTES, ContentHasher

_MOST_BYTES = 512 << 20


class DirectoryBlobs(BlobStore):
    """Blobs under `root` (made with mode 0700), as ROOT/AB/ABCDEF…"""

    def __init__(self, root: Path, *, most_bytes: int = _MOST_BYTES) -> None:
        self._root = root
        self._most_bytes = most_bytes
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def put(self, digest: bytes, chunks: AsyncIterable[bytes]) -> int:
        """See BlobStore."""
        place = self._place(digest)
        descriptor, name = tempfile.mkstemp(prefix=".incoming-", dir=self._root)
        incoming = Path(name)
        hasher, size = ContentHasher(), 0
        try:
            with os.fdopen(descriptor, "wb") as file:  # buffered: what a write leaves over is written too, or raises
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self._most_bytes:
                        raise TooLarge(f"a blob may have {self._most_bytes >> 20} MiB, this one has more")
                    hasher.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
                if hasher.digest() != digest:
                    raise WrongDigest(f"the content has the digest {hasher.digest().hex()}, not {digest.hex()}")
                await asyncio.to_thread(_settle, file, incoming, place)
        finally:
            incoming.unlink(missing_ok=True)
        return size

    @asynccontextmanager
    async def get(self, digest: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """See BlobStore."""
        try:
            file = self._place(digest).open("rb")
        except FileNotFoundError:
            raise NoSuchBlob(f"there is no blob {digest.hex()}") from None

        async def chunks() -> AsyncIterator[bytes]:
            hasher = ContentHasher()
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                hasher.update(chunk)
                yield chunk
            if hasher.digest() != digest:
                raise CorruptBlob(f"the blob {digest.hex()} was changed on disk: apply the step again")

        with file:
            yield chunks()

    async def size(self, digest: bytes) -> int | None:
        """See BlobStore."""
        try:
            return self._place(digest).stat().st_size
        except FileNotFoundError:
            return None

    async def touch(self, digest: bytes) -> bool:
        """See BlobStore."""
        try:
            os.utime(self._place(digest))
        except FileNotFoundError:
            return False
        return True

    async def delete_older(self, digest: bytes, seconds: float) -> bool:
        """See BlobStore. Whoever touches it has found it under its name before it is taken away, and so kept it."""
        place = self._place(digest)
        aside = self._root / f".leaving-{digest.hex()}"
        try:
            if place.stat().st_mtime > time.time() - seconds:
                return False
            place.rename(aside)
        except FileNotFoundError:
            return False
        if aside.stat().st_mtime > time.time() - seconds:
            aside.rename(place)
            return False
        aside.unlink()
        return True

    async def delete(self, digest: bytes) -> None:
        """See BlobStore."""
        self._place(digest).unlink(missing_ok=True)

    async def digests(self) -> AsyncIterator[bytes]:
        """See BlobStore."""
        for path in await asyncio.to_thread(lambda: sorted(self._root.glob("[0-9a-f][0-9a-f]/*"))):
            yield bytes.fromhex(path.name)

    def _place(self, digest: bytes) -> Path:
        if len(digest) != DIGEST_BYTES:
            raise ValueError(f"a digest has {DIGEST_BYTES} bytes, not {len(digest)}")
        name = digest.hex()
        return self._root / name[:2] / name


def _settle(file: BinaryIO, incoming: Path, place: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    place.parent.mkdir(mode=0o700, exist_ok=True)
    incoming.replace(place)
    for folder in (place.parent, place.parent.parent):  # the second may have a new entry too
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
