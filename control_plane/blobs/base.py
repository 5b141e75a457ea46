"""What a store of blobs promises, wherever it keeps them.

Bundles and other large values are kept outside etcd, under their BLAKE3 digest (32 bytes). A digest names its content
for ever, so a put can be repeated, a get can be cached, and nothing is ever overwritten.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager

CHUNK_BYTES = 256 << 10


class BlobStore(ABC):
    """Blobs by the digest of their content."""

    @abstractmethod
    async def put(self, digest: bytes, chunks: AsyncIterable[bytes]) -> int:
        """Keep what `chunks` yields if it has this digest; returns its size. WrongDigest, TooLarge otherwise."""

    @abstractmethod
    def get(self, digest: bytes) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The content in chunks. NoSuchBlob if it is not here, CorruptBlob at the end if it is not what was kept."""

    @abstractmethod
    async def size(self, digest: bytes) -> int | None:
        """How many bytes; None if the blob is not here."""

    @abstractmethod
    async def touch(self, digest: bytes) -> bool:
        """Whether it is here; if so it counts as put just now."""

    @abstractmethod
    async def delete_older(self, digest: bytes, seconds: float) -> bool:
        """Forget it, unless it was put or touched in the last so many seconds; whether it was forgotten."""

    @abstractmethod
    async def delete(self, digest: bytes) -> None:
        """Forget it. No error if it is not here."""

    @abstractmethod
    def digests(self) -> AsyncIterator[bytes]:
        """All blobs, in no order."""
