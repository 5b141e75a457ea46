"""Outputs of ended runs in the bucket of their cluster: there they outlive the disk of the node that put them there.

    the tier in object storage, or `copy` ─▶ put, under the unit's name ─▶ read again ─▶ told
    another node is to have what a lost one had ─▶ take_over: is it there? ─▶ a reference to it, and no bytes move

The names are those of units that a step's port shares while the run goes on; so what lies there already stays. An
object is there until the coordinator has it deleted, by whichever node: this one may be gone by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final

import structlog

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import DataError, UnitAwayError, UnitMissingError
from cluster_agent.data.shared import names
from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.errors import MissingError, SharedStoreError
from cluster_agent.data.shared.giving import Giving, Run
from cluster_agent.data.store import DiskStore
from wire.digests import bytes_digest

_AGAIN_SECONDS: Final = 30.0
_log = structlog.get_logger(__name__)


class Keeping:
    """What of `store` lies in `place`; `told` hears which units of a run do. `close` it at the end."""

    def __init__(
        self,
        store: DiskStore,
        giving: Giving,
        place: SharedStore,
        cluster: str,
        told: Callable[[Run, Sequence[bytes]], None],
    ) -> None:
        self._store = store
        self._giving = giving
        self._place = place
        self._cluster = cluster
        self._told = told
        self._wanted: dict[Run, dict[bytes, None]] = {}  # to be copied there
        self._copying: dict[Run, asyncio.Task[None]] = {}

    def name(self, key: UnitKey) -> str:
        """The object of a unit."""
        return names.of_unit(*key[:2], self._cluster, key.unit)

    async def put(self, keys: Sequence[UnitKey], content: Content, source: str = "") -> bool:
        """See `tiers.kept`."""
        for key in keys:
            if await self._has(key, content.digest):
                continue
            put = await self._giving.put(key[:2], self._place, [key], source=source)
            if key not in (content.names or ()):
                return True  # freed meanwhile, so that nobody needs it there
            if not put:
                raise SharedStoreError(f"{self._place.place} does not take {self.name(key)} for now")
            if not await self._has(key, content.digest):
                self._giving.delete(key[:2], self._place.place, [key.unit])
                return False
        self._told(keys[0][:2], [key.unit for key in keys])
        return True

    def there(self, run: Run, units: Sequence[bytes]) -> None:
        """See `tiers.kept`."""
        self._told(run, units)

    def copy(self, run: Run, units: Collection[bytes]) -> None:
        """See `tiers.kept`. What is freed before is left out."""
        self._wanted.setdefault(run, {}).update(dict.fromkeys(units))
        if run not in self._copying:
            task = self._copying[run] = asyncio.create_task(self._copy(run))
            task.add_done_callback(lambda _: self._copying.pop(run, None))

    async def take_over(self, key: UnitKey, digest: bytes, size: int) -> None:
        """Count as having a unit that lies there. MissingError: it does not; SharedStoreError: not now; OSError."""
        if self._store.name(key, digest):
            return
        name = self.name(key)
        if size <= self._store.small:
            data = await self._place.read(name)
            if bytes_digest(data) != digest:
                raise MissingError(f"{name} in {self._place.place} is not what was put there")
            self._store.put(key, data, digest)
        else:
            if await self._place.size(name) != size:
                raise MissingError(f"{name} in {self._place.place} is not what was put there")
            away = self._store.away
            assert away is not None  # it is the same bucket
            content = self._store.refer(key, Content(digest, size, away=name))
            content.cold = content.kept = True
            away.found([content])
        await self._store.durable()

    async def close(self) -> None:
        """Stop all of it; what is not there yet is asked for again when the agent is met again."""
        tasks = list(self._copying.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---------------------------------------------------------------------------------------------------- inside

    async def _has(self, key: UnitKey, digest: bytes) -> bool:
        try:
            return await self._place.digest(self.name(key)) == digest
        except MissingError:
            return False

    async def _copy(self, run: Run) -> None:
        while wanted := self._wanted.get(run):
            unit = next(iter(wanted))
            try:
                await self._copy_one(UnitKey(*run, unit))
            except (DataError, OSError) as error:
                _log.info("an output is not copied to object storage yet", run=run[1], error=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                wanted.pop(unit, None)
        self._wanted.pop(run, None)

    async def _copy_one(self, key: UnitKey) -> None:
        try:
            content = self._store.find(key)
        except (UnitMissingError, UnitAwayError):
            return
        try:
            there = await self._place.size(self.name(key)) == content.size
        except MissingError:
            there = False
        if not there and not await self._giving.put(key[:2], self._place, [key]):
            raise SharedStoreError(f"{self._place.place} does not take {self.name(key)} for now")
        self._told(key[:2], [key.unit])
