"""Which task runs when, in which worker: the pure part of a node daemon.

Tasks wait in the order in which they came, each in the queue of its pool. A pool is the workers of one step version;
the coordinator says how many to keep. Where it has not said so yet one is started for each task that there is room
for, and stays for a while after it fell idle; else one, so that no task waits for ever, unless the pool is bounded.

The first task is *admitted* once the processors and the memory that its step asks for are free (a task that asks for
more than the node has is admitted alone), and no later one before it, so that a large task is not overtaken for ever.
Only where its pool has no worker to give, and may not start one, do tasks of other pools pass it. An admitted task
takes an idle worker, or one is started for it; whichever is free first. If there is no place for another worker it
makes do with those that its pool has: the pool is *full* for a while, which the coordinator is told, and what waits for
a worker in it is given back, for other nodes to take. Where workers hold what they ask for while they are idle, those
of other pools are stopped for one that is needed, and none is kept warm beyond what fits. But one that is the last of
its pool, or would only make room for a further one of another, is kept idle for as long as its start took: as a rule
its next task is about to come, and to stop and start workers by turns takes longer than what they do. Meanwhile tasks
of other pools pass the one that waits, though not for ever. A node that is *cordoned* gives back all that has not
begun. Built-in tasks need neither worker nor room.

Where a pool's tasks have been short and small of late, further light ones are *given ahead* to its busy workers, as
many as are done within some milliseconds: they need no processor but the one that the worker has. A worker that stops
half-way returns what it has not begun, which then waits in its old place. One that gets a single light task may do as
many more in a row behind it, where each is the only thing that follows from the one before: we hear of them when they
have ended, and of the one that it is at.

`handle(event, now)` returns actions; the executor does them and says what came of it. Results are kept until they are
acknowledged, so that they can be told again. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from cluster_agent.node.messages import (
    Abort,
    Action,
    Event,
    Execute,
    FailToStart,
    Forget,
    GiveBack,
    Given,
    Phase,
    PoolChanged,
    PoolSized,
    PoolSpec,
    ResultsAcked,
    ResultsKept,
    RoomChanged,
    RunEnded,
    SizesVoid,
    StartWorker,
    StopWorker,
    TaskCancelled,
    TaskKey,
    TasksEnded,
    TasksReturned,
    TasksWanted,
    TellAgain,
    Tick,
    WakeAt,
    WorkerFailed,
    WorkerGone,
    WorkerReady,
)
from cluster_agent.node.pool import Pool, Task, Worker

LINGER_SECONDS: Final = 15.0  # that a worker started on demand stays idle
TURN_STARTS: Final = (
    5.0  # times a start, for which a task waits until an idle worker of another pool makes room at last
)
FULL_SECONDS: Final = 10.0  # after which a pool for whose workers there was no place tries to have more, at first;
FULL_SECONDS_MOST: Final = 60.0  # after twice as many each time, up to this
_CORDONED: Final = "the node is cordoned: it takes no new tasks"
_ROUNDING: Final = 1e-9


class NodeCore:
    """The state of a node with `cpus` processors and `memory` bytes (0 = not counted).

    `held`: workers hold what their step asks for as long as they live, also without a task, as pods do.
    """

    def __init__(self, cpus: float, memory: int, *, held: bool = False) -> None:
        self._cpus = cpus
        self._memory = memory
        self._held = held
        self._cordoned = False
        self._full: dict[str, Pool] = {}  # pools for whose workers there was no place just now
        self._short: dict[str, Pool] = {}  # pools with more admitted tasks than workers for them are on their way
        self._used_cpus = 0.0
        self._used_memory = 0
        self._admitted = 0  # tasks without a worker, and workers with tasks, that use processors now
        self._tasks: dict[TaskKey, Task] = {}
        self._pools: dict[str, Pool] = {}
        self._queued: dict[str, Pool] = {}  # pools with a queue
        self._workers: dict[int, Worker] = {}
        self._built_in = 0  # tasks of the built-in kinds that are being executed
        self._arrivals = 0
        self._next_worker = 1
        self._wake_at = float("inf")
        self._actions: list[Action] = []
        self._now = 0.0

    # ------------------------------------------------------------------------------------------------- questions

    def phase(self, key: TaskKey) -> Phase | None:
        """Where an attempt is; None if it is not known, or not wanted any more."""
        task = self._tasks.get(key)
        return None if task is None or task.unwanted else task.phase

    def unfinished(self) -> Iterator[TaskKey]:
        """All wanted tasks that have no result yet."""
        return (
            key
            for key, task in self._tasks.items()
            if (task.again is not None if task.unwanted else task.phase is not Phase.DONE)
        )

    def counts(self, pool: str) -> tuple[int, int, int]:
        """Workers of a pool that start, are idle, are busy."""
        found = self._pools.get(pool)
        return (len(found.starting), len(found.idle), len(found.busy)) if found else (0, 0, 0)

    def knows(self, key: TaskKey) -> bool:
        """Whether an attempt was wanted, or has left a result, and was not forgotten."""
        return key in self._tasks

    def is_idle(self, worker: int) -> bool:
        """Whether a worker is up and has no task."""
        found = self._workers.get(worker)
        return found is not None and worker in found.pool.idle

    def workers(self) -> int:
        """All workers of all pools."""
        return len(self._workers)

    def running(self) -> int:
        """Tasks that are being executed."""
        return self._built_in + sum(len(pool.busy) for pool in self._pools.values())

    def has_queue(self, pool: str) -> bool:
        """Whether tasks of a pool wait for room here."""
        return pool in self._queued

    def is_large_enough(self, spec: PoolSpec) -> bool:
        """Whether the node, with nothing else on it, has room for a task."""
        return spec.cpus <= self._cpus + _ROUNDING and not 0 < self._memory < spec.memory

    def is_full(self, pool: str) -> bool:
        """Whether there is no place for another worker of a pool for now."""
        return pool in self._full

    # ------------------------------------------------------------------------------------------------------ events

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event in; what is to be done now, in order."""
        self._actions, self._now = [], now
        _TAKE[type(event)](self, event, now)
        for pool in list(self._short.values()):
            self._serve(pool, now)
            self._supply(pool)
            if len(pool.waiting) <= len(pool.starting):
                del self._short[pool.spec.key]
        if self._cordoned or self._full:
            self._give_back()
        if self._queued:
            self._admit(now)
        return self._actions

    def _want(self, event: TasksWanted, now: float) -> None:
        pool = self._pool(event.pool) if event.pool is not None else None
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
                pool.queue[wanted.key] = task
                self._queued[pool.spec.key] = pool

    def _cancel(self, event: TaskCancelled, _now: float) -> None:
        self._unwant(event.key)

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
        if task.phase is Phase.DONE:
            self._actions.append(Forget((key,)))
            return
        assert task.pool is not None
        if task.phase is Phase.ADMITTED:
            del task.pool.waiting[key]
            self._release(task.pool.spec)
        else:
            self._unqueue(task.pool, task)
        self._actions.append(Forget((key,)))

    def _end(self, event: TasksEnded, now: float) -> None:
        if event.worker is None:
            self._built_in -= len(event.keys)
        else:
            worker = self._workers[event.worker]
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
            self._left(worker, event.usable, now)
        for key in event.keys:
            task = self._tasks[key]
            if task.unwanted:
                self._drop(task, now)
            else:
                task.phase = Phase.DONE

    def _return(self, event: TasksReturned, now: float) -> None:
        worker = self._workers[event.worker]
        pool = worker.pool
        worker.closed = True
        if event.heavy:
            pool.was_large()
        for key in reversed(event.keys):
            del worker.tasks[key]
            task = self._tasks[key]
            if task.unwanted:
                self._drop(task, now)
                continue
            task.light = task.light and not event.heavy
            self._put_back(pool, task)
        self._left(worker, event.usable, now)

    def _left(self, worker: Worker, usable: bool, now: float) -> None:
        """Tasks have left a worker, which may be idle now, or is not to be used any more."""
        if worker.tasks:
            return
        pool = worker.pool
        del pool.busy[worker.number]
        self._release(pool.spec)
        if usable:
            worker.closed = False
            pool.idle[worker.number] = now
            self._wake_for(pool)
        else:
            del self._workers[worker.number]
            self._supply(pool)
        self._actions.append(PoolChanged(pool.spec.key))

    def _drop(self, task: Task, now: float) -> None:
        """A task that was not wanted any more has left the executor."""
        del self._tasks[task.key]
        self._actions.append(Forget((task.key,)))
        if task.again is not None:
            pool, wanted = task.again
            self._want(TasksWanted(pool, (wanted,)), now)

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

    def _end_run(self, event: RunEnded, _now: float) -> None:
        for key in [key for key in self._tasks if key[:2] == (event.namespace, event.run)]:
            self._unwant(key)

    def _size(self, event: PoolSized, _now: float) -> None:
        pool = self._pool(event.pool)
        pool.target, pool.bounded, pool.told, pool.broken = event.workers, event.bounded, True, False
        self._supply(pool)
        while pool.idle and pool.workers > pool.target:
            self._stop_oldest(pool)

    def _void(self, _event: SizesVoid, now: float) -> None:
        for pool in self._pools.values():
            pool.target, pool.bounded, pool.told = 0, False, False
            pool.idle = dict.fromkeys(pool.idle, now)  # what is needed is said again before they have lingered
            self._wake_for(pool)

    def _ready(self, event: WorkerReady, now: float) -> None:
        pool = self._workers[event.worker].pool
        pool.starting.remove(event.worker)
        pool.idle[event.worker] = now
        pool.broken = False
        pool.start_seconds = max(event.seconds, pool.start_seconds / 2)  # one that was there already starts in no time
        self._actions.append(PoolChanged(pool.spec.key, start_seconds=event.seconds))
        self._serve(pool, now)
        if pool.came_up():
            self._supply(pool)
        self._wake_for(pool)

    def _failed(self, event: WorkerFailed, now: float) -> None:
        pool = self._workers.pop(event.worker).pool
        pool.starting.remove(event.worker)
        pool.broken = True
        self._actions.append(PoolChanged(pool.spec.key, error=event.error))
        lacking = len(pool.waiting) > len(pool.starting)
        if event.no_room:
            if pool.full_until:
                self._give_back_of(pool, pool.why_full)  # what is refused together is refused once
                return
            seconds = min(FULL_SECONDS * 2 ** min(pool.refusals, 8), FULL_SECONDS_MOST)
            pool.refused(event.error.partition("\0")[0])
            if lacking and not pool.workers and self._made_way(pool):
                _, task = pool.waiting.popitem()  # the newest waits for what the others leave
                self._release(pool.spec)
                self._put_back(pool, task)
                return
            pool.full_until = now + seconds
            self._full[pool.spec.key] = pool
            self._give_back_of(pool, pool.why_full)
            self._wake_for(pool)
            return
        if not lacking:
            return
        key, task = pool.waiting.popitem(last=False)
        self._release(pool.spec)
        task.phase = Phase.DONE
        self._actions.append(FailToStart(key, event.error))

    def _gone(self, event: WorkerGone, _now: float) -> None:
        worker = self._workers.get(event.worker)
        if worker is None or event.worker not in worker.pool.idle:
            return
        del worker.pool.idle[event.worker]
        del self._workers[event.worker]
        worker.pool.broken = True
        self._actions.append(PoolChanged(worker.pool.spec.key))

    def _change_room(self, event: RoomChanged, _now: float) -> None:
        more = event.cpus > self._cpus or event.memory > self._memory or (self._cordoned and not event.cordoned)
        self._cpus, self._memory, self._cordoned = event.cpus, event.memory, event.cordoned
        if more:
            for pool in self._pools.values():
                self._has_room_again(pool)

    def _tick(self, _event: Tick, now: float) -> None:
        self._wake_at = float("inf")
        for pool in self._pools.values():
            if pool.full_until and pool.full_until <= now + _ROUNDING:
                pool.full_until = 0.0
                del self._full[pool.spec.key]
                self._actions.append(PoolChanged(pool.spec.key))
                self._supply(pool)
            while pool.idle and pool.workers > pool.target:
                if next(iter(pool.idle.values())) + LINGER_SECONDS > now + _ROUNDING:
                    break
                self._stop_oldest(pool)
            self._wake_for(pool)
        over = [pool for pool in self._pools.values() if not (pool.told or pool.workers or pool.waiting)]
        for pool in over:
            if pool.spec.key not in self._full and not any(task.pool is pool for task in self._tasks.values()):
                del self._pools[pool.spec.key]

    # -------------------------------------------------------------------------------------------------- going on

    def _admit(self, now: float) -> None:
        """Admit what can be admitted, give ahead what can be given ahead; the earliest first."""
        given: dict[int, list[Given]] = {}
        full: set[str] = set()
        while (pool := self._first_queue(full)) is not None:
            task = next(iter(pool.queue.values()))
            fits = self._fits(pool.spec)
            if fits and pool.has_room and self._has_way(pool, task):
                self._unqueue(pool, task)
                self._take(pool, task, now)
                continue
            worker = pool.with_time() if task.light else None
            if worker is None:
                if pool.has_room and not fits:
                    break  # no later task of any pool comes before it
                full.add(pool.spec.key)
                continue
            self._unqueue(pool, task)
            task.phase = Phase.GIVEN
            worker.tasks[task.key] = task
            given.setdefault(worker.number, []).append(Given(task.key, now - task.since, 0.0))
        for number, tasks in given.items():
            self._actions.append(Execute(number, tasks, small=True))

    def _has_way(self, pool: Pool, task: Task) -> bool:
        """Whether a task gets a worker as soon as there can be one, and no idle one of another pool is better kept."""
        if not self._held or len(pool.waiting) < len(pool.idle) + len(pool.starting) or self._fits_beside(pool.spec):
            return True
        idle = [other for other in self._pools.values() if other.idle and other is not pool]
        if not idle:
            return True
        goes_at = min(self._goes_at(other, pool, task) for other in idle)
        if goes_at <= self._now + _ROUNDING:
            return True
        self._wake_at_last(goes_at)
        return False

    def _goes_at(self, other: Pool, pool: Pool, task: Task) -> float:
        """When an idle worker of one pool makes room for one of another that a task waits for."""
        if (other.told and other.workers > other.target) or (other.workers > 1 and not pool.workers):
            return self._now
        idle_since = next(iter(other.idle.values()))
        return min(idle_since + other.start_seconds, task.since + TURN_STARTS * other.start_seconds)

    def _first_queue(self, full: set[str]) -> Pool | None:
        """The pool whose queue has the earliest task, among those that are not full."""
        first = None
        earliest = 0
        for name, pool in self._queued.items():
            if name not in full:
                arrival = next(iter(pool.queue.values())).arrival
                if first is None or arrival < earliest:
                    first, earliest = pool, arrival
        return first

    def _take(self, pool: Pool, task: Task, now: float) -> None:
        """Admit a task."""
        self._admitted += 1
        self._used_cpus += pool.spec.cpus
        self._used_memory += pool.spec.memory
        task.phase, task.admitted = Phase.ADMITTED, now
        pool.waiting[task.key] = task
        self._serve(pool, now)
        self._supply(pool)

    def _serve(self, pool: Pool, now: float) -> None:
        """Give idle workers to admitted tasks."""
        while pool.waiting and pool.idle:
            number, _ = pool.idle.popitem()
            key, task = pool.waiting.popitem(last=False)
            worker = pool.busy[number] = self._workers[number]
            worker.small = task.light and pool.small
            worker.tasks[key] = task
            task.phase = Phase.GIVEN
            given = Given(key, now - task.since, now - task.admitted)
            ahead = pool.depth - 1 if worker.small and not (pool.queue or pool.waiting) else 0
            self._actions.append(Execute(number, (given,), small=worker.small, ahead=ahead))
            self._actions.append(PoolChanged(pool.spec.key))

    def _supply(self, pool: Pool) -> None:
        """Start the workers that the pool should have."""
        if self._cordoned:
            return
        needed = len(pool.waiting) - len(pool.starting)
        wanted = needed if pool.broken or self._is_tight(pool) else max(needed, pool.target - pool.workers)
        for number in range(min(wanted, pool.most - pool.workers)):
            if self._held and not self._has_place(pool, needed=number < needed):
                break
            worker = Worker(self._next_worker, pool)
            self._next_worker += 1
            pool.starting.add(worker.number)
            self._workers[worker.number] = worker
            self._actions.append(StartWorker(worker.number, pool.spec))
            self._actions.append(PoolChanged(pool.spec.key))

    def _has_place(self, pool: Pool, *, needed: bool) -> bool:
        """Whether another worker fits beside those that there are; for one that is needed idle ones of others go."""
        while not self._fits_beside(pool.spec):
            if not needed:
                return False
            if self._yielded(pool) is None:
                self._short[pool.spec.key] = pool
                return False
        return True

    def _is_tight(self, pool: Pool) -> bool:
        """Whether another pool lacks room: then what that leaves is for its tasks, and no worker is warmed."""
        return self._held and any(other.lacks_room for other in self._pools.values() if other is not pool)

    def _made_way(self, pool: Pool) -> bool:
        """Stop idle workers of others, as many as hold what one of this pool asks for; whether there were any."""
        cpus, memory, stopped = pool.spec.cpus, pool.spec.memory, False
        while (cpus > _ROUNDING or memory > 0) and (gone := self._yielded(pool)) is not None:
            cpus, memory, stopped = cpus - gone.cpus, memory - gone.memory, True
        return stopped

    def _yielded(self, pool: Pool) -> PoolSpec | None:
        """Stop an idle worker of another pool, if they hold anything; what it was, if there was any."""
        idle = [other for other in self._pools.values() if other.idle and other is not pool]
        if not (self._held and idle):
            return None
        first = min(idle, key=lambda other: (other.workers <= other.target, next(iter(other.idle.values()))))
        self._stop_oldest(first)
        return first.spec

    def _fits_beside(self, spec: PoolSpec) -> bool:
        held = [worker.pool.spec for worker in self._workers.values()]
        if held and sum(each.cpus for each in held) + spec.cpus > self._cpus + _ROUNDING:
            return False
        return not (held and self._memory) or sum(each.memory for each in held) + spec.memory <= self._memory

    def _fits(self, spec: PoolSpec) -> bool:
        if self._admitted == 0:
            return True
        if self._used_cpus + spec.cpus > self._cpus + _ROUNDING:
            return False
        return not self._memory or self._used_memory + spec.memory <= self._memory

    def _release(self, spec: PoolSpec) -> None:
        self._admitted -= 1
        self._used_cpus = self._used_cpus - spec.cpus if self._admitted else 0.0
        self._used_memory -= spec.memory

    def _give_back(self) -> None:
        """Give back what can't be begun here: all of a cordoned node, and of full pools that have no worker at all."""
        if self._cordoned:
            for pool in self._pools.values():
                self._give_back_of(pool, _CORDONED)
        for pool in self._full.values():
            if not pool.workers:
                self._give_back_of(pool, pool.why_full)

    def _give_back_of(self, pool: Pool, why: str) -> None:
        """Give back all tasks of a pool but those that have a worker, or for which one is on its way."""
        tasks = []
        while len(pool.waiting) > len(pool.starting):
            tasks.append(pool.waiting.popitem()[1])
            self._release(pool.spec)
        while pool.queue:
            task = next(iter(pool.queue.values()))
            self._unqueue(pool, task)
            tasks.append(task)
        for task in tasks:
            task.phase = Phase.DONE
            self._actions.append(GiveBack(task.key, why))

    def _has_room_again(self, pool: Pool) -> None:
        if pool.refusals:
            pool.refusals, pool.step, pool.full_until, pool.broken = 0, 1, 0.0, False
            self._full.pop(pool.spec.key, None)
            self._actions.append(PoolChanged(pool.spec.key))
        self._supply(pool)

    def _put_back(self, pool: Pool, task: Task) -> None:
        """A task waits again, before all that came later."""
        task.phase = Phase.QUEUED
        pool.queue[task.key] = task
        pool.queue.move_to_end(task.key, last=False)
        self._queued[pool.spec.key] = pool

    def _unqueue(self, pool: Pool, task: Task) -> None:
        del pool.queue[task.key]
        if not pool.queue:
            del self._queued[pool.spec.key]

    def _pool(self, spec: PoolSpec) -> Pool:
        pool = self._pools.get(spec.key)
        if pool is None:
            pool = self._pools[spec.key] = Pool(spec)
        return pool

    def _stop_oldest(self, pool: Pool) -> None:
        number = next(iter(pool.idle))
        del pool.idle[number]
        del self._workers[number]
        self._actions.append(StopWorker(number))
        self._actions.append(PoolChanged(pool.spec.key))

    def _wake_for(self, pool: Pool) -> None:
        """See to it that a worker which lingers is stopped in time, and that a full pool is looked at again."""
        due = pool.full_until or float("inf")
        if pool.idle and pool.workers > pool.target:
            due = min(due, next(iter(pool.idle.values())) + LINGER_SECONDS)
        self._wake_at_last(due)

    def _wake_at_last(self, due: float) -> None:
        if due < self._wake_at:
            self._wake_at = due
            self._actions.append(WakeAt(due))


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
