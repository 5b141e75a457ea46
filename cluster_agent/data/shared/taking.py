"""Units on their way to this node from a shared place.

    take ─▶ small: those that are wanted while the place answers are asked for together ─▶ checked ─▶ store ─▶ Taken
         └▶ large: a few at a time, each into a file ──────────────────────────────────────┘

Nothing that a place gives is trusted: the digest decides. What it has not got, or not as it should be, or does not give
in time, is told as `missed`, and whoever asked goes another way.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import DataError
from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.errors import MissingError, SharedStoreError
from cluster_agent.data.store import DiskStore
from wire.digests import bytes_digest, content_digest

TOGETHER_BYTES: Final = 1 << 20  # of a unit that is asked for with others, at most
_BATCH_BYTES: Final = 4 << 20
_BATCH: Final = 256
_LARGE_AT_ONCE: Final = 4


class Wanted(NamedTuple):
    """A unit that is to come: its content, and under which name it lies in which place."""

    key: UnitKey
    digest: bytes
    size: int
    store: SharedStore
    name: str


class Taken(NamedTuple):
    """How a want ended: without `error` the unit is in the store. `missed`: the place did not give it."""

    key: UnitKey
    bytes: int = 0
    seconds: float = 0.0
    error: str = ""
    missed: bool = False


class Taking:
    """All that comes into `store` from places; tells `taken` once for each want. `close` it at the end."""

    def __init__(self, store: DiskStore, taken: Callable[[Taken], None]) -> None:
        self._store = store
        self._taken = taken
        self._wants: dict[UnitKey, Wanted] = {}
        self._small: dict[str, deque[Wanted]] = {}  # to be asked for, by place
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._getting: dict[UnitKey, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._numbers = itertools.count()

    def wanted(self) -> list[UnitKey]:
        """All units on their way."""
        return list(self._wants)

    def take(self, wanted: Wanted) -> None:
        """Get a unit; one that is on its way already comes once."""
        known = self._wants.get(wanted.key)
        if known is not None and known.digest == wanted.digest:
            return
        self.forget(wanted.key)
        self._wants[wanted.key] = wanted
        if wanted.size > TOGETHER_BYTES:
            task = self._getting[wanted.key] = asyncio.create_task(self._get(wanted))
            task.add_done_callback(lambda _: self._getting.pop(wanted.key, None))
            return
        place = wanted.store.place
        self._small.setdefault(place, deque()).append(wanted)
        if place not in self._asking:
            self._asking[place] = asyncio.create_task(self._ask(wanted.store))

    def forget(self, key: UnitKey) -> None:
        """The unit is not wanted any more; nothing will be told of it."""
        self._wants.pop(key, None)
        task = self._getting.get(key)
        if task is not None:
            task.cancel()

    def forget_run(self, namespace: str, run: str) -> None:
        """Nothing of the run is wanted any more."""
        for key in [key for key in self._wants if key[:2] == (namespace, run)]:
            self.forget(key)

    async def close(self) -> None:
        """Stop all of it."""
        self._wants.clear()
        tasks = [*self._asking.values(), *self._getting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---------------------------------------------------------------------------------------------------- inside

    async def _ask(self, store: SharedStore) -> None:
        """Get what is wanted from a place, and what is wanted from it meanwhile."""
        try:
            while batch := self._next_batch(store.place):
                await self._ask_for(store, batch)
        finally:
            del self._asking[store.place]

    def _next_batch(self, place: str) -> list[Wanted]:
        queue = self._small.get(place, deque())
        batch: list[Wanted] = []
        size = 0
        while queue and len(batch) < _BATCH and (not batch or size + queue[0].size <= _BATCH_BYTES):
            wanted = queue.popleft()
            if self._wants.get(wanted.key) is wanted:
                batch.append(wanted)
                size += wanted.size
        if not queue:
            self._small.pop(place, None)
        return batch

    async def _ask_for(self, store: SharedStore, batch: list[Wanted]) -> None:
        began, reason = time.monotonic(), "the place has not got it"
        contents: list[bytes | None] = [None] * len(batch)
        try:
            contents = await store.read_many([wanted.name for wanted in batch])
        except SharedStoreError as error:
            reason = str(error)
        seconds = (time.monotonic() - began) / len(batch)
        entered = []
        for wanted, data in zip(batch, contents, strict=True):
            if self._wants.get(wanted.key) is not wanted:
                continue
            if data is None or bytes_digest(data) != wanted.digest:
                self._end(wanted, error=reason if data is None else "it has other bytes there", missed=True)
            elif await self._entered(wanted, data):
                entered.append(wanted)
        await self._tell(entered, seconds)

    async def _entered(self, wanted: Wanted, data: bytes) -> bool:
        """Put a unit into the store; False if that was told to have failed."""
        path = self._path(wanted)
        try:
            if len(data) <= self._store.small:
                self._store.put(wanted.key, data, wanted.digest)
                return True
            self._store.space.check(len(data))
            await asyncio.to_thread(path.write_bytes, data)
            return await self._committed(wanted, path)
        except (DataError, OSError) as error:
            self._end(wanted, error=str(error))
            return False
        finally:
            path.unlink(missing_ok=True)

    async def _get(self, wanted: Wanted) -> None:
        path = self._path(wanted)
        try:
            async with self._slots:
                self._store.space.check(wanted.size)
                began = time.monotonic()
                await wanted.store.get(wanted.name, path)
                if await asyncio.to_thread(content_digest, path) != wanted.digest:
                    raise MissingError("it has other bytes there")
                if await self._committed(wanted, path):
                    await self._tell([wanted], time.monotonic() - began)
        except SharedStoreError as error:
            self._end(wanted, error=str(error), missed=True)
        except (DataError, OSError) as error:
            self._end(wanted, error=str(error))
        finally:
            path.unlink(missing_ok=True)

    async def _committed(self, wanted: Wanted, path: Path) -> bool:
        """Put a file into the store, unless the unit is not wanted any more."""
        if self._wants.get(wanted.key) is not wanted:
            return False
        await self._store.commit(path, wanted.key, wanted.digest)
        return True

    async def _tell(self, entered: list[Wanted], seconds: float) -> None:
        """These are in the store; they are told once they are as durable as was asked for."""
        error = ""
        try:
            if entered:
                await self._store.durable()
        except OSError as failure:
            error = f"the disk refused: {failure}"
        for wanted in entered:
            self._end(wanted, bytes=wanted.size, seconds=seconds, error=error)

    def _end(
        self, wanted: Wanted, *, bytes: int = 0, seconds: float = 0.0, error: str = "", missed: bool = False
    ) -> None:
        if self._wants.get(wanted.key) is wanted:
            del self._wants[wanted.key]
            self._taken(Taken(wanted.key, bytes, seconds, error, missed))

    def _path(self, wanted: Wanted) -> Path:
        """A file that the next start removes, should we not come to it."""
        return self._store.partial / f".{wanted.digest.hex()}.{next(self._numbers)}.shared"
