"""A pool has as many workers as it should and as there is place for, no more, and none for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.node import messages
from cluster_agent.node.admission import FULL_SECONDS, FULL_SECONDS_MOST
from cluster_agent.node.core import NodeCore
from cluster_agent.node.messages import Phase, PoolSpec
from cluster_agent.node.pools import LINGER_SECONDS
from tests.node.events import executions, given_back, key, started, wanted


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


def test_a_pool_that_was_sized_has_no_more_workers_than_told_but_one_for_who_waits() -> None:
    node = NodeCore(4.0, 0)
    pool = PoolSpec("p", "p@1")
    node.handle(messages.PoolSized(pool, 0), 0)
    actions = node.handle(wanted(pool, 1, 2, 3), 0)
    assert [action for action in actions if isinstance(action, messages.StartWorker)] == [messages.StartWorker(1, pool)]
    actions = node.handle(messages.PoolSized(pool, 2), 0)
    assert [action for action in actions if isinstance(action, messages.StartWorker)] == [messages.StartWorker(2, pool)]


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
