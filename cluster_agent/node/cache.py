"""The node's part of the cache: contents of tasks' results, kept for other runs under names that no run has.

The coordinator says what is kept and which of it is a task's result now; it has the table. Here are only the bytes, and
they are the first to go: a result that would take much of what is left of the disk is not kept, and when the disk is
needed for anything else the contents that were used longest ago are given up. So whoever takes something must look
first: the bytes are read and compared to their digest.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from bdw_fed.v1 import node_pb2
from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import DataError
from cluster_agent.data.store import DiskStore
from wire.digests import content_name
from wire.lines import CACHE

_PART: Final = 10  # of what is left of the disk a content takes at most this part
_AT_ONCE: Final = 100
_log = structlog.get_logger(__name__)


class Cache:
    """The contents in a node's store that are kept for other runs; call `close` before the store's."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._order = {key: None for key in store.units() if key.run == CACHE}  # used longest ago first
        self._relieving: asyncio.Task[None] | None = None
        self._short = 0  # bytes that are to be given up
        store.space.on_full, store.space.spare = self.relieve, self._bytes

    async def keep(self, order: node_pb2.KeepContents) -> None:
        """Keep the contents of these units, as far as they are here and there is room."""
        for count, unit in enumerate(order.units, 1):
            with contextlib.suppress(DataError, OSError):
                content = self._store.find(UnitKey(order.namespace, order.run, unit))
                key = _key(order.namespace, content.digest)
                if content.size * _PART <= self._store.space.free() and self._name(key, content):
                    self._use(key)
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)

    async def take(self, order: node_pb2.TakeContents) -> bool:
        """Make kept contents units of a run. False if they are not all here with their very bytes."""
        try:
            for each in order.contents:
                key = _key(order.namespace, each.digest)
                if not await self._store.verify(key, each.digest):
                    self._order.pop(key, None)
                    return False
                if not self._name(UnitKey(order.namespace, order.run, each.unit), self._store.find(key)):
                    return False
                self._use(key)
            await self._store.durable()
        except (DataError, OSError) as error:
            _log.warning("what is cached could not be taken", run=order.run, error=str(error))
            return False
        return True

    def relieve(self, size: int) -> None:
        """The disk is needed: give up contents of at least so many bytes, or all."""
        self._short = max(self._short, size)
        if self._order and self._relieving is None:
            self._relieving = asyncio.create_task(self._give_up())

    async def close(self) -> None:
        """Finish giving up."""
        if self._relieving is not None:
            await self._relieving

    def _bytes(self) -> int:
        """What giving up all of it would leave: contents that no run has."""
        found = {content.digest: content for key in self._order if (content := self._held(key)) is not None}
        return sum(content.size for content in found.values() if len(content.names or ()) <= 1 and not content.foreign)

    def _name(self, key: UnitKey, content: Content) -> bool:
        """Give a content one more name, if it is sound."""
        if content.data is None:
            return self._store.name(key, content.digest)
        self._store.put(key, content.data, content.digest)
        return True

    def _use(self, key: UnitKey) -> None:
        self._order.pop(key, None)
        self._order[key] = None

    async def _give_up(self) -> None:
        try:
            while self._order and self._short > 0:
                key = next(iter(self._order))
                del self._order[key]
                content = self._held(key)
                if content is not None:
                    self._short -= content.size
                await self._store.free([key])
        finally:
            self._short = 0
            self._relieving = None

    def _held(self, key: UnitKey) -> Content | None:
        """None if it was dropped meanwhile."""
        try:
            return self._store.find(key)
        except DataError:
            return None


def _key(namespace: str, digest: bytes) -> UnitKey:
    return UnitKey(namespace, CACHE, content_name(digest))
