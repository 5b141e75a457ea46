"""The node's pure core: whatever comes in whatever order, nothing is used twice and no task is lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster_agent.node import messages
from cluster_agent.node.core import LINGER_SECONDS, NodeCore
from cluster_agent.node.messages import Phase, PoolSpec, TaskKey

CPUS, MEMORY = 3.0, 1000
POOLS = [
    PoolSpec("a", "a@1"),
    PoolSpec("b", "b@1", cpus=2.0, memory=600),
    PoolSpec("big", "big@1", cpus=9.0, memory=9000),
]


def key(number: int, run: str = "run1", attempt: int = 1) -> TaskKey:
    return TaskKey("default", run, number.to_bytes(16, "big"), attempt)


class Node(RuleBasedStateMachine):
    """An executor that does what the core says, in any order and with any outcome."""

    def __init__(self) -> None:
        super().__init__()
        self.core = NodeCore(CPUS, MEMORY)
        self.now = 0.0
        self.starting: dict[int, PoolSpec] = {}
        self.idle: dict[int, PoolSpec] = {}
        self.busy: dict[int, PoolSpec] = {}
        self.executing: dict[TaskKey, int | None] = {}
        self.aborted: set[TaskKey] = set()
        self.wanted: dict[TaskKey, PoolSpec | None] = {}
        self.results: set[TaskKey] = set()

    def do(self, event: messages.Event) -> None:
        for action in self.core.handle(event, self.now):
            match action:
                case messages.StartWorker(worker, pool):
                    assert worker not in self.starting | self.idle | self.busy
                    self.starting[worker] = pool
                case messages.StopWorker(worker):
                    del self.idle[worker]
                case messages.Execute(task, worker):
                    assert task not in self.executing
                    self.executing[task] = worker
                    if worker is not None:
                        pool = self.wanted[task]
                        assert self.idle[worker] == pool, "a worker of the pool that is free"
                        self.busy[worker] = self.idle.pop(worker)
                case messages.Abort(task):
                    assert task in self.executing
                    self.aborted.add(task)
                case messages.FailToStart(task):
                    assert task not in self.executing
                    assert task in self.wanted
                    self.results.add(task)
                case messages.TellAgain(task):
                    assert task in self.results
                case messages.Forget(task):
                    self.results.discard(task)
                case messages.WakeAt(at):
                    assert at <= self.now + LINGER_SECONDS

    @rule(number=st.integers(0, 3), run=st.sampled_from(["run1", "run2"]), pool=st.sampled_from([None, *POOLS]))
    def want(self, number: int, run: str, pool: PoolSpec | None) -> None:
        task = key(number, run)
        pool = self.wanted.get(task, pool)
        if task in self.executing and task not in self.wanted:
            pool = self._pool_of(task)
        self.wanted[task] = pool
        self.do(messages.TaskWanted(task, pool))

    def _pool_of(self, task: TaskKey) -> PoolSpec | None:
        worker = self.executing[task]
        return None if worker is None else self.busy[worker]

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
    @rule(data=st.data(), usable=st.booleans())
    def finish(self, data: st.DataObject, usable: bool) -> None:
        task = data.draw(st.sampled_from(sorted(self.executing)))
        self._finish(task, usable)

    def _finish(self, task: TaskKey, usable: bool) -> None:
        worker = self.executing.pop(task)
        if worker is not None:
            pool = self.busy.pop(worker)
            if usable:
                self.idle[worker] = pool
        if task in self.wanted and task not in self.aborted:
            self.results.add(task)
        self.aborted.discard(task)
        self.do(messages.TaskEnded(task, usable))

    @precondition(lambda self: self.results)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.results)))
        del self.wanted[task]
        self.results.discard(task)
        self.do(messages.ResultsAcked((task,)))

    @rule(pool=st.sampled_from(POOLS), workers=st.integers(0, 3))
    def size(self, pool: PoolSpec, workers: int) -> None:
        self.do(messages.PoolSized(pool, workers))

    @precondition(lambda self: self.starting)
    @rule(data=st.data(), well=st.booleans())
    def worker_started(self, data: st.DataObject, well: bool) -> None:
        self._started(data.draw(st.sampled_from(sorted(self.starting))), well)

    def _started(self, worker: int, well: bool) -> None:
        pool = self.starting.pop(worker)
        if well:
            self.idle[worker] = pool
            self.do(messages.WorkerReady(worker, 0.1))
        else:
            self.do(messages.WorkerFailed(worker, "broken"))

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def worker_dies(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.idle)))
        del self.idle[worker]
        self.do(messages.WorkerGone(worker))

    @rule(seconds=st.floats(0, 2 * LINGER_SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
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
        """The first that waits has a worker on its way, or others hold what it needs."""
        waiting = self.wanted.keys() - self.results - self.executing.keys()
        assert not waiting or self.busy or self.starting

    def teardown(self) -> None:
        """If all goes well from now on, every task that is wanted gets a result."""
        for _ in range(1000):
            if self.starting:
                self._started(min(self.starting), True)
            elif self.executing:
                self._finish(min(self.executing), True)
            else:
                break
        assert self.results >= self.wanted.keys()
        for task in sorted(self.results):
            self.do(messages.ResultsAcked((task,)))
        for pool in POOLS:
            self.do(messages.PoolSized(pool, 0))
        assert not self.idle
        assert self.core.workers() == 0


Node.TestCase.settings = settings(max_examples=100, stateful_step_count=50)
TestNode = Node.TestCase


def test_a_large_task_is_not_overtaken() -> None:
    node = NodeCore(2.0, 0)
    small, large = PoolSpec("s", "s@1"), PoolSpec("l", "l@1", cpus=2.0)
    node.handle(messages.TaskWanted(key(1), small), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    node.handle(messages.TaskWanted(key(2), large), 0)
    node.handle(messages.TaskWanted(key(3), small), 0)
    assert node.phase(key(3)) is Phase.QUEUED
    node.handle(messages.TaskEnded(key(1)), 1)
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
        for each in (number, number + 1):
            node.handle(messages.TaskWanted(key(each), pool), 0)
        assert node.running() == 2
        node.handle(messages.TaskEnded(key(number)), 1)
        node.handle(messages.TaskEnded(key(number + 1)), 1)


def test_a_worker_started_on_demand_lingers_and_then_goes() -> None:
    node = NodeCore(2.0, 0)
    pool = PoolSpec("s", "s@1")
    node.handle(messages.TaskWanted(key(1), pool), 0)
    node.handle(messages.WorkerReady(1, 0.1), 0)
    actions = node.handle(messages.TaskEnded(key(1)), 5.0)
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
        actions = node.handle(messages.TaskWanted(key(number), pool), 0)
        starts += sum(isinstance(action, messages.StartWorker) for action in actions)
    while worker < starts:
        worker += 1
        actions = node.handle(messages.WorkerFailed(worker, "broken"), 0)
        starts += sum(isinstance(action, messages.StartWorker) for action in actions)
        failed += sum(isinstance(action, messages.FailToStart) for action in actions)
    assert failed == tasks
    assert starts == max(2, tasks)
