"""The node's pure core: whatever comes in whatever order, nothing is used twice and no task is lost."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster_agent.node import messages
from cluster_agent.node.admission import FULL_SECONDS_MOST
from cluster_agent.node.core import NodeCore
from cluster_agent.node.messages import PoolSpec, TaskKey
from cluster_agent.node.pools import LINGER_SECONDS
from tests.node.events import key

CPUS, MEMORY = 3.0, 1000
POOLS = [
    PoolSpec("a", "a@1"),
    PoolSpec("b", "b@1", cpus=2.0, memory=600),
    PoolSpec("big", "big@1", cpus=9.0, memory=9000),
]


class Node(RuleBasedStateMachine):
    """An executor that does what the core says, in any order and with any outcome."""

    def __init__(self) -> None:
        super().__init__()
        self.core = NodeCore(CPUS, MEMORY)
        self.now = 0.0
        self.starting: dict[int, PoolSpec] = {}
        self.idle: dict[int, PoolSpec] = {}
        self.busy: dict[int, PoolSpec] = {}
        self.given: dict[int | None, list[TaskKey]] = {None: []}  # what each worker has, in order
        self.ahead: set[int] = set()  # workers with small jobs
        self.aborted: set[TaskKey] = set()
        self.wanted: dict[TaskKey, PoolSpec | None] = {}
        self.results: set[TaskKey] = set()
        self.bounds: dict[str, int] = {}
        self.rows: dict[TaskKey, int] = {}  # tasks that so many others may follow in their worker
        self.followers = 0
        self.wake_at = float("inf")

    @property
    def executing(self) -> set[TaskKey]:
        return {task for tasks in self.given.values() for task in tasks}

    def do(self, event: messages.Event) -> None:
        for action in self.core.handle(event, self.now):
            match action:
                case messages.StartWorker(worker, pool):
                    assert worker not in self.starting | self.idle | self.busy
                    self.starting[worker] = pool
                    all_workers = [*self.starting.values(), *self.idle.values(), *self.busy.values()]
                    assert all_workers.count(pool) <= self.bounds.get(pool.key, 99)
                case messages.StopWorker(worker):
                    del self.idle[worker]
                case messages.Execute(worker, tasks, small, ahead):
                    assert not ahead or (small and len(tasks) == 1)
                    for task, _, _ in tasks:
                        self._execute(task, worker, small)
                    if ahead:
                        assert self.given[worker] == [tasks[0].key]
                        self.rows[tasks[0].key] = ahead
                case messages.Abort(task):
                    assert task in self.executing
                    self.aborted.add(task)
                case messages.FailToStart(task) | messages.GiveBack(task):
                    assert task not in self.executing
                    assert task in self.wanted
                    self.results.add(task)
                case messages.TellAgain(task):
                    assert task in self.results
                case messages.Forget(tasks):
                    self.results.difference_update(tasks)
                case messages.WakeAt(at):
                    assert at <= self.now + max(LINGER_SECONDS, FULL_SECONDS_MOST)
                    self.wake_at = min(self.wake_at, at)

    def _execute(self, task: TaskKey, worker: int | None, small: bool) -> None:
        assert task not in self.executing
        if worker is not None:
            pool = self.wanted[task]
            assert pool is not None
            if worker in self.idle:
                assert self.idle[worker] == pool, "a worker of the pool that is free"
                self.busy[worker] = self.idle.pop(worker)
                self.given[worker] = []
                self.ahead.discard(worker)
                if small:
                    self.ahead.add(worker)
            else:
                assert self.busy[worker] == pool
                assert small, "only a light task is given ahead"
                assert worker in self.ahead, "and only behind others"
        self.given[worker].append(task)

    @rule(
        numbers=st.lists(st.integers(0, 9), min_size=1, unique=True),
        run=st.sampled_from(["run1", "run2"]),
        pool=st.sampled_from([None, *POOLS]),
        light=st.booleans(),
    )
    def want(self, numbers: list[int], run: str, pool: PoolSpec | None, light: bool) -> None:
        tasks = []
        for number in numbers:
            task = key(number, run)
            if self.wanted.get(task, pool) != pool:
                continue
            if task in self.executing and task not in self.wanted and self._pool_of(task) != pool:
                continue
            self.wanted[task] = pool
            tasks.append(messages.Wanted(task, light))
        self.do(messages.TasksWanted(pool, tasks))

    def _pool_of(self, task: TaskKey) -> PoolSpec | None:
        worker = self._worker_of(task)
        return None if worker is None else self.busy[worker]

    def _worker_of(self, task: TaskKey) -> int | None:
        return next(worker for worker, tasks in self.given.items() if task in tasks)

    @precondition(lambda self: self.wanted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.wanted)))
        del self.wanted[task]
        self.results.discard(task)
        self.do(messages.TaskCancelled(task))

    @rule(run=st.sampled_from(["run1", "run2"]))
    def end_run(self, run: str) -> None:
        for task in [task for task in self.wanted if task.run == run]:
            del self.wanted[task]
            self.results.discard(task)
        self.do(messages.RunEnded("default", run))

    @precondition(lambda self: self.executing)
    @rule(data=st.data(), usable=st.booleans(), small=st.booleans(), seconds=st.sampled_from([0.0, 1e-4, 1.0]))
    def finish(self, data: st.DataObject, usable: bool, small: bool, seconds: float) -> None:
        worker = data.draw(st.sampled_from([worker for worker, tasks in self.given.items() if tasks]))
        count = data.draw(st.integers(1, len(self.given[worker])))
        self._finish(worker, count, usable, small, seconds)

    def _finish(self, worker: int | None, count: int, usable: bool, small: bool = False, seconds: float = 0.0) -> None:
        tasks = self.given[worker]
        if len(tasks) > count and worker is not None and not usable:
            self._give_back(worker, len(tasks) - count, False)
        ended, tasks[:] = tasks[:count], tasks[count:]
        self._gone_from(worker, usable)
        self.results.update(task for task in ended if task in self.wanted and task not in self.aborted)
        self.aborted.difference_update(ended)
        self.do(messages.TasksEnded(worker, ended, usable, seconds * count, small))

    @precondition(lambda self: self._in_rows())
    @rule(data=st.data(), ahead=st.integers(0, 5), through=st.booleans())
    def go_on_in_a_row(self, data: st.DataObject, ahead: int, through: bool) -> None:
        """The worker has ended the task, and some that followed, and is at the next one if it is not through."""
        worker = data.draw(st.sampled_from(self._in_rows()))
        pool, first = self.busy[worker], self.given[worker].pop(0)
        most = self.rows.pop(first)
        ended = [self._follower(pool) for _ in range(min(ahead, most - 1))]
        at = None if through else self._follower(pool)
        if at is not None:
            self.given[worker].insert(0, at)
            self.rows[at] = most - len(ended) - 1
        self._gone_from(worker, True)
        self.results.update([first, *ended])
        self.do(messages.TasksEnded(worker, [first], True, 1e-4, True, ended, at))

    def _in_rows(self) -> list[int]:
        firsts = [(worker, tasks[0]) for worker, tasks in self.given.items() if worker is not None and tasks]
        return [
            worker
            for worker, task in firsts
            if self.rows.get(task, 0) and task in self.wanted and task not in self.aborted
        ]

    def _follower(self, pool: PoolSpec) -> TaskKey:
        self.followers += 1
        task = key(100 + self.followers)
        self.wanted[task] = pool
        return task

    def _gone_from(self, worker: int | None, usable: bool) -> None:
        if worker is not None and not self.given[worker]:
            pool = self.busy.pop(worker)
            del self.given[worker]
            if usable:
                self.idle[worker] = pool

    def _give_back(self, worker: int, count: int, usable: bool, heavy: bool = False) -> None:
        tasks = self.given[worker]
        returned = tasks[len(tasks) - count :]
        del tasks[len(tasks) - count :]
        self.aborted.difference_update(returned)
        self._gone_from(worker, usable)
        self.do(messages.TasksReturned(worker, returned, usable, heavy))

    @precondition(lambda self: self.ahead & self.busy.keys())
    @rule(data=st.data(), heavy=st.booleans())
    def return_some(self, data: st.DataObject, heavy: bool) -> None:
        worker = data.draw(st.sampled_from(sorted(self.ahead & self.busy.keys())))
        self._give_back(worker, data.draw(st.integers(0, len(self.given[worker]))), True, heavy)

    @precondition(lambda self: self.results)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.results)))
        del self.wanted[task]
        self.results.discard(task)
        self.do(messages.ResultsAcked((task,)))

    @rule(number=st.integers(20, 22))
    def keep(self, number: int) -> None:
        task = key(number)
        if task not in self.wanted:
            self.wanted[task] = None
            self.results.add(task)
            self.do(messages.ResultsKept((task,)))

    @rule(pool=st.sampled_from(POOLS), workers=st.integers(0, 3), bounded=st.booleans())
    def size(self, pool: PoolSpec, workers: int, bounded: bool) -> None:
        count = [*self.starting.values(), *self.idle.values(), *self.busy.values()].count(pool)
        self.bounds[pool.key] = max(workers, count) if bounded else 99
        self.do(messages.PoolSized(pool, workers, bounded))

    @rule(cordoned=st.booleans())
    def change_room(self, cordoned: bool) -> None:
        self.do(messages.RoomChanged(CPUS, MEMORY, cordoned))

    @rule()
    def void_sizes(self) -> None:
        self.bounds.clear()
        self.do(messages.SizesVoid())

    @precondition(lambda self: self.starting)
    @rule(data=st.data(), well=st.booleans(), no_room=st.booleans())
    def worker_started(self, data: st.DataObject, well: bool, no_room: bool) -> None:
        self._started(data.draw(st.sampled_from(sorted(self.starting))), well, no_room)

    def _started(self, worker: int, well: bool, no_room: bool = False) -> None:
        pool = self.starting.pop(worker)
        if well:
            self.idle[worker] = pool
            self.do(messages.WorkerReady(worker, 0.1))
        else:
            self.do(messages.WorkerFailed(worker, "broken", no_room))

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def worker_dies(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.idle)))
        del self.idle[worker]
        self.do(messages.WorkerGone(worker))

    @rule(seconds=st.floats(0, 2 * LINGER_SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self._tick()

    def _tick(self) -> None:
        self.wake_at = float("inf")
        self.do(messages.Tick())

    @invariant()
    def resources_are_not_promised_twice(self) -> None:
        running = list(self.busy.values())
        if len(running) > 1:
            assert sum(pool.cpus for pool in running) <= CPUS
            assert sum(pool.memory for pool in running) <= MEMORY

    @invariant()
    def what_is_not_done_is_known(self) -> None:
        assert set(self.core.unfinished()) == self.wanted.keys() - self.results

    @invariant()
    def nothing_idles_while_something_could_run(self) -> None:
        """The first that waits has a worker on its way, or others hold what it needs, or its pool may have none."""
        waiting = self.wanted.keys() - self.results - self.executing
        pools = {pool.key for task in waiting if (pool := self.wanted[task]) is not None}
        assert self.busy or self.starting or all(self.bounds.get(pool, 99) < 99 for pool in pools)

    def teardown(self) -> None:
        """If all goes well from now on, every task that is wanted gets a result."""
        for pool in POOLS:
            self.size(pool, 1, False)
        for _ in range(1000):
            if self.starting:
                self._started(min(self.starting), True)
            elif self.executing:
                self._finish(next(worker for worker, tasks in self.given.items() if tasks), 1, True)
            elif self.results >= self.wanted.keys():
                break
            else:
                assert self.wake_at < float("inf")
                self.now = self.wake_at
                self._tick()
        assert self.results >= self.wanted.keys()
        for task in sorted(self.results):
            self.do(messages.ResultsAcked((task,)))
        for pool in POOLS:
            self.do(messages.PoolSized(pool, 0))
        assert not self.idle
        assert self.core.workers() == 0


Node.TestCase.settings = settings(stateful_step_count=50)
TestNode = Node.TestCase


class HeldNode(Node):
    """The same where workers hold what they ask for, as pods do."""

    def __init__(self) -> None:
        super().__init__()
        self.core = NodeCore(CPUS, MEMORY, held=True)

    @invariant()
    def there_are_no_more_workers_than_fit(self) -> None:
        workers = [*self.starting.values(), *self.idle.values(), *self.busy.values()]
        if len(workers) > 1:
            assert sum(pool.cpus for pool in workers) <= CPUS
            assert sum(pool.memory for pool in workers) <= MEMORY

    @invariant()
    def nothing_idles_while_something_could_run(self) -> None:
        """Or an idle worker of another pool is about to make room."""
        if not (self.idle and self.wake_at < float("inf")):
            super().nothing_idles_while_something_could_run()


HeldNode.TestCase.settings = settings(stateful_step_count=50)
TestHeldNode = HeldNode.TestCase
