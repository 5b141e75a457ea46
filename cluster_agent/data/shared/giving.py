"""What this node puts into shared places, and deletes there: for units of runs, in the directory of its cluster.

    put ─▶ a mark of the run on the disk, before its first unit ─▶ the place
    sweep, when the run is over ─▶ the directory is emptied in all places ─▶ the mark goes

A mark that is left tells the next life of the daemon, and through it the coordinator, that there may be something of a
run that is over. A place that is away is tried until it is swept.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from cluster_agent.data.base import Content, UnitKey, path_part
from cluster_agent.data.errors import DataError
from cluster_agent.data.shared import names
from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.errors import SharedStoreError
from cluster_agent.data.shared.places import SharedPlaces
from cluster_agent.data.shared.taking import TOGETHER_BYTES
from cluster_agent.data.store import DiskStore

_BATCH_BYTES: Final = 4 << 20
_BATCH: Final = 256
_LARGE_AT_ONCE: Final = 2
_AGAIN_SECONDS: Final = (1.0, 5.0, 30.0, 60.0)  # after which a sweep that failed is tried again; then the last
_log = structlog.get_logger(__name__)

Run = tuple[str, str]


class Giving:
    """What goes from `store` into `places`; `marks` is a directory of ours alone. `close` it at the end."""

    def __init__(self, store: DiskStore, places: SharedPlaces, cluster: str, marks: Path) -> None:
        self._store = store
        self._places = places
        self._cluster = cluster
        self._directory = marks
        self._marked: set[Run] = {(path.parent.name, path.name) for path in marks.glob("*/*")}
        self._putting: dict[Run, set[asyncio.Task[set[UnitKey]]]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._sweeping: set[Run] = set()
        self._slots = asyncio.Semaphore(_LARGE_AT_ONCE)

    def marked(self) -> list[Run]:
        """The runs of which something may lie in a place."""
        return list(self._marked)

    async def put(self, run: Run, place: SharedStore, keys: Sequence[UnitKey]) -> set[UnitKey]:
        """Put units of a run into a place; those that are there then. None once the run is over."""
        if run in self._sweeping:
            return set()
        task = asyncio.create_task(self._put(run, place, keys))
        self._putting.setdefault(run, set()).add(task)
        try:
            await asyncio.wait([task])
            return set() if task.cancelled() else task.result()
        finally:
            task.cancel()
            self._putting[run].discard(task)
            if not self._putting[run]:
                del self._putting[run]

    def delete(self, run: Run, place: str, units: Iterable[bytes]) -> None:
        """Units are not needed there any more."""
        store = self._places.get(place)
        if store is not None:
            self._own(self._delete(store, [names.of_unit(*run, self._cluster, unit) for unit in units]))

    def sweep(self, run: Run, *, others: bool) -> None:
        """The run is over: what we have put there goes; with `others`, even if that was only other nodes."""
        if self._places and (others or run in self._marked) and run not in self._sweeping:
            self._sweeping.add(run)
            self._own(self._sweep(run))

    async def close(self) -> None:
        """Stop all of it; the marks stay."""
        tasks: list[asyncio.Task[Any]] = [
            *self._background,
            *(task for each in self._putting.values() for task in each),
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---------------------------------------------------------------------------------------------------- inside

    async def _put(self, run: Run, place: SharedStore, keys: Sequence[UnitKey]) -> set[UnitKey]:
        there: set[UnitKey] = set()
        large: list[tuple[UnitKey, Content]] = []
        batch: dict[UnitKey, bytes] = {}
        try:
            await self._mark(run)
            for key in keys:
                content = self._find(key)
                if content is None:
                    continue
                if content.size > TOGETHER_BYTES:
                    large.append((key, content))
                    continue
                data = content.data if content.data is not None else await asyncio.to_thread(content.file.read_bytes)
                if batch and (len(batch) == _BATCH or sum(map(len, batch.values())) + len(data) > _BATCH_BYTES):
                    there |= await self._put_batch(place, batch)
                    batch = {}
                batch[key] = data
            there |= await self._put_batch(place, batch)
            for stored in await asyncio.gather(*(self._put_large(place, key, content) for key, content in large)):
                there |= stored
        except (DataError, OSError) as error:
            _log.warning("units were not put into a shared place", place=place.place, error=str(error))
        return there

    async def _put_batch(self, place: SharedStore, batch: dict[UnitKey, bytes]) -> set[UnitKey]:
        try:
            if batch:
                await place.put_many({self._name(key): data for key, data in batch.items()})
        except SharedStoreError:
            return set()  # the place has told it, once
        return set(batch)

    async def _put_large(self, place: SharedStore, key: UnitKey, content: Content) -> set[UnitKey]:
        try:
            async with self._slots:
                await place.put(self._name(key), content.file)
        except (SharedStoreError, OSError):  # it may have been freed meanwhile
            return set()
        return {key}

    def _find(self, key: UnitKey) -> Content | None:
        """The unit's content, if it is here still."""
        try:
            return self._store.find(key)
        except DataError:
            return None

    def _name(self, key: UnitKey) -> str:
        return names.of_unit(key.namespace, key.run, self._cluster, key.unit)

    async def _delete(self, store: SharedStore, there: list[str]) -> None:
        try:
            await store.delete(there)
        except SharedStoreError as error:  # it is swept with its run
            _log.info("units are left in a shared place for now", place=store.place, error=str(error))

    async def _sweep(self, run: Run) -> None:
        try:
            while putting := self._putting.get(run):
                for task in putting:
                    task.cancel()
                await asyncio.wait(putting)
                await asyncio.sleep(0)
            prefix = names.of_run(*run, self._cluster)
            for place in self._places:
                await self._empty(place, prefix)
            await asyncio.to_thread(self._unmark, run)
        finally:
            self._sweeping.discard(run)

    async def _empty(self, place: SharedStore, prefix: str) -> None:
        tries = 0
        while True:
            try:
                await place.sweep(prefix)
                return
            except SharedStoreError as error:
                wait = _AGAIN_SECONDS[min(tries, len(_AGAIN_SECONDS) - 1)]
                _log.info("a shared place can't be swept for now", place=place.place, error=str(error), again_in=wait)
                tries += 1
                await asyncio.sleep(wait)

    async def _mark(self, run: Run) -> None:
        """Note that something of the run may lie in a place."""
        if run not in self._marked:
            await asyncio.to_thread(self._write_mark, run)
            self._marked.add(run)

    def _write_mark(self, run: Run) -> None:
        namespace = self._directory / path_part(run[0])
        namespace.mkdir(parents=True, exist_ok=True)
        (namespace / path_part(run[1])).touch()
        for directory in (namespace, self._directory):
            opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)

    def _unmark(self, run: Run) -> None:
        (self._directory / path_part(run[0]) / path_part(run[1])).unlink(missing_ok=True)
        self._marked.discard(run)

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
