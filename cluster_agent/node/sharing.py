"""Which units of ended tasks go into shared places, and when.

    store: shared ─▶ put before the result is told, which says so: whoever hears of the unit can take it from there
    auto          ─▶ once the coordinator has the result, if the unit is here still, is not tiny, and other nodes reach
                     the Redis as well: so it survives this node, and others need not ask us for it

Results of a run are told in their order, also where the first of them waits for a place. A place that does not take a
unit delays nothing for long: the result is told without it. Units of built-in tasks are told while those run, and are
put like those of `auto`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Final

import msgspec

from bdw_fed.v1 import node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.giving import Giving, Run
from cluster_agent.data.shared.places import SharedPlaces
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.works import BUILT_IN, Assignment, Done
from cluster_agent.orders.messages import SMALL, Output, Result

SHARED: Final = "shared"
_AUTO: Final = ("", "auto")


class Sharing:
    """See the module. `tell` says what was put after it was told. `close` it at the end."""

    def __init__(self, places: SharedPlaces, giving: Giving, tell: Callable[[node_pb2.NodeMessage], None]) -> None:
        self._places = places
        self._giving = giving
        self._tell = tell
        self._others: frozenset[str] = frozenset()  # places that other nodes reach, too
        self._waiting: dict[Run, dict[TaskKey, Done]] = {}  # in order; their units are being put, or those before
        self._told: dict[TaskKey, list[tuple[UnitKey, SharedStore]]] = {}  # to be put once the result is acknowledged
        self._later: dict[tuple[Run, str], deque[UnitKey]] = {}
        self._background: set[asyncio.Task[None]] = set()

    def others_reach(self, places: Iterable[str]) -> None:
        """Other nodes of the cluster reach these places."""
        self._others = frozenset(places)

    def waiting(self) -> list[TaskKey]:
        """Tasks that have ended and can't be told yet."""
        return [key for tasks in self._waiting.values() for key in tasks]

    def share_first(self, tasks: Iterable[Done], then: Callable[[Iterable[Done]], None]) -> None:
        """Put what is to be in a place before it is told; `then` gets the tasks of each run in their order."""
        at_once: list[Done] = []
        for done in tasks:
            run = done.assignment.key[:2]
            queue = self._waiting.get(run)
            if queue is not None:
                queue[done.assignment.key] = done
            elif not self._first(done):
                at_once.append(done)
            else:
                self._waiting[run] = {done.assignment.key: done}
                self._own(self._share(run, then))
        if at_once:
            then(at_once)

    def told(self, task: Assignment, result: Result) -> None:
        """A result was told; some of its units may go into a place later."""
        later = []
        for output in result.outputs:
            place = self._place_later(task, output) if not output.place else None
            if place is not None:
                later.append((UnitKey(task.key.namespace, task.key.run, output.unit.id), place))
        if later:
            self._told[task.key] = later

    def forget(self, keys: Iterable[TaskKey]) -> None:
        """The coordinator has these results, or wants them no more."""
        for key in keys:
            self._waiting.get(key[:2], {}).pop(key, None)
            for unit, place in self._told.pop(key, ()):
                self._put_later(unit, place)

    async def close(self) -> None:
        """Stop all of it; what was not told is executed again."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---------------------------------------------------------------------------------------------------- inside

    def _first(self, done: Done) -> list[tuple[Output, SharedStore]]:
        """What of a task is put before it is told, and where."""
        work = done.assignment.work
        if work.kind in BUILT_IN or not any(port.store == SHARED for port in work.outputs):
            return []
        shared = {port.name for port in work.outputs if port.store == SHARED}
        found = ((output, self._places.for_content(output.unit.size)) for output in done.result.outputs)
        return [(output, place) for output, place in found if output.port in shared and place is not None]

    async def _share(self, run: Run, then: Callable[[Iterable[Done]], None]) -> None:
        """Put and tell what waits of a run, and what comes meanwhile."""
        try:
            while batch := list(self._waiting[run].values()):
                placed = await self._put_first(run, batch)
                going_on = [done for done in batch if self._waiting[run].pop(done.assignment.key, None) is done]
                then([_placed(done, placed) for done in going_on])
        finally:
            del self._waiting[run]

    async def _put_first(self, run: Run, batch: list[Done]) -> dict[bytes, str]:
        """The place of each unit that was put."""
        by_place: dict[str, tuple[SharedStore, list[UnitKey]]] = {}
        for done in batch:
            for output, place in self._first(done):
                by_place.setdefault(place.place, (place, []))[1].append(UnitKey(*run, output.unit.id))
        puts = [self._giving.put(run, place, keys) for place, keys in by_place.values()]
        there = await asyncio.gather(*puts)
        return {key.unit: name for name, keys in zip(by_place, there, strict=True) for key in keys}

    def _place_later(self, task: Assignment, output: Output) -> SharedStore | None:
        size = output.unit.size
        store = next((port.store for port in task.work.outputs if port.name == output.port), "")
        if store == SHARED and task.work.kind in BUILT_IN:
            return self._places.for_content(size)
        redis = self._places.redis
        auto = redis is not None and redis.place in self._others and SMALL < size <= redis.most
        return redis if store in _AUTO and auto else None

    def _put_later(self, unit: UnitKey, place: SharedStore) -> None:
        about = (unit[:2], place.place)
        queue = self._later.get(about)
        if queue is not None:
            queue.append(unit)
        else:
            self._later[about] = deque((unit,))
            self._own(self._put_queued(unit[:2], place))

    async def _put_queued(self, run: Run, place: SharedStore) -> None:
        about = (run, place.place)
        try:
            while queue := self._later[about]:
                units = list(queue)
                queue.clear()
                there = await self._giving.put(run, place, units)
                if there:
                    namespace, name = run
                    shared = node_pb2.UnitsShared(namespace=namespace, run=name, place=place.place)
                    shared.units.extend(key.unit for key in there)
                    self._tell(node_pb2.NodeMessage(shared=shared))
        finally:
            del self._later[about]

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _placed(done: Done, placed: dict[bytes, str]) -> Done:
    """The task, with the places of its units."""
    outputs = tuple(
        msgspec.structs.replace(output, place=placed.get(output.unit.id, "")) for output in done.result.outputs
    )
    return done._replace(result=msgspec.structs.replace(done.result, outputs=outputs))
