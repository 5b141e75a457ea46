"""Which task runs when, in which worker: the pure part of a node daemon.

    handle(event, now) ─▶ what the event says: of tasks here, of workers in `pools`, of room in `capacity`
                       ─▶ what can't be begun here is given back, what can be is begun: `admission`
                       ─▶ actions, in order

A task waits in the queue of its pool, which is the workers of one step version. It is *admitted* once there is room for
it, and *given* to a worker; then it ends, and its result is *done* until it is acknowledged, so that it can be told
again. Built-in tasks need neither worker nor room. A node that is *cordoned* gives back all that has not begun.

Where a pool's tasks have been short and small of late, further light ones are *given ahead* to its busy workers, as
many as are done within some milliseconds: they need no processor but the one that the worker has. A worker that stops
half-way returns what it has not begun, which then waits in its old place. One that gets a single light task may do as
many more in a row behind it, where each is the only thing that follows from the one before: we hear of them when they
have ended, and of the one that it is at.

The executor does what the actions say, and says what came of it. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from cluster_agent.node.admission import Admission
from cluster_agent.node.capacity import Capacity
from cluster_agent.node.messages import (
    Abort,
    Action,
    Event,
    Execute,
    Forget,
    Given,
    Phase,
    PoolSized,
    PoolSpec,
    ResultsAcked,
    ResultsKept,
    RoomChanged,
    RunEnded,
    SizesVoid,
    TaskCancelled,
    TaskKey,
    TasksEnded,
    TasksReturned,
    TasksWanted,
    TellAgain,
    Tick,
    WorkerFailed,
    WorkerGone,
    WorkerReady,
)
from cluster_agent.node.pool import Task
from cluster_agent.node.pools import Pools


class NodeCore:
    """The state of a node with `cpus` processors and `memory` bytes; for `held` see Capacity."""

    def __init__(self, cpus: float, memory: int, *, held: bool = False) -> None:
        self._actions: list[Action] = []  # of the event that is being handled
        self._capacity = Capacity(cpus, memory, held=held)
        self._pools = Pools(self._capacity, self._actions)
        self._admission = Admission(self._capacity, self._pools, self._actions)
        self._tasks: dict[TaskKey, Task] = {}
        self._built_in = 0  # tasks of the built-in kinds that are being executed
        self._arrivals = 0

    # ------------------------------------------------------------------------------------------------- questions

    def phase(self, key: TaskKey) -> Phase | None:
        """Where an attempt is; None if it is not known, or not wanted any more."""
        task = self._tasks.get(key)
        return None if task is None or task.unwanted else task.phase

    def wants(self, key: TaskKey) -> bool:
        """Whether an attempt was wanted and is still, also where it is done."""
        task = self._tasks.get(key)
        return task is not None and not task.unwanted

    def unfinished(self) -> Iterator[TaskKey]:
        """All wanted tasks that have no result yet."""
        return (
            key
            for key, task in self._tasks.items()
            if (task.again is not None if task.unwanted else task.phase is not Phase.DONE)
        )

    def counts(self, pool: str) -> tuple[int, int, int]:
        """Workers of a pool that start, are idle, are busy."""
        found = self._pools.known.get(pool)
        return (len(found.starting), len(found.idle), len(found.busy)) if found else (0, 0, 0)

    def knows(self, key: TaskKey) -> bool:
        """Whether an attempt was wanted, or has left a result, and was not forgotten."""
        return key in self._tasks

    def is_idle(self, worker: int) -> bool:
        """Whether a worker is up and has no task."""
        found = self._pools.workers.get(worker)
        return found is not None and worker in found.pool.idle

    def workers(self) -> int:
        """All workers of all pools."""
        return len(self._pools.workers)

    def running(self) -> int:
        """Tasks that are being executed."""
        return self._built_in + sum(len(pool.busy) for pool in self._pools.known.values())

    def has_queue(self, pool: str) -> bool:
        """Whether tasks of a pool wait for room here."""
        return pool in self._admission.queued

    def is_large_enough(self, spec: PoolSpec) -> bool:
        """Whether the node, with nothing else on it, has room for a task."""
        return self._capacity.is_large_enough(spec)

    def is_full(self, pool: str) -> bool:
        """Whether there is no place for another worker of a pool for now."""
        return pool in self._pools.full

    # ------------------------------------------------------------------------------------------------------ events

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event in; what is to be done now, in order."""
        self._actions.clear()
        _TAKE[type(event)](self, event, now)
        if self._pools.short:
            self._pools.serve_short(now)
        if self._capacity.cordoned or self._pools.full:
            self._admission.give_back()
        if self._admission.queued:
            self._admission.admit(now)
        return self._actions.copy()

    def _want(self, event: TasksWanted, now: float) -> None:
        pool = self._pools.of(event.pool) if event.pool is not None else None
        if pool is not None:
            pool.broken = False
        for wanted in event.tasks:
            known = self._tasks.get(wanted.key)
            if known is not None:
                if known.phase is Phase.DONE:
                    self._actions.append(TellAgain(wanted.key))
                elif known.unwanted:
                    known.again = (event.pool, wanted)
                continue
            self._arrivals += 1
            task = self._tasks[wanted.key] = Task(wanted.key, pool, wanted.light, self._arrivals, now)
            if pool is None:
                task.phase = Phase.GIVEN
                self._built_in += 1
                self._actions.append(Execute(None, (Given(wanted.key, 0.0, 0.0),)))
            else:
                self._admission.add(pool, task)

    # ------------------------------------------------------------------------------------------- what is not wanted

    def _cancel(self, event: TaskCancelled, _now: float) -> None:
        self._unwant(event.key)

    def _end_run(self, event: RunEnded, _now: float) -> None:
        for key in [key for key in self._tasks if key[:2] == (event.namespace, event.run)]:
            self._unwant(key)

    def _unwant(self, key: TaskKey) -> None:
        task = self._tasks.get(key)
        if task is None:
            return
        if task.unwanted:
            task.again = None
            return
        if task.phase is Phase.GIVEN:
            task.unwanted = True
            self._actions.append(Abort(key))
            return
        del self._tasks[key]
        if task.phase is not Phase.DONE:
            assert task.pool is not None
            self._admission.remove(task.pool, task)
        self._actions.append(Forget((key,)))

    def _drop(self, task: Task, now: float) -> None:
        """A task that was not wanted any more has left the executor."""
        del self._tasks[task.key]
        self._actions.append(Forget((task.key,)))
        if task.again is not None:
            pool, wanted = task.again
            self._want(TasksWanted(pool, (wanted,)), now)

    # ----------------------------------------------------------------------------------------- what the executor says

    def _end(self, event: TasksEnded, now: float) -> None:
        if event.worker is None:
            self._built_in -= len(event.keys)
        else:
            worker = self._pools.workers[event.worker]
            for key in event.keys:
                del worker.tasks[key]
            if event.seconds or event.small:
                worker.pool.measure(event.seconds / (len(event.keys) + len(event.ahead)), event.small)
            for key in event.ahead:
                self._tasks[key] = Task(key, worker.pool, True, 0, now)
                self._tasks[key].phase = Phase.DONE
            if event.at is not None:
                self._arrivals += 1
                task = self._tasks[event.at] = Task(event.at, worker.pool, True, self._arrivals, now)
                task.phase = Phase.GIVEN
                worker.tasks = {event.at: task, **worker.tasks}
            self._pools.left(worker, event.usable, now)
        for key in event.keys:
            task = self._tasks[key]
            if task.unwanted:
                self._drop(task, now)
            else:
                task.phase = Phase.DONE

    def _return(self, event: TasksReturned, now: float) -> None:
        worker = self._pools.workers[event.worker]
        worker.closed = True
        if event.heavy:
            worker.pool.was_large()
        for key in reversed(event.keys):
            del worker.tasks[key]
            task = self._tasks[key]
            if task.unwanted:
                self._drop(task, now)
                continue
            task.light = task.light and not event.heavy
            self._admission.put_back(worker.pool, task)
        self._pools.left(worker, event.usable, now)

    def _keep(self, event: ResultsKept, now: float) -> None:
        for key in event.keys:
            task = self._tasks[key] = Task(key, None, False, 0, now)
            task.phase = Phase.DONE

    def _ack(self, event: ResultsAcked, _now: float) -> None:
        gone = []
        for key in event.keys:
            task = self._tasks.get(key)
            if task is not None and task.phase is Phase.DONE:
                del self._tasks[key]
                gone.append(key)
        self._actions.append(Forget(gone))

    # ----------------------------------------------------------------------------------------------------- workers

    def _size(self, event: PoolSized, _now: float) -> None:
        self._pools.size(event)

    def _void(self, _event: SizesVoid, now: float) -> None:
        self._pools.forget_sizes(now)

    def _ready(self, event: WorkerReady, now: float) -> None:
        self._pools.came_up(event.worker, event.seconds, now)

    def _failed(self, event: WorkerFailed, now: float) -> None:
        pool = self._pools.did_not_start(event.worker, event.error, event.final)
        if event.no_room:
            self._admission.lacks_place(pool, event.error.partition("\0")[0], now)
        else:
            self._admission.lacks_worker(pool, event.error)

    def _gone(self, event: WorkerGone, _now: float) -> None:
        self._pools.died(event.worker)

    def _change_room(self, event: RoomChanged, _now: float) -> None:
        if self._capacity.change(event.cpus, event.memory, event.cordoned):
            self._pools.grown()

    def _tick(self, _event: Tick, now: float) -> None:
        self._pools.tick(now)


_TAKE: Final[Mapping[type, Callable[[NodeCore, Any, float], None]]] = {
    TasksWanted: NodeCore._want,
    TaskCancelled: NodeCore._cancel,
    TasksEnded: NodeCore._end,
    TasksReturned: NodeCore._return,
    ResultsKept: NodeCore._keep,
    ResultsAcked: NodeCore._ack,
    RunEnded: NodeCore._end_run,
    PoolSized: NodeCore._size,
    WorkerReady: NodeCore._ready,
    WorkerFailed: NodeCore._failed,
    WorkerGone: NodeCore._gone,
    SizesVoid: NodeCore._void,
    RoomChanged: NodeCore._change_room,
    Tick: NodeCore._tick,
}
