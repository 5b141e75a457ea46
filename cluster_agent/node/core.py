"""Which task runs when, in which worker: the pure part of a node daemon.

Tasks wait in one queue, in the order in which they came. The first is *admitted* once the processors and the memory
that its step asks for are free (a task that asks for more than the node has is admitted alone), and no later one before
it, so that a large task is not overtaken for ever. An admitted task takes an idle worker of its pool, or one is started
for it; whichever is free first. A pool is the workers of one step version; the coordinator says how many to keep, more
are started on demand, and those stay for a while after they fell idle. Built-in tasks need neither processor nor
worker.

`handle(event, now)` returns actions; the executor does them and says what came of it. Results are kept until they are
acknowledged, so that they can be told again. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cluster_agent.node.messages import (
    Abort,
    Action,
    Event,
    Execute,
    FailToStart,
    Forget,
    Phase,
    PoolChanged,
    PoolSized,
    PoolSpec,
    ResultsAcked,
    RunEnded,
    StartWorker,
    StopWorker,
    TaskCancelled,
    TaskEnded,
    TaskKey,
    TaskWanted,
    TellAgain,
    Tick,
    WakeAt,
    WorkerFailed,
    WorkerGone,
    WorkerReady,
)

LINGER_SECONDS = 15.0  # that a worker started on demand stays idle
_ROUNDING = 1e-9


@dataclass(slots=True)
class _Task:
    key: TaskKey
    pool: str | None
    since: float
    phase: Phase = Phase.QUEUED
    admitted: float = 0.0
    worker: int | None = None
    unwanted: bool = False  # told to be killed, which takes a moment
    again: TaskWanted | None = None  # wanted once more in that moment


@dataclass(slots=True)
class _Pool:
    spec: PoolSpec
    target: int = 0
    broken: bool = False  # the last worker did not start: none is warmed until somebody asks again
    starting: set[int] = field(default_factory=set)
    idle: dict[int, float] = field(default_factory=dict)  # worker -> idle since; the newest is last
    busy: dict[int, TaskKey] = field(default_factory=dict)
    waiting: dict[TaskKey, None] = field(default_factory=dict)  # admitted, without a worker yet

    @property
    def workers(self) -> int:
        return len(self.starting) + len(self.idle) + len(self.busy)


class NodeCore:
    """The state of a node with `cpus` processors and `memory` bytes (0 = not counted)."""

    def __init__(self, cpus: float, memory: int) -> None:
        self._cpus = cpus
        self._memory = memory
        self._used_cpus = 0.0
        self._used_memory = 0
        self._admitted = 0  # tasks that use processors now
        self._tasks: dict[TaskKey, _Task] = {}
        self._queue: dict[TaskKey, None] = {}
        self._pools: dict[str, _Pool] = {}
        self._worker_pool: dict[int, str] = {}
        self._next_worker = 1
        self._actions: list[Action] = []

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

    def workers(self) -> int:
        """All workers of all pools."""
        return len(self._worker_pool)

    def running(self) -> int:
        """Tasks that are being executed."""
        return sum(task.phase is Phase.RUNNING for task in self._tasks.values())

    # ------------------------------------------------------------------------------------------------------ events

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event in; what is to be done now, in order."""
        self._actions = []
        match event:
            case TaskWanted():
                self._want(event, now)
            case TaskCancelled():
                self._cancel(event.key)
            case TaskEnded():
                self._end(event, now)
            case ResultsAcked():
                for key in event.keys:
                    self._ack(key)
            case RunEnded():
                for key in [key for key in self._tasks if key[:2] == (event.namespace, event.run)]:
                    self._cancel(key)
            case PoolSized():
                pool = self._pool(event.pool)
                pool.target, pool.broken = event.workers, False
                self._warm(pool)
                self._stop_above(pool)
            case WorkerReady():
                self._ready(event, now)
            case WorkerFailed():
                self._failed(event)
            case WorkerGone():
                self._gone(event.worker)
            case Tick():
                self._collect(now)
        self._go_on(now)
        return self._actions

    def _want(self, event: TaskWanted, now: float) -> None:
        known = self._tasks.get(event.key)
        if known is not None:
            if known.phase is Phase.DONE:
                self._actions.append(TellAgain(event.key))
            elif known.unwanted:
                known.again = event
            return
        task = _Task(event.key, event.pool.key if event.pool else None, now)
        self._tasks[event.key] = task
        if event.pool is None:
            self._execute(task, None, now)
            return
        self._pool(event.pool).broken = False
        self._queue[event.key] = None

    def _cancel(self, key: TaskKey) -> None:
        task = self._tasks.get(key)
        if task is None:
            return
        if task.unwanted:
            task.again = None
            return
        if task.phase is Phase.RUNNING:
            task.unwanted = True
            self._actions.append(Abort(key))
            return
        if task.phase is Phase.DONE:
            self._actions.append(Forget(key))
        elif task.phase is Phase.ADMITTED:
            assert task.pool is not None
            del self._pools[task.pool].waiting[key]
            self._release(task)
        else:
            del self._queue[key]
        del self._tasks[key]

    def _end(self, event: TaskEnded, now: float) -> None:
        task = self._tasks[event.key]
        if task.pool is not None:
            self._release(task)
            pool = self._pools[task.pool]
            assert task.worker is not None
            del pool.busy[task.worker]
            if event.worker_usable:
                pool.idle[task.worker] = now
            else:
                del self._worker_pool[task.worker]
                self._warm(pool)
            self._actions.append(PoolChanged(task.pool))
        if task.unwanted:
            del self._tasks[event.key]
            if task.again:
                self._want(task.again, now)
            else:
                self._actions.append(Forget(event.key))
        else:
            task.phase = Phase.DONE

    def _ack(self, key: TaskKey) -> None:
        task = self._tasks.get(key)
        if task is not None and task.phase is Phase.DONE:
            del self._tasks[key]
            self._actions.append(Forget(key))

    def _ready(self, event: WorkerReady, now: float) -> None:
        pool = self._pools[self._worker_pool[event.worker]]
        pool.starting.remove(event.worker)
        pool.idle[event.worker] = now
        pool.broken = False
        self._actions.append(PoolChanged(pool.spec.key, start_seconds=event.seconds))

    def _failed(self, event: WorkerFailed) -> None:
        pool = self._pools[self._worker_pool.pop(event.worker)]
        pool.starting.remove(event.worker)
        pool.broken = True
        self._actions.append(PoolChanged(pool.spec.key, error=event.error))
        if len(pool.waiting) <= len(pool.starting):
            return
        key = next(iter(pool.waiting))
        del pool.waiting[key]
        task = self._tasks[key]
        self._release(task)
        task.phase = Phase.DONE
        self._actions.append(FailToStart(key, event.error))

    def _gone(self, worker: int) -> None:
        name = self._worker_pool.get(worker)
        if name is None or worker not in self._pools[name].idle:
            return
        pool = self._pools[name]
        del pool.idle[worker]
        del self._worker_pool[worker]
        pool.broken = True
        self._actions.append(PoolChanged(name))

    # -------------------------------------------------------------------------------------------------- going on

    def _go_on(self, now: float) -> None:
        """Admit what can be admitted and give idle workers to those who wait."""
        while self._queue:
            key = next(iter(self._queue))
            task = self._tasks[key]
            assert task.pool is not None
            pool = self._pools[task.pool]
            if not self._fits(pool.spec):
                break
            del self._queue[key]
            self._admitted += 1
            self._used_cpus += pool.spec.cpus
            self._used_memory += pool.spec.memory
            task.phase, task.admitted = Phase.ADMITTED, now
            pool.waiting[key] = None
        for pool in self._pools.values():
            for key in list(pool.waiting)[: len(pool.idle)]:
                worker, _ = pool.idle.popitem()
                del pool.waiting[key]
                pool.busy[worker] = key
                self._execute(self._tasks[key], worker, now)
                self._actions.append(PoolChanged(pool.spec.key))
            for _ in range(len(pool.waiting) - len(pool.starting)):
                self._start_worker(pool)
        self._schedule()

    def _execute(self, task: _Task, worker: int | None, now: float) -> None:
        task.phase, task.worker = Phase.RUNNING, worker
        starting = now - task.admitted if worker is not None else 0.0
        self._actions.append(Execute(task.key, worker, now - task.since, starting))

    def _fits(self, spec: PoolSpec) -> bool:
        if self._admitted == 0:
            return True
        if self._used_cpus + spec.cpus > self._cpus + _ROUNDING:
            return False
        return not self._memory or self._used_memory + spec.memory <= self._memory

    def _release(self, task: _Task) -> None:
        assert task.pool is not None
        spec = self._pools[task.pool].spec
        self._admitted -= 1
        self._used_cpus = self._used_cpus - spec.cpus if self._admitted else 0.0
        self._used_memory -= spec.memory

    def _pool(self, spec: PoolSpec) -> _Pool:
        return self._pools.setdefault(spec.key, _Pool(spec))

    def _start_worker(self, pool: _Pool) -> None:
        worker = self._next_worker
        self._next_worker += 1
        pool.starting.add(worker)
        self._worker_pool[worker] = pool.spec.key
        self._actions.append(StartWorker(worker, pool.spec))
        self._actions.append(PoolChanged(pool.spec.key))

    def _warm(self, pool: _Pool) -> None:
        if not pool.broken:
            for _ in range(pool.target - pool.workers):
                self._start_worker(pool)

    def _stop_above(self, pool: _Pool) -> None:
        while pool.idle and pool.workers > pool.target:
            self._stop_oldest(pool)

    def _stop_oldest(self, pool: _Pool) -> None:
        worker = next(iter(pool.idle))
        del pool.idle[worker]
        del self._worker_pool[worker]
        self._actions.append(StopWorker(worker))
        self._actions.append(PoolChanged(pool.spec.key))

    def _collect(self, now: float) -> None:
        for pool in self._pools.values():
            while pool.idle and pool.workers > pool.target:
                if next(iter(pool.idle.values())) + LINGER_SECONDS > now + _ROUNDING:
                    break
                self._stop_oldest(pool)
        for name in [name for name, pool in self._pools.items() if self._is_over(pool)]:
            del self._pools[name]

    def _is_over(self, pool: _Pool) -> bool:
        if pool.target or pool.workers or pool.waiting:
            return False
        return not any(task.pool == pool.spec.key for task in self._tasks.values())

    def _schedule(self) -> None:
        due = [
            next(iter(pool.idle.values())) + LINGER_SECONDS
            for pool in self._pools.values()
            if pool.idle and pool.workers > pool.target
        ]
        if due:
            self._actions.append(WakeAt(min(due)))
