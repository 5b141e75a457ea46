"""What a repository is: the values of one kind, typed, each with the revision that the next write must name.

Nothing is read, changed and written back without a revision: `update` and `delete` name the one they were decided on,
and a write that comes second gets a Conflict. `mutate` does the reading and deciding again until it comes first.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from control_plane.store.errors import Conflict, NotFound
from control_plane.store.keys import Key

M = TypeVar("M", bound=Message)
_ATTEMPTS = 64  # of one mutation; each that fails means that another writer came first


@dataclass(frozen=True, slots=True)
class Stored(Generic[M]):
    """A value as it is stored. `revision` is that of its last write, `created` that of its making."""

    key: Key
    value: M
    revision: int
    created: int


@dataclass(frozen=True, slots=True)
class Listing(Generic[M]):
    """All values whose keys' names begin with `names`, in the order of their keys, as they were at `revision`."""

    names: tuple[str, ...]
    items: tuple[Stored[M], ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """A key that is there no more; `revision` is at most that of the last news of it."""

    key: Key
    revision: int


@dataclass(frozen=True, slots=True)
class News(Generic[M]):
    """What has happened up to `revision` since the news before, in order: what was written, and what was deleted."""

    events: tuple[Stored[M] | Deleted, ...]
    revision: int


NewsWatch = AbstractAsyncContextManager[AsyncIterator[News[M]]]


class Repository(ABC, Generic[M]):
    """The values of one kind. Besides what is named, all methods that write raise TooLarge and an EtcdError."""

    kind: str

    def key(self, *names: str) -> Key:
        """The key of this kind with these names. Raises InvalidName."""
        return Key(self.kind, names)

    @abstractmethod
    async def get(self, key: Key) -> Stored[M] | None:
        """The value, None where there is none."""

    @abstractmethod
    async def list(self, *names: str) -> Listing[M]:
        """All values whose keys' names begin with these, of one revision however many they are."""

    @abstractmethod
    async def create(self, key: Key, value: M, *, lease: int = 0) -> int:
        """Make the key, to be deleted when the lease ends (0 = none); returns the revision. Raises AlreadyExists."""

    @abstractmethod
    async def update(self, key: Key, value: M, expected: int, *, lease: int = 0) -> int:
        """Write over what was last written at revision `expected`; returns the new one. Raises Conflict, NotFound."""

    @abstractmethod
    async def delete(self, key: Key, expected: int) -> int:
        """Delete what was last written at revision `expected`; returns the revision. Raises Conflict, NotFound."""

    @abstractmethod
    def watch(self, *names: str, after: Listing[M] | int) -> NewsWatch[M]:
        """What happens to the keys whose names begin with these, after a listing of them or after a revision.

        To be used as `async with … as news: async for … in news`. Outages are waited out; where history was lost, what
        differs is found by listing, so that there is never a gap. Nothing comes twice. A revision, other than a
        listing, may be too old to begin with: then the first step raises Compacted, and listing is the way.
        """

    async def mutate(self, key: Key, change: Callable[[M], M | None]) -> Stored[M]:
        """Write what `change` makes of the value, however often others come first; returns what is stored then.

        `change` is pure, gets a copy that it may also change in place and return, and returns None to leave the value
        as it is. Raises NotFound. Should an answer be lost just when another makes the very same bytes of the very same
        revision, the two count as one: values that several count up say who did.
        """
        for attempt in range(_ATTEMPTS):
            stored = await self.get(key)
            if stored is None:
                raise NotFound(str(key), 0, 0)
            copy = type(stored.value)()
            copy.CopyFrom(stored.value)
            value = change(copy)
            if value is None or value == stored.value:
                return stored
            try:
                return Stored(key, value, await self.update(key, value, stored.revision), stored.created)
            except Conflict as conflict:
                latest = conflict
                await asyncio.sleep(0.001 * min(attempt, 20))
        raise latest
