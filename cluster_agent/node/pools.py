"""Which workers a node starts, keeps and stops: all of its pools, as the node core has them.

The coordinator says how many workers a pool shall have. Where it has not said so yet, one is started for each admitted
task, and stays for a while after it fell idle; else one, so that no task waits for ever, unless the pool is bounded.

    admitted task ─▶ an idle worker takes it, or one is started ─▶ busy ─▶ idle ─▶ next task, or stopped in the end

If there is no place for another worker, the pool is *full* for a while and makes do with those that it has. Where
workers hold what they ask for while they are idle, those of other pools are stopped for one that is needed, and none
is kept warm beyond what fits.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.node.capacity import ROUNDING, Capacity
from cluster_agent.node.messages import (
    Action,
    Execute,
    Given,
    Phase,
    PoolChanged,
    PoolSized,
    PoolSpec,
    StartWorker,
    StopWorker,
    WakeAt,
)
from cluster_agent.node.pool import Pool, Worker

LINGER_SECONDS: Final = 15.0  # that a worker started on demand stays idle


class Pools:
    """All pools and workers of a node. What is to be done with them is added to `actions`."""

    def __init__(self, capacity: Capacity, actions: list[Action]) -> None:
        self.known: dict[str, Pool] = {}
        self.full: dict[str, Pool] = {}  # those for whose workers there was no place just now
        self.short: dict[str, Pool] = {}  # with more admitted tasks than workers for them are on their way
        self.workers: dict[int, Worker] = {}
        self._capacity = capacity
        self._actions = actions
        self._next_worker = 1
        self._wake_at = float("inf")

    def of(self, spec: PoolSpec) -> Pool:
        """The pool of a step version, which is made if there is none."""
        pool = self.known.get(spec.key)
        if pool is None:
            pool = self.known[spec.key] = Pool(spec)
        return pool

    # ----------------------------------------------------------------------------------------- how many there are

    def size(self, event: PoolSized) -> None:
        """The coordinator says how many a pool shall have."""
        pool = self.of(event.pool)
        pool.target, pool.bounded, pool.told, pool.broken = event.workers, event.bounded, True, False
        self.supply(pool)
        while pool.idle and pool.workers > pool.target:
            self._stop_oldest(pool)

    def forget_sizes(self, now: float) -> None:
        """What the coordinator has said counts no more."""
        for pool in self.known.values():
            pool.target, pool.bounded, pool.told = 0, False, False
            pool.idle = dict.fromkeys(pool.idle, now)  # what is needed is said again before they have lingered
            self._wake_for(pool)

    def grown(self) -> None:
        """There is more room than before: what there was no place for is tried at once."""
        for pool in self.known.values():
            if pool.refusals:
                pool.refusals, pool.step, pool.full_until, pool.broken = 0, 1, 0.0, False
                self.full.pop(pool.spec.key, None)
                self._actions.append(PoolChanged(pool.spec.key))
            self.supply(pool)

    def tick(self, now: float) -> None:
        """Try full pools again, stop workers that have lingered, and forget pools that have nothing any more."""
        self._wake_at = float("inf")
        for pool in self.known.values():
            if pool.full_until and pool.full_until <= now + ROUNDING:
                pool.full_until = 0.0
                del self.full[pool.spec.key]
                self._actions.append(PoolChanged(pool.spec.key))
                self.supply(pool)
            while pool.idle and pool.workers > pool.target:
                if next(iter(pool.idle.values())) + LINGER_SECONDS > now + ROUNDING:
                    break
                self._stop_oldest(pool)
            self._wake_for(pool)
        for pool in [pool for pool in self.known.values() if pool.is_over]:
            del self.known[pool.spec.key]

    # ------------------------------------------------------------------------------------------ what becomes of them

    def came_up(self, number: int, seconds: float, now: float) -> None:
        """A worker that was to be started is there."""
        pool = self.workers[number].pool
        pool.starting.remove(number)
        pool.idle[number] = now
        pool.broken = False
        pool.start_seconds = max(seconds, pool.start_seconds / 2)  # one that was there already starts in no time
        self._actions.append(PoolChanged(pool.spec.key, start_seconds=seconds))
        self.serve(pool, now)
        if pool.came_up():
            self.supply(pool)
        self._wake_for(pool)

    def did_not_start(self, number: int, error: str, final: bool) -> Pool:
        """A worker that was to be started is not; its pool."""
        pool = self.workers.pop(number).pool
        pool.starting.remove(number)
        pool.broken = True
        self._actions.append(PoolChanged(pool.spec.key, error=error, final=final))
        return pool

    def make_do(self, pool: Pool, until: float) -> None:
        """There is no place for another worker of a pool: none is tried for so long."""
        pool.full_until = until
        self.full[pool.spec.key] = pool
        self._wake_for(pool)

    def died(self, number: int) -> None:
        """A worker died; one with a task tells so by the end of that."""
        worker = self.workers.get(number)
        if worker is None or number not in worker.pool.idle:
            return
        del worker.pool.idle[number]
        del self.workers[number]
        worker.pool.broken = True
        self._actions.append(PoolChanged(worker.pool.spec.key))

    def left(self, worker: Worker, usable: bool, now: float) -> None:
        """Tasks have left a worker, which may be idle now, or is not to be used any more."""
        if worker.tasks:
            return
        pool = worker.pool
        del pool.busy[worker.number]
        self._capacity.release(pool.spec)
        if usable:
            worker.closed = False
            pool.idle[worker.number] = now
            self._wake_for(pool)
        else:
            del self.workers[worker.number]
            self.supply(pool)
        self._actions.append(PoolChanged(pool.spec.key))

    # ------------------------------------------------------------------------------------------ for admitted tasks

    def serve(self, pool: Pool, now: float) -> None:
        """Give idle workers to admitted tasks."""
        while pool.waiting and pool.idle:
            number, _ = pool.idle.popitem()
            key, task = pool.waiting.popitem(last=False)
            worker = pool.busy[number] = self.workers[number]
            worker.small = task.light and pool.small
            worker.tasks[key] = task
            task.phase = Phase.GIVEN
            given = Given(key, now - task.since, now - task.admitted)
            ahead = pool.depth - 1 if worker.small and not (pool.queue or pool.waiting) else 0
            self._actions.append(Execute(number, (given,), small=worker.small, ahead=ahead))
            self._actions.append(PoolChanged(pool.spec.key))

    def supply(self, pool: Pool) -> None:
        """Start the workers that the pool should have."""
        if self._capacity.cordoned:
            return
        needed = len(pool.waiting) - len(pool.starting)
        wanted = needed if pool.broken or self._is_tight(pool) else max(needed, pool.target - pool.workers)
        for number in range(min(wanted, pool.most - pool.workers)):
            if self._capacity.held and not self._has_place(pool, needed=number < needed):
                break
            worker = Worker(self._next_worker, pool)
            self._next_worker += 1
            pool.starting.add(worker.number)
            self.workers[worker.number] = worker
            self._actions.append(StartWorker(worker.number, pool.spec))
            self._actions.append(PoolChanged(pool.spec.key))

    def serve_short(self, now: float) -> None:
        """Try again to have workers for the tasks that have been admitted and lacked some."""
        for pool in list(self.short.values()):
            self.serve(pool, now)
            self.supply(pool)
            if len(pool.waiting) <= len(pool.starting):
                del self.short[pool.spec.key]

    # -------------------------------------------------------------------------------------- where the idle hold room

    def fits_beside(self, spec: PoolSpec) -> bool:
        """Whether another worker fits beside all that there are."""
        return self._capacity.fits_beside((worker.pool.spec for worker in self.workers.values()), spec)

    def make_way(self, pool: Pool) -> bool:
        """Stop idle workers of others, as many as hold what one of this pool asks for; whether there were any."""
        cpus, memory, stopped = pool.spec.cpus, pool.spec.memory, False
        while (cpus > ROUNDING or memory > 0) and (gone := self._yielded(pool)) is not None:
            cpus, memory, stopped = cpus - gone.cpus, memory - gone.memory, True
        return stopped

    def _has_place(self, pool: Pool, *, needed: bool) -> bool:
        """Whether another worker fits beside those that there are; for one that is needed idle ones of others go."""
        while not self.fits_beside(pool.spec):
            if not needed:
                return False
            if self._yielded(pool) is None:
                self.short[pool.spec.key] = pool
                return False
        return True

    def _is_tight(self, pool: Pool) -> bool:
        """Whether another pool lacks room: then what that leaves is for its tasks, and no worker is warmed."""
        return self._capacity.held and any(other.lacks_room for other in self.known.values() if other is not pool)

    def _yielded(self, pool: Pool) -> PoolSpec | None:
        """Stop an idle worker of another pool, if they hold anything; what it was, if there was any."""
        idle = [other for other in self.known.values() if other.idle and other is not pool]
        if not (self._capacity.held and idle):
            return None
        first = min(idle, key=lambda other: (other.workers <= other.target, next(iter(other.idle.values()))))
        self._stop_oldest(first)
        return first.spec

    # ------------------------------------------------------------------------------------------------------- inside

    def _stop_oldest(self, pool: Pool) -> None:
        number = next(iter(pool.idle))
        del pool.idle[number]
        del self.workers[number]
        self._actions.append(StopWorker(number))
        self._actions.append(PoolChanged(pool.spec.key))

    def _wake_for(self, pool: Pool) -> None:
        """See to it that a worker which lingers is stopped in time, and that a full pool is looked at again."""
        due = pool.full_until or float("inf")
        if pool.idle and pool.workers > pool.target:
            due = min(due, next(iter(pool.idle.values())) + LINGER_SECONDS)
        self.wake_by(due)

    def wake_by(self, due: float) -> None:
        """See to it that there is a tick then at the latest."""
        if due < self._wake_at:
            self._wake_at = due
            self._actions.append(WakeAt(due))
