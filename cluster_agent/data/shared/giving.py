"""What this node puts into shared places, and deletes there: for units of runs, in the directory of its cluster.

    put ─▶ a mark of the run on the disk, before its first unit ─▶ the place
    sweep, when the run is over ─▶ the directory is emptied in all places ─▶ the mark goes

A mark that is left tells the next life of the daemon, and through it the coordinator, that there may be something of a
run that is over. A place that is away is tried until it is swept. Outputs that lie in the bucket stay there when their
run is over, and so does the mark; they go when the coordinator says so, to whichever node (see `clear`).
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
        self._sweeping: dict[Run, frozenset[bytes]] = {}  # -> outputs that stay in the bucket
        self._slots = asyncio.Semaphore(_LARGE_AT_ONCE)

    def marked(self) -> list[Run]:
        """The runs of which something may lie in a place."""
        return list(self._marked)

    async def put(self, run: Run, place: SharedStore, keys: Sequence[UnitKey], *, source: str = "") -> set[UnitKey]:
        """Put units of a run into a place; those that are there then. Once the run is over, its outputs alone.

        `source`: what it is that they are copies of there.
        """
        if run in self._sweeping:
            keys = [key for key in keys if key.unit in self._sweeping[run] and place is self._places.objects]
        if not keys:
            return set()
        task = asyncio.create_task(self._copy(run, place, keys, source) if source else self._put(run, place, keys))
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

    async def clear(self, run: Run, place: str, units: Iterable[bytes] | None) -> None:
        """Delete units, or all that the cluster has put there for a run. SharedStoreError: not now."""
        store = self._places.get(place)
        if store is None:
            raise SharedStoreError(f"this node does not reach {place}")
        if units is None:
            await store.sweep(names.of_run(*run, self._cluster))
        else:
            await store.delete([names.of_unit(*run, self._cluster, unit) for unit in units])

    def sweep(self, run: Run, *, others: bool, keep: Iterable[bytes] = ()) -> None:
        """The run is over: what we have put there goes, but for `keep` in the bucket; with `others`, even if that was
        only other nodes."""
        if run in self._sweeping:
            self._sweeping[run] = frozenset(keep)
        elif self._places and (others or run in self._marked):
            self._sweeping[run] = frozenset(keep)
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

    async def _copy(self, run: Run, place: SharedStore, keys: Sequence[UnitKey], source: str) -> set[UnitKey]:
        try:
            await self._mark(run)
            for key in keys:
                await place.copy(source, self._name(key))
        except (DataError, OSError) as error:
            _log.warning("units were not copied in a shared place", place=place.place, error=str(error))
            return set()
        return set(keys)

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
            swept: frozenset[bytes] | None = None
            left = False
            while swept is not self._sweeping[run]:
                swept = self._sweeping[run]  # it may be another meanwhile
                await self._stop_putting(run)
                left = False
                for place in self._places:
                    left |= await self._empty(run, place, swept if place is self._places.objects else ())
            if not left:
                await asyncio.to_thread(self._unmark, run)
        finally:
            del self._sweeping[run]

    async def _stop_putting(self, run: Run) -> None:
        """What was being put when the run ended; from then on nothing is but what stays."""
        putting = list(self._putting.get(run, ()))
        for task in putting:
            task.cancel()
        if putting:
            await asyncio.wait(putting)

    async def _empty(self, run: Run, place: SharedStore, keep: Iterable[bytes]) -> bool:
        """Delete all of a run there but these units; whether one of them is there."""
        stay = {names.of_unit(*run, self._cluster, unit) for unit in keep}
        tries = 0
        while True:
            try:
                return await place.sweep(names.of_run(*run, self._cluster), stay)
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
