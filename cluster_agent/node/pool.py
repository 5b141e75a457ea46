"""The workers of one step version and the tasks that wait for them: the node core's records of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from cluster_agent.node.messages import Phase, PoolSpec, TaskKey, Wanted

_AHEAD_SECONDS: Final = 0.008  # of work that a worker has ahead, at most
_SHORT_SECONDS: Final = 0.005  # a task that takes longer has no other behind it
_MOST_AHEAD: Final = 64
_NEWEST: Final = 0.2  # what the newest tasks count in the measured time
_FORGIVEN: Final = 64  # tasks in a row that made nothing large: what a former one made counts no more
_UNTOLD: Final = 1 << 30
_ANY: Final = 1 << 30
_MOST_STEP: Final = 64


class Task:
    """A task that is known. `pool` is None for the built-in kinds; `again`: wanted once more while it is killed."""

    __slots__ = ("admitted", "again", "arrival", "key", "light", "phase", "pool", "since", "unwanted")

    def __init__(self, key: TaskKey, pool: Pool | None, light: bool, arrival: int, since: float) -> None:
        self.key = key
        self.pool = pool
        self.light = light
        self.arrival = arrival
        self.since = since
        self.phase = Phase.QUEUED
        self.admitted = 0.0
        self.unwanted = False
        self.again: tuple[PoolSpec | None, Wanted] | None = None


class Worker:
    """A worker, and the tasks that it was given: it is at the first."""

    __slots__ = ("closed", "number", "pool", "small", "tasks")

    def __init__(self, number: int, pool: Pool) -> None:
        self.number = number
        self.pool = pool
        self.tasks: dict[TaskKey, Task] = {}
        self.small = False  # they are small jobs
        self.closed = False  # gets no more before those that it has have ended


class Pool:
    """A pool. All of its queues are in the order in which tasks came."""

    __slots__ = (
        "bounded",
        "broken",
        "busy",
        "full_until",
        "idle",
        "queue",
        "refusals",
        "service",
        "small_ones",
        "spec",
        "start_seconds",
        "starting",
        "step",
        "target",
        "told",
        "waiting",
        "why_full",
    )

    def __init__(self, spec: PoolSpec) -> None:
        self.spec = spec
        self.target = 0
        self.told = False  # how many workers it shall have
        self.bounded = False
        self.broken = False  # the last worker did not start: none is warmed until somebody asks again
        self.full_until = 0.0  # there was no place for another worker: until then it makes do with those that it has
        self.start_seconds = 0.0  # that a worker took to start of late
        self.refusals = 0  # in a row
        self.step = _ANY  # how many may be on their way at a time: few after a refusal, more with each that comes up
        self.why_full = ""
        self.starting: set[int] = set()
        self.idle: dict[int, float] = {}  # worker -> idle since; the newest is last
        self.busy: dict[int, Worker] = {}
        self.queue: OrderedDict[TaskKey, Task] = OrderedDict()
        self.waiting: OrderedDict[TaskKey, Task] = OrderedDict()  # admitted, without a worker yet
        self.small_ones = _FORGIVEN - 1  # tasks in a row that were small; the first of all tells what the step is like
        self.service = 0.0  # seconds a task took of late

    @property
    def workers(self) -> int:
        """All, also those that start."""
        return len(self.starting) + len(self.idle) + len(self.busy)

    @property
    def most(self) -> int:
        """How many workers it may have."""
        if self.full_until:
            return self.workers
        most = _UNTOLD
        if self.told:
            most = self.target if self.bounded else max(self.target, 1)
        return min(most, len(self.idle) + len(self.busy) + self.step)

    @property
    def has_room(self) -> bool:
        """Whether there is, or may be, a worker for another task."""
        return len(self.waiting) < len(self.idle) + len(self.starting) or self.workers < self.most

    @property
    def lacks_room(self) -> bool:
        """Whether it wants a worker for which there was no place the last time."""
        return self.refusals > 0 and (bool(self.waiting or self.queue) or self.workers < self.target)

    @property
    def is_over(self) -> bool:
        """Whether nobody has asked for it, and nothing of it is left."""
        return not (self.told or self.workers or self.waiting or self.queue or self.full_until)

    def refused(self, why: str) -> None:
        """There was no place for another worker."""
        self.refusals += 1
        self.step, self.why_full = 1, why

    def came_up(self) -> bool:
        """There was; whether more may be tried now than before."""
        self.refusals = 0
        if self.step == _ANY:
            return False
        self.step = self.step + 1 if self.step < _MOST_STEP else _ANY  # twice as many each round
        return True

    def measure(self, seconds: float, small: bool) -> None:
        """A task has taken so long, and all that it made was `small`."""
        self.service += (seconds - self.service) * _NEWEST if self.service else seconds
        self.small_ones = self.small_ones + 1 if small else 0

    def was_large(self) -> None:
        """A task that looked light had a unit that is not small."""
        self.small_ones = 0

    @property
    def small(self) -> bool:
        """Whether light tasks go to its workers as small jobs: the step has made nothing large of late."""
        return self.small_ones >= _FORGIVEN

    @property
    def depth(self) -> int:
        """How many light tasks a worker may have."""
        if not self.small or self.service > _SHORT_SECONDS:
            return 1
        return min(_MOST_AHEAD, max(1, int(_AHEAD_SECONDS / max(self.service, 1e-6))))

    def with_time(self) -> Worker | None:
        """The worker that should have a light task ahead, if any should."""
        depth = self.depth
        best = None
        for worker in self.busy.values():
            if worker.small and not worker.closed and len(worker.tasks) < depth:
                depth, best = len(worker.tasks), worker
        return best
