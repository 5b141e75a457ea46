"""The coordinator's commands about data: open sources, fetch, expect, push and free units; and what came of them.

Each that takes time is an asyncio task that is known by what it is about, so that a command that is repeated finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import (
    ContentChangedError,
    DataError,
    NoDirectoryError,
    NotTakenError,
    UnitMissingError,
)
from cluster_agent.data.shared import names
from cluster_agent.data.shared.places import SharedPlaces
from cluster_agent.data.shared.taking import Taken, Taking, Wanted
from cluster_agent.data.source import resolve, resolve_directory
from cluster_agent.data.store import DiskStore
from cluster_agent.data.transfer.arrival import Arrived
from cluster_agent.data.transfer.arrivals import Arrivals
from cluster_agent.data.transfer.client import Source, TransferClient
from cluster_agent.node.cache import Cache
from cluster_agent.node.packing import keep_part
from cluster_agent.node.produced import produced
from cluster_agent.orders.messages import UnitInfo
from wire.digests import source_task_id, unit_id

PORT = "out"
_PUSHES_AT_ONCE = 8
_GONE = "it was not here any more as another line of its run was to have it"
_ADOPTED_AT_ONCE = 100
_About = tuple[str, str, object]  # namespace, run, and what in it
Follow = Callable[[UnitInfo], bool]  # goes on with a unit by itself, if it may


class DataWork:
    """All data work of the node that commands asked for."""

    def __init__(
        self,
        store: DiskStore,
        client: TransferClient,
        tell: Callable[[node_pb2.NodeMessage], None],
        places: SharedPlaces | None = None,
    ) -> None:
        self._store = store
        self._client = client
        self._tell = tell
        self._working: dict[_About, asyncio.Task[None]] = {}
        self._push_slots = asyncio.Semaphore(_PUSHES_AT_ONCE)
        self._places = places
        self._missed: dict[UnitKey, str] = {}  # a shared place did not give these, and why; they come otherwise
        self._orders: dict[UnitKey, node_pb2.FetchUnit] = {}  # of units that are on their way from a place
        self.taking = Taking(store, self._taken)
        self.cache = Cache(store)
        self.arrivals = Arrivals(store, client, self._arrived)
        self.data_root = Path("/nonexistent")  # until the agent's welcome

    def open(self, order: node_pb2.OpenSource, follow: Follow | None) -> None:
        """Make units of a dataset's part; what follows goes on with it, if it is a single one."""
        self._begin((order.namespace, order.run, (order.step, order.index)), self._open(order, follow))

    def fetch(self, order: node_pb2.FetchUnit) -> None:
        """Get a unit from a shared place, or another node; from nowhere: look whether it really is here."""
        key = unit_key(order.key)
        if not (order.addresses or order.place):
            self._begin((key.namespace, key.run, (key.unit, "")), self._check(order))
            return
        place = self._places.get(order.place) if self._places is not None and order.place else None
        if place is not None and not self._store.has(order.unit.digest):
            self._orders[key] = order
            name = names.of_unit(key.namespace, key.run, order.from_cluster, key.unit)
            self.taking.take(Wanted(key, order.unit.digest, order.unit.size, place, name))
        else:
            self._pull(order)

    def wanted(self) -> list[UnitKey]:
        """All units on their way or expected."""
        return [*self.arrivals.wanted(), *self.taking.wanted()]

    def _pull(self, order: node_pb2.FetchUnit) -> None:
        key = unit_key(order.key)
        sources = [Source(key, address, order.server_name) for address in order.addresses]
        self.arrivals.fetch(key, order.unit.digest, order.unit.size, sources)

    def expect(self, order: node_pb2.ExpectUnit) -> None:
        """Let a unit be pushed to here."""
        self._forget_place(unit_key(order.key))
        self.arrivals.expect(unit_key(order.key), order.unit.digest, order.unit.size, order.from_cluster)

    def push(self, order: node_pb2.PushUnit) -> None:
        """Push a unit to another node."""
        about = (order.key.namespace, order.key.run, (order.key.unit, order.address))
        self._begin(about, self._push(order))

    async def adopt(self, order: node_pb2.AdoptUnits) -> None:
        """Give units a name in another line of their run. That line counts on them: what is not here is told."""
        gone = []
        for count, unit in enumerate(order.units, 1):
            name = UnitKey(order.namespace, order.run, unit)
            try:
                known = UnitKey(order.namespace, order.from_run, unit)
                await self._store.bring([known])
                content = self._store.find(known)
                self._store.name(name, content.digest)
            except (DataError, OSError):
                if not self._store.holds(name):
                    gone.append(unit)
            if count % _ADOPTED_AT_ONCE == 0:
                await asyncio.sleep(0)
        if gone:
            told = node_pb2.UnitsDamaged(namespace=order.namespace, run=order.run, units=gone, why=_GONE)
            self._tell(node_pb2.NodeMessage(damaged=told))

    def take(self, order: node_pb2.TakeContents) -> None:
        """Make contents of the cache a task's result."""
        self._begin((order.namespace, order.run, (order.task, "cached")), self._take(order))

    async def free(self, keys: Iterable[UnitKey]) -> None:
        """Forget units, also those on their way."""
        known = list(keys)
        for key in known:
            self._forget_place(key)
            self.arrivals.forget(key)
        await self._store.free(known)

    async def stop_run(self, namespace: str, run: str) -> None:
        """Begin nothing more of a run."""
        ending = [task for about, task in self._working.items() if about[:2] == (namespace, run)]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def end_run(
        self, namespace: str, run: str, keep: Iterable[bytes], away: Iterable[bytes] = (), *, results: bool = True
    ) -> None:
        """Forget all of a run but the units in `keep`; those in `away` go to object storage. `results`: what is kept
        is the run's outputs."""
        await self.stop_run(namespace, run)
        for key in [key for key in (*self._orders, *self._missed) if key[:2] == (namespace, run)]:
            self._forget_place(key)
        self.arrivals.forget_run(namespace, run)
        await self._store.end_run(namespace, run, list(keep), frozenset(away), results=results)

    async def close(self) -> None:
        """Stop all of it."""
        tasks = list(self._working.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.taking.close()
        await self.arrivals.close()
        await self.cache.close()

    def _begin(self, about: _About, work: Coroutine[None, None, None]) -> None:
        if about in self._working:
            work.close()
            return
        task = self._working[about] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._working.pop(about, None))

    async def _open(self, order: node_pb2.OpenSource, follow: Follow | None) -> None:
        opened = node_pb2.SourceOpened(namespace=order.namespace, run=order.run, step=order.step, index=order.index)
        opened.asked = follow is not None
        opened.epoch = order.epoch
        task = source_task_id(order.namespace, order.run, order.step, order.index)
        try:
            if order.directory:
                opened.units.append(await self._whole(order, task))
            else:
                files = await asyncio.to_thread(resolve, self.data_root, order.path)
                for index, (name, path) in enumerate(files):
                    key = UnitKey(order.namespace, order.run, unit_id(task, PORT, index))
                    content = await self._store.reference(path, key)
                    opened.units.append(produced(task, PORT, index, content, name))
            await self._store.durable()
        except NoDirectoryError as error:
            opened.error = (
                f"{error}; spec.{order.step}.format is directory, so each part of the dataset must be one: "
                "name a directory there, or leave format out"
            )
        except (DataError, OSError) as error:
            opened.ClearField("units")
            opened.error = str(error)
        # No word of what follows can leave before this one, which is told in the same turn.
        opened.followed = follow is not None and len(opened.units) == 1 and follow(_info(opened.units[0].unit))
        self._tell(node_pb2.NodeMessage(source=opened))

    async def _whole(self, order: node_pb2.OpenSource, task: bytes) -> node_pb2.ProducedUnit:
        directory = await asyncio.to_thread(resolve_directory, self.data_root, order.path)
        key = UnitKey(order.namespace, order.run, unit_id(task, PORT, 0))
        content = await keep_part(directory, self._store, key)
        return produced(task, PORT, 0, content, Path(order.path).name)

    async def _check(self, order: node_pb2.FetchUnit) -> None:
        sound = await self._store.verify(unit_key(order.key), order.unit.digest)
        error = "" if sound else "its bytes are not in the store"
        self._tell(node_pb2.NodeMessage(fetched=node_pb2.FetchFinished(unit=order.key, error=error)))

    async def _take(self, order: node_pb2.TakeContents) -> None:
        taken = node_pb2.ContentsTaken(namespace=order.namespace, run=order.run, task=order.task)
        taken.found = await self.cache.take(order)
        self._tell(node_pb2.NodeMessage(taken=taken))

    async def _push(self, order: node_pb2.PushUnit) -> None:
        key = unit_key(order.key)
        error, gone = "", False
        try:
            async with self._push_slots:
                await self._store.bring([key])
                content = self._store.find(key)
                target = Source(key, order.address, order.server_name)
                await self._client.push(content, target)
        except (UnitMissingError, ContentChangedError, NotTakenError) as failure:
            error = str(failure)
            gone = not await self._store.verify(key, order.unit.digest)
        except (DataError, OSError) as failure:
            error = str(failure) or type(failure).__name__
        pushed = node_pb2.PushFinished(unit=order.key, error=error, address=order.address, gone=gone)
        self._tell(node_pb2.NodeMessage(pushed=pushed))

    def _taken(self, taken: Taken) -> None:
        order = self._orders.pop(taken.key, None)
        if order is None:
            return
        if taken.missed and order.addresses:
            self._missed[taken.key] = taken.error
            self._pull(order)
            return
        fetched = node_pb2.FetchFinished(
            unit=order.key,
            bytes=taken.bytes,
            seconds=taken.seconds,
            error=taken.error,
            shared=not taken.error,
            unshared=taken.missed,
        )
        self._tell(node_pb2.NodeMessage(fetched=fetched))

    def _forget_place(self, key: UnitKey) -> None:
        self._orders.pop(key, None)
        self._missed.pop(key, None)
        self.taking.forget(key)

    def _arrived(self, arrived: Arrived) -> None:
        key = arrived.key
        fetched = node_pb2.FetchFinished(
            unit=node_pb2.UnitKey(namespace=key.namespace, run=key.run, unit=key.unit),
            bytes=arrived.bytes,
            seconds=arrived.seconds,
            error=arrived.error,
            gone=arrived.gone,
            unshared=self._missed.pop(key, None) is not None,
        )
        self._tell(node_pb2.NodeMessage(fetched=fetched))


def unit_key(key: node_pb2.UnitKey) -> UnitKey:
    """The key of a unit as the store has it."""
    return UnitKey(key.namespace, key.run, key.unit)


def _info(unit: model_pb2.Unit) -> UnitInfo:
    return UnitInfo(unit.id, unit.digest, unit.size, name=unit.name)
