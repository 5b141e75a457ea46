"""What every shared place does: keep contents under names until they are deleted.

A copy there is one more copy of a unit and never the only promise: whoever reads checks the bytes against the digest,
and goes another way where they are not there, not whole or not what they should be. So a place may lose what it likes,
as a Redis that evicts does, and be away for as long as it likes.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path

from cluster_agent.data.shared.errors import MissingError
from wire.digests import bytes_digest


class SharedStore(abc.ABC):
    """One place. Every method may raise SharedStoreError, after retries of its own; `close` it at the end.

    Names are those that `names` makes.
    """

    place: str
    """What it is, without credentials: equal for two nodes if, and only if, it is the same place."""
    most: int
    """Bytes of the largest content that it takes."""

    @abc.abstractmethod
    async def put(self, name: str, source: bytes | Path) -> None:
        """Keep a content, in place of what the name meant before; it is visible only when it is whole."""

    @abc.abstractmethod
    async def get(self, name: str, target: Path) -> None:
        """Write a content to a file. MissingError."""

    @abc.abstractmethod
    async def read(self, name: str) -> bytes:
        """A content. MissingError."""

    async def digest(self, name: str) -> bytes:
        """The digest of a content as it is there. MissingError."""
        return bytes_digest(await self.read(name))

    async def size(self, name: str) -> int:
        """How many bytes a content has. MissingError."""
        return len(await self.read(name))

    async def copy(self, name: str, target: str) -> None:
        """Keep a content under another name, too. MissingError."""
        await self.put(target, await self.read(name))

    @abc.abstractmethod
    async def delete(self, names: Collection[str]) -> None:
        """Forget contents; those that are not there are ignored."""

    @abc.abstractmethod
    def names(self, prefix: str) -> AsyncIterator[str]:
        """All names in a directory; `prefix` is one that `names` makes, with '/' at its end."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Let go of its connections."""

    async def put_many(self, contents: Mapping[str, bytes]) -> None:
        """Keep small contents."""
        await asyncio.gather(*(self.put(name, data) for name, data in contents.items()))

    async def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Small contents, None for each that is not there."""
        return list(await asyncio.gather(*(self._read_if_there(name) for name in names)))

    async def sweep(self, prefix: str, but: Collection[str] = ()) -> bool:
        """Delete all of a directory but these names; whether one of them was there."""
        batch: list[str] = []
        left = False
        async for name in self.names(prefix):
            if name in but:
                left = True
                continue
            batch.append(name)
            if len(batch) == _SWEPT_AT_ONCE:
                await self.delete(batch)
                batch = []
        if batch:
            await self.delete(batch)
        return left

    async def _read_if_there(self, name: str) -> bytes | None:
        try:
            return await self.read(name)
        except MissingError:
            return None


_SWEPT_AT_ONCE = 1000
