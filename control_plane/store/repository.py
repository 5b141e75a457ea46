"""Protobuf messages in etcd: the values of one kind behind `Repository`, several kinds in one transaction.

    store = Store(client)
    runs = store.repository("runs", Run)
    await store.commit([runs.updating(key, run, revision), fragments.creating(other, fragment)])

A value may have 256 KiB; what is larger belongs into a blob store, with its digest in the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from google.protobuf.message import DecodeError

from control_plane.store.base import Listing, M, NewsWatch, Repository, Stored
from control_plane.store.errors import TooLarge, Unreadable
from control_plane.store.etcd.client import Client
from control_plane.store.etcd.kv import Item, Kv, read, read_below
from control_plane.store.etcd.lock import Held
from control_plane.store.keys import Key, prefix_of
from control_plane.store.news import NewsOf
from control_plane.store.transaction import Operation, commit

MOST_BYTES = 256 << 10  # of one value


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found by key in etcd, all of one revision; None where a key that was asked for is not there."""

    items: Mapping[bytes, Item | None]
    revision: int


class EtcdRepository(Repository[M], Generic[M]):
    """The values of one kind in etcd. Made by `Store.repository`."""

    def __init__(self, kv: Kv, kind: str, message: type[M]) -> None:
        self.kind = kind
        self._kv = kv
        self._message = message

    async def get(self, key: Key) -> Stored[M] | None:
        """See Repository."""
        item = await self._kv.get(self._own(key).raw)
        return None if item is None else self.stored(item)

    async def list(self, *names: str) -> Listing[M]:
        """See Repository."""
        snapshot = await self._kv.list(prefix_of(self.kind, names))
        return Listing(names, tuple(map(self.stored, snapshot.items)), snapshot.revision)

    async def create(self, key: Key, value: M, *, lease: int = 0) -> int:
        """See Repository."""
        return await commit(self._kv, [self.creating(key, value, lease=lease)])

    async def update(self, key: Key, value: M, expected: int, *, lease: int = 0) -> int:
        """See Repository."""
        return await commit(self._kv, [self.updating(key, value, expected, lease=lease)])

    async def delete(self, key: Key, expected: int) -> int:
        """See Repository."""
        return await commit(self._kv, [self.deleting(key, expected)])

    def watch(self, *names: str, after: Listing[M] | int) -> NewsWatch[M]:
        """See Repository."""
        return NewsOf(self._kv, prefix_of(self.kind, names), self.stored, after)

    def creating(self, key: Key, value: M, *, lease: int = 0) -> Operation:
        """`create`, as a part of a transaction."""
        return Operation(self._own(key), 0, self._bytes(key, value), lease=lease)

    def updating(self, key: Key, value: M, expected: int, *, lease: int = 0) -> Operation:
        """`update`, as a part of a transaction."""
        return Operation(self._own(key), _there(expected), self._bytes(key, value), lease=lease)

    def deleting(self, key: Key, expected: int) -> Operation:
        """`delete`, as a part of a transaction."""
        return Operation(self._own(key), _there(expected), delete=True)

    def unchanged(self, key: Key, expected: int) -> Operation:
        """On the condition that the key was last written at `expected`, or, with 0, that it is not there."""
        return Operation(self._own(key), expected)

    def seen(self, look: Look, key: Key) -> Stored[M] | None:
        """The value, from a look at this key among others; None where there was none. KeyError: nobody looked."""
        item = look.items[self._own(key).raw]
        return None if item is None else self.stored(item)

    def seen_below(self, look: Look, *names: str) -> tuple[Stored[M], ...]:
        """The values whose keys' names begin with these, from a look below them."""
        prefix = prefix_of(self.kind, names)
        return tuple(self.stored(item) for key, item in look.items.items() if item and key.startswith(prefix))

    def stored(self, item: Item) -> Stored[M]:
        """The value that an item of etcd's is. Raises Unreadable."""
        key = Key.parse(item.key)
        try:
            value = self._message.FromString(item.value)
        except DecodeError as error:
            name = self._message.DESCRIPTOR.full_name
            raise Unreadable(f"the value of {key} at revision {item.revision} is not a {name}: {error}") from error
        return Stored(key, value, item.revision, item.created)

    def _own(self, key: Key) -> Key:
        if key.kind != self.kind:
            raise ValueError(f"{key} is not a key of kind {self.kind}")
        return key

    def _bytes(self, key: Key, value: M) -> bytes:
        data = value.SerializeToString(deterministic=True)
        if len(data) > MOST_BYTES:
            raise TooLarge(
                f"{key} would have {len(data)} bytes; at most {MOST_BYTES} are stored in etcd:"
                " put what is large into the blob store and its digest here"
            )
        return data


class Store:
    """All kinds in one etcd."""

    def __init__(self, client: Client) -> None:
        self.kv = Kv(client)

    def repository(self, kind: str, message: type[M]) -> EtcdRepository[M]:
        """The values of a kind, which are messages of this type."""
        return EtcdRepository(self.kv, kind, message)

    async def look(self, keys: Sequence[Key], below: Sequence[tuple[str, ...]] = (), most: int = 1) -> Look:
        """Read keys of any kinds at once, and the first `most` below each of `below` (kind, name, …).

        At most 128 in all. The repositories' `seen` and `seen_below` say what was found.
        """
        reads = [read(key.raw) for key in keys]
        reads += [read_below(prefix_of(kind, tuple(names)), most) for kind, *names in below]
        snapshot = await self.kv.look(reads)
        nothing: dict[bytes, Item | None] = dict.fromkeys(key.raw for key in keys)
        return Look(nothing | {item.key: item for item in snapshot.items}, snapshot.revision)

    async def commit(self, operations: Sequence[Operation], *, under: Held | None = None) -> int:
        """Do all operations, made by the repositories, or none; see `transaction.commit`."""
        return await commit(self.kv, operations, under=under)


def _there(expected: int) -> int:
    if expected < 1:
        raise ValueError(f"a write over something names its revision, from 1 on, not {expected}")
    return expected
