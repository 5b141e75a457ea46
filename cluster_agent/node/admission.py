"""Which of the tasks that wait are begun: the queue of a node, as the node core has it.

    queued ─▶ admitted: the room that its step asks for is its own ─▶ a worker (see `pools`)
       ├────▶ given ahead, to a worker that is busy with others of its kind
       └────▶ given back, where it can't be begun here

Tasks wait in the order in which they came, each in the queue of its pool. The first is admitted once there is room, and
no later one before it, so that a large task is not overtaken for ever. Only where its pool has no worker to give, and
may not start one, do tasks of other pools pass it.

Where idle workers hold room, one that is the last of its pool, or would only make room for a further one of another, is
kept for as long as its start took: as a rule its next task is about to come, and to stop and start workers by turns
takes longer than what they do. Meanwhile tasks of other pools pass the one that waits, though not for ever.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.node.capacity import ROUNDING, Capacity
from cluster_agent.node.messages import Action, Execute, FailToStart, GiveBack, Given, Phase
from cluster_agent.node.pool import Pool, Task
from cluster_agent.node.pools import Pools

# For so many times its start a task waits until an idle worker of another pool makes room at last.
TURN_STARTS: Final = 5.0
FULL_SECONDS: Final = 10.0  # after which a pool for whose workers there was no place tries to have more, at first;
FULL_SECONDS_MOST: Final = 60.0  # after twice as many each time, up to this
_CORDONED: Final = "the node is cordoned: it takes no new tasks"


class Admission:
    """The tasks that wait, for room or for a worker. What is to be done with them is added to `actions`."""

    def __init__(self, capacity: Capacity, pools: Pools, actions: list[Action]) -> None:
        self.queued: dict[str, Pool] = {}  # pools with a queue
        self._capacity = capacity
        self._pools = pools
        self._actions = actions

    # --------------------------------------------------------------------------------------------------- the queue

    def add(self, pool: Pool, task: Task) -> None:
        """A task waits, behind all others."""
        pool.queue[task.key] = task
        self.queued[pool.spec.key] = pool

    def put_back(self, pool: Pool, task: Task) -> None:
        """A task waits again, before all that came later."""
        task.phase = Phase.QUEUED
        pool.queue[task.key] = task
        pool.queue.move_to_end(task.key, last=False)
        self.queued[pool.spec.key] = pool

    def remove(self, pool: Pool, task: Task) -> None:
        """A task that has no worker yet waits no more."""
        if task.phase is Phase.ADMITTED:
            del pool.waiting[task.key]
            self._capacity.release(pool.spec)
        else:
            self._unqueue(pool, task)

    def _unqueue(self, pool: Pool, task: Task) -> None:
        del pool.queue[task.key]
        if not pool.queue:
            del self.queued[pool.spec.key]

    def _first_queue(self, passed: set[str]) -> Pool | None:
        """The pool whose queue has the earliest task, among those that are not passed."""
        first = None
        earliest = 0
        for name, pool in self.queued.items():
            if name not in passed:
                arrival = next(iter(pool.queue.values())).arrival
                if first is None or arrival < earliest:
                    first, earliest = pool, arrival
        return first

    # --------------------------------------------------------------------------------------------------- going on

    def admit(self, now: float) -> None:
        """Admit what can be admitted, give ahead what can be given ahead; the earliest first."""
        given: dict[int, list[Given]] = {}
        passed: set[str] = set()
        while (pool := self._first_queue(passed)) is not None:
            task = next(iter(pool.queue.values()))
            fits = self._capacity.fits(pool.spec)
            if fits and pool.has_room and self._has_way(pool, task, now):
                self._unqueue(pool, task)
                self._take(pool, task, now)
                continue
            worker = pool.with_time() if task.light else None
            if worker is None:
                if pool.has_room and not fits:
                    break  # no later task of any pool comes before it
                passed.add(pool.spec.key)
                continue
            self._unqueue(pool, task)
            task.phase = Phase.GIVEN
            worker.tasks[task.key] = task
            given.setdefault(worker.number, []).append(Given(task.key, now - task.since, 0.0))
        for number, tasks in given.items():
            self._actions.append(Execute(number, tasks, small=True))

    def _take(self, pool: Pool, task: Task, now: float) -> None:
        """Admit a task."""
        self._capacity.take(pool.spec)
        task.phase, task.admitted = Phase.ADMITTED, now
        pool.waiting[task.key] = task
        self._pools.serve(pool, now)
        self._pools.supply(pool)

    def _has_way(self, pool: Pool, task: Task, now: float) -> bool:
        """Whether a task gets a worker as soon as there can be one, and no idle one of another pool is better kept."""
        if not self._capacity.held or len(pool.waiting) < len(pool.idle) + len(pool.starting):
            return True
        if self._pools.fits_beside(pool.spec):
            return True
        idle = [other for other in self._pools.known.values() if other.idle and other is not pool]
        if not idle:
            return True
        goes_at = min(_goes_at(other, pool, task, now) for other in idle)
        if goes_at <= now + ROUNDING:
            return True
        self._pools.wake_by(goes_at)
        return False

    # ------------------------------------------------------------------------------------------- what can't be begun

    def lacks_worker(self, pool: Pool, error: str) -> None:
        """A worker of a pool could not start: the task that it was for has failed."""
        if len(pool.waiting) <= len(pool.starting):
            return
        key, task = pool.waiting.popitem(last=False)
        self._capacity.release(pool.spec)
        task.phase = Phase.DONE
        self._actions.append(FailToStart(key, error))

    def lacks_place(self, pool: Pool, why: str, now: float) -> None:
        """There was no place for a worker of a pool: others make way, or other nodes shall have its tasks."""
        if pool.full_until:
            self._give_back_of(pool, pool.why_full)  # what is refused together is refused once
            return
        seconds = min(FULL_SECONDS * 2 ** min(pool.refusals, 8), FULL_SECONDS_MOST)
        pool.refused(why)
        lacking = len(pool.waiting) > len(pool.starting)
        if lacking and not pool.workers and self._pools.make_way(pool):
            _, task = pool.waiting.popitem()  # the newest waits for what the others leave
            self._capacity.release(pool.spec)
            self.put_back(pool, task)
            return
        self._give_back_of(pool, pool.why_full)
        self._pools.make_do(pool, now + seconds)

    def give_back(self) -> None:
        """Give back what can't be begun here: all of a cordoned node, and of full pools that have no worker at all."""
        if self._capacity.cordoned:
            for pool in self._pools.known.values():
                self._give_back_of(pool, _CORDONED)
        for pool in self._pools.full.values():
            if not pool.workers:
                self._give_back_of(pool, pool.why_full)

    def _give_back_of(self, pool: Pool, why: str) -> None:
        """Give back all tasks of a pool but those that have a worker, or for which one is on its way."""
        tasks = []
        while len(pool.waiting) > len(pool.starting):
            tasks.append(pool.waiting.popitem()[1])
            self._capacity.release(pool.spec)
        while pool.queue:
            task = next(iter(pool.queue.values()))
            self._unqueue(pool, task)
            tasks.append(task)
        for task in tasks:
            task.phase = Phase.DONE
            self._actions.append(GiveBack(task.key, why))


def _goes_at(other: Pool, pool: Pool, task: Task, now: float) -> float:
    """When an idle worker of one pool makes room for one of another that a task waits for."""
    if (other.told and other.workers > other.target) or (other.workers > 1 and not pool.workers):
        return now
    idle_since = next(iter(other.idle.values()))
    return min(idle_since + other.start_seconds, task.since + TURN_STARTS * other.start_seconds)
