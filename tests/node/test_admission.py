"""Tasks are begun in their order, as many as there is room for, and what can not be begun here is given back."""

from __future__ import annotations

import itertools

from cluster_agent.node import messages
from cluster_agent.node.admission import TURN_STARTS
from cluster_agent.node.core import NodeCore
from cluster_agent.node.messages import Phase, PoolSpec
from tests.node.events import ahead, as_small, executions, given_back, key, started, wanted


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
