"""The node's pure core: whatever comes in whatever order, nothing is used twice and no task is lost."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster_agent.node import messages
from cluster_agent.node.core import FULL_SECONDS, FULL_SECONDS_MOST, LINGER_SECONDS, TURN_STARTS, NodeCore
from cluster_agent.node.messages import Phase, PoolSpec, TaskKey

CPUS, MEMORY = 3.0, 1000
POOLS = [
    PoolSpec("a", "a@1"),
    PoolSpec("b", "b@1", cpus=2.0, memory=600),
    PoolSpec("big", "big@1", cpus=9.0, memory=9000),
]


def key(number: int, run: str = "run1", attempt: int = 1) -> TaskKey:
    return TaskKey("default", run, number.to_bytes(16, "big"), attempt)


def wanted(pool: PoolSpec, *numbers: int, light: bool = False) -> messages.TasksWanted:
    return messages.TasksWanted(pool, [messages.Wanted(key(number), light) for number in numbers])


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


def test_a_large_task_is_not_overtaken() -> None:
    node = NodeCore(2.0, 0)
    small, large = PoolSpec("s", "s@1"), PoolSpec("l", "l@1", cpus=2.0)
    node.handle(wanted(small, 1), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    node.handle(wanted(large, 2), 0)
    node.handle(wanted(small, 3), 0)
    assert node.phase(key(3)) is Phase.QUEUED
    node.handle(messages.TasksEnded(1, (key(1),)), 1)
    assert node.phase(key(2)) is Phase.ADMITTED
    assert node.phase(key(3)) is Phase.QUEUED


def test_what_a_task_used_is_free_when_it_has_ended() -> None:
    """However often: afterwards as many run at once as at first."""
    node = NodeCore(4.0, 100)
    pool = PoolSpec("s", "s@1", cpus=0.1, memory=50)
    node.handle(messages.PoolSized(pool, 2), 0)
    for worker in (1, 2):
        node.handle(messages.WorkerReady(worker, 0.1), 0)
    for number in range(0, 40, 2):
        executed = executions(node.handle(wanted(pool, number, number + 1), 0))
        assert node.running() == 2
        for worker, tasks in executed.items():
            node.handle(messages.TasksEnded(worker, tasks), 1)


def test_a_worker_started_on_demand_lingers_and_then_goes() -> None:
    node = NodeCore(2.0, 0)
    pool = PoolSpec("s", "s@1")
    node.handle(wanted(pool, 1), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    actions = node.handle(messages.TasksEnded(1, (key(1),)), 5.0)
    assert messages.WakeAt(5.0 + LINGER_SECONDS) in actions
    assert messages.StopWorker(1) not in node.handle(messages.Tick(), 5.0 + LINGER_SECONDS / 2)
    assert messages.StopWorker(1) in node.handle(messages.Tick(), 5.0 + LINGER_SECONDS)


@given(st.integers(1, 5))
def test_a_broken_step_is_started_once_for_each_task_and_not_for_ever(tasks: int) -> None:
    node = NodeCore(9.0, 0)
    pool = PoolSpec("s", "s@1")
    node.handle(messages.PoolSized(pool, 2), 0)
    starts, failed, worker = 2, 0, 0
    for number in range(tasks):
        actions = node.handle(wanted(pool, number), 0)
        starts += sum(isinstance(action, messages.StartWorker) for action in actions)
    while worker < starts:
        worker += 1
        actions = node.handle(messages.WorkerFailed(worker, "broken"), 0)
        starts += sum(isinstance(action, messages.StartWorker) for action in actions)
        failed += sum(isinstance(action, messages.FailToStart) for action in actions)
    assert failed == tasks
    assert starts == max(2, tasks)


def test_a_coordinator_that_comes_anew_says_again_what_it_needs_and_the_rest_goes() -> None:
    """So that workers which nobody knows of any more are not kept for ever."""
    node = NodeCore(4.0, 0)
    kept, left = PoolSpec("k", "k@1"), PoolSpec("l", "l@1")
    for number, pool in enumerate((kept, left), 1):
        node.handle(messages.PoolSized(pool, 1), 0)
        node.handle(messages.WorkerReady(number, 0.1), 0)
    assert messages.WakeAt(100.0 + LINGER_SECONDS) in node.handle(messages.SizesVoid(), 100.0)
    node.handle(messages.PoolSized(kept, 1), 101.0)
    stopped = node.handle(messages.Tick(), 100.0 + LINGER_SECONDS)
    assert [action for action in stopped if isinstance(action, messages.StopWorker)] == [messages.StopWorker(2)]
    assert node.counts("k") == (0, 1, 0)


def test_short_small_tasks_are_given_ahead_and_no_other_is_passed() -> None:
    node = NodeCore(1.0, 0)
    short, other = PoolSpec("s", "s@1"), PoolSpec("o", "o@1")
    node.handle(wanted(short, 1, light=True), 0)
    first = node.handle(messages.WorkerReady(1, 0.1), 0)
    assert [action.small for action in first if isinstance(action, messages.Execute)] == [False], "nothing is known yet"
    node.handle(messages.TasksEnded(1, (key(1),), seconds=0.001, small=True), 1)
    assert executions(node.handle(wanted(short, 2, 3, 4, light=True), 1)) == {1: [key(2), key(3), key(4)]}
    assert not executions(node.handle(wanted(other, 5), 1))
    assert not executions(node.handle(wanted(short, 6, light=True), 1)), "it came after one that waits for a processor"
    node.handle(messages.TasksEnded(1, (key(2), key(3), key(4)), seconds=0.003, small=True), 1)
    assert node.phase(key(5)) is Phase.ADMITTED


def test_a_light_task_that_has_its_worker_alone_may_be_followed_by_as_many_as_are_done_soon() -> None:
    node = NodeCore(1.0, 0)
    pool = PoolSpec("s", "s@1")
    node.handle(wanted(pool, 1, light=True), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    node.handle(messages.TasksEnded(1, (key(1),), seconds=0.001, small=True), 1)
    assert ahead(node.handle(wanted(pool, 2, light=True), 1)) == [7]
    node.handle(messages.TasksEnded(1, [key(2)], True, 0.003, True, [key(3), key(4)], key(5)), 1)
    assert node.phase(key(3)) is node.phase(key(4)) is Phase.DONE
    assert node.phase(key(5)) is Phase.GIVEN
    assert list(node.unfinished()) == [key(5)]
    node.handle(messages.TaskCancelled(key(5)), 1)
    node.handle(messages.TasksReturned(1, [key(5)]), 1)
    assert not list(node.unfinished())
    assert ahead(node.handle(wanted(pool, 6, 7, light=True), 1)) == [0, 0], "others wait, so nothing is in a row"


def test_a_step_that_has_made_something_large_is_forgiven_after_many_small_ones() -> None:
    node = NodeCore(1.0, 0)
    pool = PoolSpec("s", "s@1")
    numbers = itertools.count(1)

    def as_small_jobs(*, large: bool) -> bool:
        """Whether the worker gets the next task as a small job; it makes something large, or does not."""
        number = next(numbers)
        (small,) = as_small(node.handle(wanted(pool, number, light=True), number))
        node.handle(messages.TasksEnded(1, (key(number),), seconds=0.001, small=not large), number)
        return small

    node.handle(messages.PoolSized(pool, 1), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    for _ in range(2):
        assert not as_small_jobs(large=True)
        one_by_one = list(
            itertools.takewhile(lambda small: not small, (as_small_jobs(large=False) for _ in range(200)))
        )
        assert 10 < len(one_by_one) < 200, "not at once, and not never"
        assert as_small_jobs(large=False)
        assert as_small_jobs(large=True)


def as_small(actions: list[messages.Action]) -> list[bool]:
    return [action.small for action in actions if isinstance(action, messages.Execute)]


def test_a_worker_that_can_not_execute_small_jobs_is_seldom_asked_to() -> None:
    node = NodeCore(1.0, 0)
    pool = PoolSpec("s", "s@1")
    node.handle(messages.PoolSized(pool, 1), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    asked = 0
    for number in range(1, 500):
        actions = node.handle(wanted(pool, number, light=True), number)
        if as_small(actions) == [True]:
            asked += 1
            actions = node.handle(messages.TasksReturned(1, [key(number)], heavy=True), number)
            assert as_small(actions) == [False]
        node.handle(messages.TasksEnded(1, (key(number),), seconds=0.001, small=True), number)
    assert 0 < asked < 20


def ahead(actions: list[messages.Action]) -> list[int]:
    return [action.ahead for action in actions if isinstance(action, messages.Execute)]


def test_no_more_is_given_ahead_than_is_done_soon() -> None:
    node = NodeCore(1.0, 0)
    pool = PoolSpec("s", "s@1")
    node.handle(wanted(pool, 1, light=True), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    node.handle(messages.TasksEnded(1, (key(1),), seconds=0.002, small=True), 1)
    assert len(executions(node.handle(wanted(pool, *range(2, 100), light=True), 1))[1]) == 4
    for number in range(2, 40):
        node.handle(messages.TasksEnded(1, (key(number),), seconds=0.02, small=True), 1)
    assert node.phase(key(39)) is Phase.DONE
    assert node.phase(key(41)) is Phase.QUEUED, "they take longer than was thought"


def test_a_pool_that_may_have_no_more_workers_does_not_hold_up_others() -> None:
    node = NodeCore(4.0, 0)
    bounded, other = PoolSpec("b", "b@1"), PoolSpec("o", "o@1")
    node.handle(messages.PoolSized(bounded, 1, True), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    assert executions(node.handle(wanted(bounded, 1, 2), 0)) == {1: [key(1)]}
    actions = node.handle(wanted(other, 3), 0)
    assert messages.StartWorker(2, other) in actions
    assert executions(node.handle(messages.TasksEnded(1, (key(1),)), 1)) == {1: [key(2)]}


def test_a_pool_that_was_sized_has_no_more_workers_than_told_but_one_for_who_waits() -> None:
    node = NodeCore(4.0, 0)
    pool = PoolSpec("p", "p@1")
    node.handle(messages.PoolSized(pool, 0), 0)
    actions = node.handle(wanted(pool, 1, 2, 3), 0)
    assert [action for action in actions if isinstance(action, messages.StartWorker)] == [messages.StartWorker(1, pool)]
    actions = node.handle(messages.PoolSized(pool, 2), 0)
    assert [action for action in actions if isinstance(action, messages.StartWorker)] == [messages.StartWorker(2, pool)]


def given_back(actions: list[messages.Action]) -> list[TaskKey]:
    return sorted(action.key for action in actions if isinstance(action, messages.GiveBack))


def started(actions: list[messages.Action]) -> list[int]:
    return [action.worker for action in actions if isinstance(action, messages.StartWorker)]


def test_a_pool_with_no_place_for_more_workers_gives_back_what_has_none_and_makes_do() -> None:
    node = NodeCore(4.0, 0)
    pool = PoolSpec("p", "p@1")
    node.handle(messages.PoolSized(pool, 3), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    assert executions(node.handle(wanted(pool, 1, 2, 3, 4), 0)) == {1: [key(1)]}
    actions = node.handle(messages.WorkerFailed(2, "the quota is used up", no_room=True), 0)
    assert [action.error for action in actions if isinstance(action, messages.PoolChanged)] == ["the quota is used up"]
    assert given_back(actions) == [key(3), key(4)], "one worker is still on its way"
    assert node.is_full("p")
    assert given_back(node.handle(messages.WorkerFailed(3, "the quota is used up", no_room=True), 0)) == [key(2)]
    assert node.phase(key(1)) is Phase.GIVEN
    node.handle(wanted(pool, 5), 1)
    assert executions(node.handle(messages.TasksEnded(1, (key(1),)), 2)) == {1: [key(5)]}


def test_whether_there_is_room_again_is_tried_by_one_worker_each_time_later() -> None:
    node = NodeCore(4.0, 0)
    pool = PoolSpec("p", "p@1")
    assert started(node.handle(messages.PoolSized(pool, 2), 0)) == [1, 2]
    for worker in (1, 2):
        assert started(node.handle(messages.WorkerFailed(worker, "full", no_room=True), 0)) == []
    now, wait = 0.0, FULL_SECONDS
    for worker in range(3, 8):
        assert started(node.handle(messages.Tick(), now + wait - 0.1)) == []
        assert node.is_full("p")
        now += wait
        assert started(node.handle(messages.Tick(), now)) == []
        assert not node.is_full("p"), "the coordinator may ask for one again"
        assert started(node.handle(messages.PoolSized(pool, 2), now)) == [worker]
        assert started(node.handle(messages.WorkerFailed(worker, "full", no_room=True), now)) == []
        wait = min(2 * wait, FULL_SECONDS_MOST)
    now += wait
    node.handle(messages.Tick(), now)
    assert started(node.handle(messages.PoolSized(pool, 2), now)) == [8]
    assert started(node.handle(messages.WorkerReady(8, 0.1), now)) == [9], "there is room, so the others follow"


def test_a_task_whose_pool_can_have_no_worker_at_all_is_given_back_at_once() -> None:
    node = NodeCore(4.0, 0)
    pool = PoolSpec("p", "p@1")
    node.handle(wanted(pool, 1), 0)
    actions = node.handle(messages.WorkerFailed(1, "Insufficient cpu\0detail", no_room=True), 0)
    assert [action for action in actions if isinstance(action, messages.GiveBack)] == [
        messages.GiveBack(key(1), "Insufficient cpu")
    ]
    assert given_back(node.handle(wanted(pool, 2), 1)) == [key(2)]


def test_a_cordoned_node_goes_on_with_what_has_begun_and_gives_back_the_rest_until_it_is_not() -> None:
    node = NodeCore(1.0, 0)
    pool = PoolSpec("p", "p@1")
    node.handle(messages.PoolSized(pool, 1), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    node.handle(wanted(pool, 1, 2), 0)
    actions = node.handle(messages.RoomChanged(1.0, 0, cordoned=True), 1)
    assert given_back(actions) == [key(2)]
    assert node.phase(key(1)) is Phase.GIVEN
    assert executions(node.handle(messages.TasksWanted(None, [messages.Wanted(key(9))]), 1)) == {None: [key(9)]}
    node.handle(messages.TasksEnded(1, (key(1),)), 2)
    assert given_back(node.handle(wanted(pool, 3), 2)) == [key(3)]
    assert started(node.handle(messages.PoolSized(pool, 2), 2)) == []
    assert started(node.handle(messages.RoomChanged(1.0, 0), 3)) == [2]
    assert executions(node.handle(wanted(pool, 4), 3)) == {1: [key(4)]}


def test_a_node_that_grows_tries_at_once_what_there_was_no_place_for() -> None:
    node = NodeCore(1.0, 0, held=True)
    pool = PoolSpec("p", "p@1")
    assert started(node.handle(messages.PoolSized(pool, 2), 0)) == [1]
    node.handle(messages.WorkerFailed(1, "full", no_room=True), 0)
    assert started(node.handle(messages.RoomChanged(4.0, 0), 1)) == [2]
    assert started(node.handle(messages.WorkerReady(2, 0.1), 2)) == [3]


def test_after_a_refusal_as_many_are_tried_at_once_as_have_come_up_before() -> None:
    node = NodeCore(40.0, 0)
    pool = PoolSpec("p", "p@1")
    first = started(node.handle(messages.PoolSized(pool, 20), 0))
    for worker in first:
        node.handle(messages.WorkerFailed(worker, "full", no_room=True), 0)
    node.handle(messages.Tick(), FULL_SECONDS)
    tried = started(node.handle(messages.PoolSized(pool, 20), FULL_SECONDS))
    steps = []
    while tried:
        steps.append(len(tried))
        tried = [new for worker in tried for new in started(node.handle(messages.WorkerReady(worker, 0.1), 20))]
    assert steps == [1, 2, 4, 8, 5]


def test_room_that_a_task_lacks_is_not_taken_to_warm_others_and_enough_idle_ones_go_at_once() -> None:
    node = NodeCore(8.0, 0, held=True)
    small, large = PoolSpec("s", "s@1"), PoolSpec("l", "l@1", cpus=2.0)
    node.handle(messages.PoolSized(small, 3), 0)
    for worker in (1, 2, 3):
        node.handle(messages.WorkerReady(worker, 0.1), 0)
    assert started(node.handle(wanted(large, 1), 1)) == [4]
    actions = node.handle(messages.WorkerFailed(4, "Insufficient cpu", no_room=True), 2)
    assert [action.worker for action in actions if isinstance(action, messages.StopWorker)] == [1, 2]
    assert started(actions) == [5]
    assert started(node.handle(messages.PoolSized(small, 3), 3)) == [], "what they leave is not for those"
    node.handle(messages.WorkerReady(5, 0.1), 4)
    assert started(node.handle(messages.PoolSized(small, 3), 5)) == [6, 7]


def test_what_lacked_room_and_is_not_wanted_any_more_holds_up_no_warming() -> None:
    node = NodeCore(8.0, 0, held=True)
    small, large = PoolSpec("s", "s@1"), PoolSpec("l", "l@1", cpus=2.0)
    node.handle(messages.PoolSized(large, 1), 0)
    node.handle(messages.WorkerFailed(1, "Insufficient cpu", no_room=True), 1)
    assert started(node.handle(messages.PoolSized(small, 2), 2)) == []
    node.handle(messages.PoolSized(large, 0), 3)
    assert started(node.handle(messages.PoolSized(small, 2), 3)) == [2, 3]


def test_where_idle_workers_hold_what_they_ask_for_one_makes_room_for_one_that_is_needed() -> None:
    node = NodeCore(2.0, 0, held=True)
    idle, needed = PoolSpec("i", "i@1"), PoolSpec("n", "n@1")
    starts = node.handle(messages.PoolSized(idle, 5), 0)
    assert sum(isinstance(action, messages.StartWorker) for action in starts) == 2, "no more than fit"
    for worker in (1, 2):
        node.handle(messages.WorkerReady(worker, 0.1), worker)
    warm = node.handle(messages.PoolSized(needed, 1), 3)
    assert not [action for action in warm if isinstance(action, messages.StopWorker)], "what is warm stays"
    actions = node.handle(wanted(needed, 1), 3)
    assert messages.StopWorker(1) in actions
    assert messages.StartWorker(3, needed) in actions
    actions = node.handle(messages.WorkerFailed(3, "the node is full", no_room=True), 3)
    assert messages.StopWorker(2) in actions, "there is less room than was thought"
    assert messages.StartWorker(4, needed) in actions
    node.handle(messages.WorkerReady(4, 0.1), 3)
    node.handle(wanted(idle, 2), 4)
    actions = node.handle(wanted(needed, 3), 4)
    assert not [action for action in actions if isinstance(action, messages.StartWorker)], "all have something to do"


def test_a_worker_that_would_have_to_start_again_is_not_stopped_between_two_of_its_tasks() -> None:
    """Two steps whose units come by turns have one slot: all that is there of one is done before the other's turn."""
    node = NodeCore(1.0, 0, held=True)
    first, second = PoolSpec("f", "f@1"), PoolSpec("s", "s@1")
    for pool in (first, second):
        node.handle(messages.PoolSized(pool, 1), 0)
    node.handle(wanted(first, 0), 0)
    node.handle(messages.WorkerReady(1, 2.0), 2)
    node.handle(wanted(second, 100), 2)
    for number in range(1, 20):
        actions = node.handle(messages.TasksEnded(1, (key(number - 1),)), 2 + number / 10)
        assert messages.StopWorker(1) not in actions
        assert executions(node.handle(wanted(first, number), 2 + number / 10)) == {1: [key(number)]}
    node.handle(messages.TasksEnded(1, (key(19),)), 4)
    assert messages.WakeAt(6) in node.handle(messages.Tick(), 5)
    actions = node.handle(messages.Tick(), 6)
    assert messages.StopWorker(1) in actions
    assert messages.StartWorker(2, second) in actions
    node.handle(messages.WorkerReady(2, 2.0), 8)
    assert node.phase(key(100)) is Phase.GIVEN


def test_a_task_whose_pool_has_no_worker_is_passed_by_others_but_not_for_ever() -> None:
    node = NodeCore(1.0, 0, held=True)
    busy, other = PoolSpec("b", "b@1"), PoolSpec("o", "o@1")
    for pool in (busy, other):
        node.handle(messages.PoolSized(pool, 1), 0)
    node.handle(wanted(busy, 0), 0)
    node.handle(messages.WorkerReady(1, 2.0), 0)
    node.handle(wanted(other, 200), 0)
    node.handle(wanted(busy, *range(1, 100)), 0)
    for number in range(100):
        actions = node.handle(messages.TasksEnded(1, (key(number),)), number + 1)
        if messages.StopWorker(1) in actions:
            break
    assert number + 1 == TURN_STARTS * 2.0
    assert messages.StartWorker(2, other) in actions
    node.handle(messages.WorkerReady(2, 2.0), 14)
    assert messages.StopWorker(2) in [
        *node.handle(messages.TasksEnded(2, (key(200),)), 15),
        *node.handle(messages.Tick(), 17),
    ]


def test_one_of_several_idle_workers_makes_room_for_the_first_of_another_pool_at_once() -> None:
    node = NodeCore(3.0, 0, held=True)
    many, other = PoolSpec("m", "m@1"), PoolSpec("o", "o@1")
    node.handle(messages.PoolSized(many, 3), 0)
    for worker in (1, 2, 3):
        node.handle(messages.WorkerReady(worker, 10.0), 10)
    node.handle(messages.PoolSized(other, 3), 10)
    assert messages.StopWorker(1) in node.handle(wanted(other, 1), 10)
    node.handle(messages.WorkerReady(4, 10.0), 11)
    actions = node.handle(wanted(other, 2), 11)
    assert not [action for action in actions if isinstance(action, messages.StopWorker)], "one is there, and soon free"
    assert executions(node.handle(messages.TasksEnded(4, (key(1),)), 12)) == {4: [key(2)]}


def executions(actions: list[messages.Action]) -> dict[int | None, list[TaskKey]]:
    """The tasks that each worker is to execute."""
    given: dict[int | None, list[TaskKey]] = {}
    for action in actions:
        if isinstance(action, messages.Execute):
            given.setdefault(action.worker, []).extend(task.key for task in action.tasks)
    return given
