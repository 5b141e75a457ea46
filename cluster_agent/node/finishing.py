"""From a task's end to its telling: the result is written down, then told, and then the node goes on with what follows.

    done ─▶ a shared place, where its units go there ─▶ journal ─▶ flush, or a sync where power may fail ─▶ outbox
                                                             └▶ the tasks that follow, where the coordinator said so

Whether the node goes on is part of the result, so it is decided before, and done once the result is safe. Many ends are
written at once: those of one call, or all that come while the disk is busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.node.core import NodeCore
from cluster_agent.node.execution import FULL, is_full
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.sharing import Sharing
from cluster_agent.node.works import Assignment, Done, follower
from cluster_agent.orders.messages import Failure, Result


class _Ending(NamedTuple):
    done: Done
    following: list[Assignment]


class Finishing:
    """The ends of all tasks. `go_on` is given the tasks that follow."""

    def __init__(
        self,
        store: DiskStore,
        outbox: Outbox,
        core: NodeCore,
        go_on: Callable[[Sequence[Assignment]], None],
        sharing: Sharing | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._core = core
        self._go_on = go_on
        self._sharing = sharing
        self._held: set[tuple[str, str]] = set()
        self._unsafe: dict[TaskKey, _Ending] = {}  # not on the disk yet
        self._syncing: asyncio.Task[None] | None = None

    def hold(self, namespace: str, run: str, held: bool) -> None:
        """Whether the node must not go on by itself in a run."""
        (self._held.add if held else self._held.discard)((namespace, run))

    def holds(self, namespace: str, run: str) -> bool:
        """See `hold`."""
        return (namespace, run) in self._held

    def keys(self) -> Iterable[TaskKey]:
        """Of tasks that have ended and can't be told yet."""
        return (*self._unsafe, *(self._sharing.waiting() if self._sharing is not None else ()))

    def done(self, tasks: Iterable[Done]) -> None:
        """These have ended."""
        if self._sharing is not None:
            self._sharing.share_first(tasks, self._done)
        else:
            self._done(tasks)

    def _done(self, tasks: Iterable[Done]) -> None:
        endings = [self._ending(*done) for done in tasks]
        for ending in endings:
            key, result = ending.done.assignment.key, ending.done.result
            self._store.journal.result(key.namespace, key.run, result)
        if self._store.durability != "power" and self._is_flushed():
            self._tell(endings)
            return
        self._unsafe.update({ending.done.assignment.key: ending for ending in endings})
        if self._syncing is None:
            self._syncing = asyncio.create_task(self._sync())

    def _is_flushed(self) -> bool:
        try:
            self._store.flush()
        except OSError:  # which `_sync` sees to
            return False
        return True

    def forget(self, keys: Iterable[TaskKey]) -> None:
        """The coordinator has these results, or wants them no more."""
        self._outbox.forget(keys)
        if self._sharing is not None:
            self._sharing.forget(keys)
        runs: dict[tuple[str, str], list[tuple[bytes, int]]] = {}
        for key in keys:
            self._unsafe.pop(key, None)
            runs.setdefault((key.namespace, key.run), []).append((key.task, key.attempt))
        for (namespace, run), tasks in runs.items():
            self._store.journal.acked(namespace, run, tasks)

    async def close(self) -> None:
        """What is not safe yet is found again by the next daemon, or executed again."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.gather(self._syncing, return_exceptions=True)

    async def _sync(self) -> None:
        try:
            while self._unsafe:
                endings = list(self._unsafe.values())
                error = None
                try:
                    await self._store.durable()
                except OSError as failure:
                    error = failure
                    await self._store.free([key for ending in endings for key in _made(ending)])
                endings = [ending for ending in endings if self._unsafe.pop(ending.done.assignment.key, None) is ending]
                self._tell([self._unsaved(ending, error) for ending in endings] if error else endings)
        finally:
            self._syncing = None

    def _unsaved(self, ending: _Ending, error: OSError) -> _Ending:
        """The disk has not taken what a task made: that is not there any more, and the result says so."""
        task, result, _ = ending.done
        kind = FULL if is_full(error) else "disk"
        failure = result.failure or Failure(kind, f"the store could not be synced: {error}")
        failed = msgspec.structs.replace(result, outputs=(), failure=failure, bytes_out=0, followed=False)
        self._store.journal.result(task.key.namespace, task.key.run, failed)
        return _Ending(Done(task, failed), [])

    def _tell(self, endings: Sequence[_Ending]) -> None:
        following: list[Assignment] = []
        for (task, result, gone_on), after in endings:
            pool = task.work.pool
            goes_on = (
                gone_on
                or 0 < len(after) == len(result.outputs)
                or (pool is not None and self._core.has_queue(pool.key))
            )
            self._outbox.result(task.key, result, patient=goes_on)
            if self._sharing is not None:
                self._sharing.told(task, result)
            following += after
        if following:
            self._go_on(following)

    def _ending(self, task: Assignment, result: Result, gone_on: bool) -> _Ending:
        """The end of a task; with the tasks that follow, if the node is to go on."""
        work = task.work
        if gone_on:
            return _Ending(Done(task, msgspec.structs.replace(result, followed=True), True), [])
        if not work.follow or result.failure is not None or self.holds(work.namespace, work.run):
            return _Ending(Done(task, result), [])
        following = []
        for output in result.outputs:
            after = work.follow.get(output.port)
            if after is None:
                continue
            if after.pool is None or self._core.has_queue(after.pool.key) or not self._core.is_large_enough(after.pool):
                return _Ending(Done(task, result), [])
            following.append(follower(after, output.unit))
        return _Ending(Done(task, msgspec.structs.replace(result, followed=True)), following)


def _made(ending: _Ending) -> Iterator[UnitKey]:
    """What a task has put into the store."""
    task, result, _ = ending.done
    return (UnitKey(task.key.namespace, task.key.run, output.unit.id) for output in result.outputs)
