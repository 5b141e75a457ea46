"""A place that did not answer is left alone for a while, so that nobody waits for it again and again.

Each failure in a row doubles the time, up to half a minute; the first answer ends it. Who asks meanwhile is told at
once, and goes the ordinary way.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.errors import MissingError, SharedStoreError

_FIRST_SECONDS: Final = 0.5
_MOST_SECONDS: Final = 30.0
_log = structlog.get_logger(__name__)


class GuardedStore(SharedStore):
    """`store`, but for while it is left alone."""

    def __init__(self, store: SharedStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self.place = store.place
        self.most = store.most

    async def put(self, name: str, source: bytes | Path) -> None:
        with self._guard():
            await self._store.put(name, source)

    async def put_many(self, contents: Mapping[str, bytes]) -> None:
        with self._guard():
            await self._store.put_many(contents)

    async def get(self, name: str, target: Path) -> None:
        with self._guard():
            await self._store.get(name, target)

    async def read(self, name: str) -> bytes:
        with self._guard():
            return await self._store.read(name)

    async def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        with self._guard():
            return await self._store.read_many(names)

    async def digest(self, name: str) -> bytes:
        with self._guard():
            return await self._store.digest(name)

    async def size(self, name: str) -> int:
        with self._guard():
            return await self._store.size(name)

    async def copy(self, name: str, target: str) -> None:
        with self._guard():
            await self._store.copy(name, target)

    async def delete(self, names: Collection[str]) -> None:
        with self._guard():
            await self._store.delete(names)

    async def names(self, prefix: str) -> AsyncIterator[str]:
        with self._guard():
            async for name in self._store.names(prefix):
                yield name

    async def close(self) -> None:
        with contextlib.suppress(SharedStoreError):
            await self._store.close()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        if self._clock() < self._until:
            raise SharedStoreError(f"{self.place} did not answer a moment ago")
        try:
            yield
        except MissingError:
            self._answered()
            raise
        except SharedStoreError as error:
            self._failed(error)
            raise
        self._answered()

    def _answered(self) -> None:
        if self._failures:
            _log.info("a shared place answers again", place=self.place)
        self._failures = 0

    def _failed(self, error: SharedStoreError) -> None:
        if not self._failures:
            _log.warning("a shared place is not used for a while", place=self.place, error=str(error))
        self._until = self._clock() + min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** min(self._failures, 16))
        self._failures += 1
