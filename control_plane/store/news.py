"""A watch that speaks of values: what was written and what was deleted, and never of what etcd has forgotten.

It remembers of each key the revision that was told last. When the history is lost (see `etcd.watch.Reset`), what is now
is compared with what was told, and the difference is told like any other news.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Generic

from control_plane.store.base import Deleted, Listing, M, News, Stored
from control_plane.store.etcd.core import Changes, Progress
from control_plane.store.etcd.kv import Item, Kv, item
from control_plane.store.etcd.rpc import etcd_pb2 as rpc
from control_plane.store.etcd.watch import Reset, Watch
from control_plane.store.keys import Key


class NewsOf(AsyncIterator[News[M]], Generic[M]):
    """The news of what lies under a prefix; see `Repository.watch`."""

    def __init__(self, kv: Kv, prefix: bytes, stored: Callable[[Item], Stored[M]], after: Listing[M] | int) -> None:
        self._kv = kv
        self._prefix = prefix
        self._stored = stored
        self._told: dict[bytes, int] | None = None
        if isinstance(after, Listing):
            self._told = {item.key.raw: item.revision for item in after.items}
            after = after.revision
        self._watch = Watch(kv.client, prefix, start=after + 1)

    async def __aenter__(self) -> AsyncIterator[News[M]]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.close()

    async def __anext__(self) -> News[M]:
        if self._told is None:
            before = await self._kv.list(self._prefix, revision=self._watch.revision, keys_only=True)
            self._told = {item.key: item.revision for item in before.items}
        told = self._told
        while True:
            match await anext(self._watch):
                case Changes(revision, changes):
                    return News(tuple(self._event(told, change) for change in changes), revision)
                case Reset(revision, items):
                    if events := self._difference(told, items, revision):
                        return News(events, revision)
                case Progress():
                    pass

    def _event(self, told: dict[bytes, int], change: rpc.Event) -> Stored[M] | Deleted:
        key = change.kv.key
        if change.type == rpc.Event.DELETE:
            told.pop(key, None)
            return Deleted(Key.parse(key), change.kv.mod_revision)
        told[key] = change.kv.mod_revision
        return self._stored(item(change.kv))

    def _difference(
        self, told: dict[bytes, int], items: tuple[Item, ...], revision: int
    ) -> tuple[Stored[M] | Deleted, ...]:
        now = {item.key: item for item in items}
        gone = [key for key in told if key not in now]
        changed = [item for item in items if told.get(item.key) != item.revision]
        told.clear()
        told.update((item.key, item.revision) for item in items)
        return (*(Deleted(Key.parse(key), revision) for key in gone), *map(self._stored, changed))
