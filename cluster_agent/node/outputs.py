"""The coordinator's commands about outputs that lie in the bucket of the cluster, and what came of them.

    FetchUnit, `refer` ─▶ take over what another node has put there ─▶ FetchFinished
    UnshareUnits       ─▶ delete what nobody needs ─▶ UnitsUnshared, where that was asked for

Whether a place does not answer, or has not got a unit, makes the difference: the one is tried again, the other is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Final

from bdw_fed.v1 import node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import DataError
from cluster_agent.data.shared.errors import MissingError, SharedStoreError
from cluster_agent.data.shared.giving import Giving, Run
from cluster_agent.data.shared.keeping import Keeping
from cluster_agent.data.shared.places import SharedPlaces
from cluster_agent.data.store import DiskStore

_AT_ONCE: Final = 8


class SharedOutputs:
    """See the module. `close` it at the end; what was not answered is asked again."""

    def __init__(
        self,
        store: DiskStore,
        giving: Giving,
        places: SharedPlaces,
        cluster: str,
        tell: Callable[[node_pb2.NodeMessage], None],
    ) -> None:
        self._giving = giving
        self._tell = tell
        self._place = places.objects
        self._keeping: Keeping | None = None
        if places.objects is not None and store.away is not None:
            self._keeping = store.away.kept = Keeping(store, giving, places.objects, cluster, self._put)
        self._background: set[asyncio.Task[None]] = set()
        self._referring: dict[UnitKey, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def refer(self, order: node_pb2.FetchUnit) -> None:
        """Take over a unit that lies in the bucket."""
        key = UnitKey(order.key.namespace, order.key.run, order.key.unit)
        if key not in self._referring:
            task = self._referring[key] = self._own(self._refer(key, order))
            task.add_done_callback(lambda _: self._referring.pop(key, None))

    async def forget(self, keys: Iterable[UnitKey]) -> None:
        """These are not wanted here any more."""
        ending = [task for key in keys if (task := self._referring.get(key)) is not None]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)

    async def forget_run(self, namespace: str, run: str, keep: Collection[bytes]) -> None:
        """Nothing of the run is wanted here any more but these units."""
        await self.forget([key for key in self._referring if key[:2] == (namespace, run) and key.unit not in keep])

    def unshare(self, order: node_pb2.UnshareUnits) -> None:
        """Delete units, or all of a run, in a place."""
        if order.answer:
            self._own(self._unshare(order))
        else:
            self._giving.delete((order.namespace, order.run), order.place, order.units)

    async def close(self) -> None:
        """Stop all of it."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._keeping is not None:
            await self._keeping.close()

    def _put(self, run: Run, units: Sequence[bytes]) -> None:
        """Units of a run lie in the bucket."""
        assert self._place is not None
        told = node_pb2.UnitsShared(namespace=run[0], run=run[1], place=self._place.place, units=units)
        self._tell(node_pb2.NodeMessage(shared=told))

    async def _refer(self, key: UnitKey, order: node_pb2.FetchUnit) -> None:
        told = node_pb2.FetchFinished(unit=order.key, shared=True)
        try:
            if self._keeping is None or self._place is None or order.place != self._place.place:
                raise SharedStoreError(f"this node does not reach {order.place}")
            async with self._slots:
                await self._keeping.take_over(key, order.unit.digest, order.unit.size)
        except MissingError as error:
            told.error, told.shared, told.unshared, told.gone = str(error), False, True, True
        except SharedStoreError as error:
            told.error, told.shared, told.unshared = str(error), False, True
        except (DataError, OSError) as error:
            told.error, told.shared = str(error), False
        self._tell(node_pb2.NodeMessage(fetched=told))

    async def _unshare(self, order: node_pb2.UnshareUnits) -> None:
        told = node_pb2.UnitsUnshared(
            namespace=order.namespace, run=order.run, place=order.place, units=order.units, all=order.all
        )
        try:
            async with self._slots:
                await self._giving.clear((order.namespace, order.run), order.place, None if order.all else order.units)
        except DataError as error:
            told.error = str(error)
        self._tell(node_pb2.NodeMessage(unshared=told))

    def _own(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
