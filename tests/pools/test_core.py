"""How many workers are kept warm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.pools.ahead import Arriving
from cluster_agent.pools.core import Autoscaler, Limits, Resize, Room

STEP = "clean@1"
LIMITS = Limits(minimum=0, maximum=0, idle=60.0, cpus=1.0, memory=0)


def rooms(*running: int, cpus: float = 4.0) -> dict[str, Room]:
    return {f"n{number}": Room(cpus, 1 << 30, count) for number, count in enumerate(running)}


def test_a_pool_grows_with_what_waits_and_runs_within_the_nodes_room() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 2, LIMITS)
    assert pools.resize(STEP, rooms(1), 0.0)[0] == [Resize("n0", 3)]
    pools.need(STEP, "run", 50, LIMITS)
    assert pools.resize(STEP, rooms(1), 0.0)[0] == [Resize("n0", 4)]


def test_a_pool_keeps_to_its_maximum_over_all_nodes() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 50, Limits(0, 5, 60.0, 1.0, 0))
    told, _ = pools.resize(STEP, rooms(0, 0), 0.0)
    assert sum(change.workers for change in told) == 5


def test_the_minimum_is_warm_as_long_as_somebody_needs_the_pool() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 0, Limits(2, 0, 60.0, 1.0, 0))
    assert pools.resize(STEP, rooms(0), 0.0)[0] == [Resize("n0", 2)]
    pools.release(STEP, "run")
    told, again = pools.resize(STEP, rooms(0), 1.0)
    assert told == []
    assert again == 61.0
    assert pools.resize(STEP, rooms(0), 61.0) == ([Resize("n0", 0)], None)
    assert pools.workers(STEP) == 0


def test_idle_workers_are_kept_for_their_time_and_then_stopped() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 4, LIMITS)
    pools.resize(STEP, rooms(0), 0.0)
    pools.need(STEP, "run", 0, LIMITS)
    assert pools.resize(STEP, rooms(1), 10.0) == ([], 70.0)
    assert pools.resize(STEP, rooms(1), 69.0)[0] == []
    assert pools.resize(STEP, rooms(1), 70.0)[0] == [Resize("n0", 1)]


def test_workers_that_were_busy_in_between_are_not_idle() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 4, LIMITS)
    pools.resize(STEP, rooms(0), 0.0)
    pools.need(STEP, "run", 0, LIMITS)
    pools.resize(STEP, rooms(0), 10.0)
    pools.resize(STEP, rooms(4), 40.0)
    assert pools.resize(STEP, rooms(0), 70.0) == ([], 130.0)


def test_a_node_that_comes_is_told_what_it_should_keep() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 3, LIMITS)
    pools.resize(STEP, rooms(0), 0.0)
    pools.forget_node("n0")
    assert pools.resize(STEP, rooms(0), 1.0)[0] == [Resize("n0", 3)]


def test_memory_bounds_a_pool_too() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 50, Limits(0, 0, 60.0, 1.0, 1 << 29))
    assert pools.resize(STEP, rooms(0), 0.0)[0] == [Resize("n0", 2)]


def start_all(pools: Autoscaler, node: str, count: int, now: float) -> None:
    """The workers that the node was told to keep come up."""
    pools.told(STEP, node, 0, count, 0, now, start_seconds=0.1)


def test_what_will_come_starts_workers_one_start_ahead() -> None:
    pools = Autoscaler(5.0)
    pools.need(STEP, "run", 0, LIMITS, Arriving(10.0, 60.0, 0.5))
    assert pools.resize(STEP, rooms(0), 0.0) == ([], 55.0)
    assert pools.resize(STEP, rooms(0), 55.0)[0] == [Resize("n0", 1)]


def test_what_will_come_starts_them_where_its_producers_run() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 0, LIMITS, Arriving(10.0, 0.0, 2.0))
    near = {"n0": Room(4.0, 1 << 30, 0, 4.0, 0.0), "n1": Room(4.0, 1 << 30, 0, 2.0, 2.0)}
    assert pools.resize(STEP, near, 0.0)[0] == [Resize("n1", 2)]


def test_workers_that_something_will_come_for_are_kept() -> None:
    pools = Autoscaler(5.0)
    pools.need(STEP, "run", 0, LIMITS, Arriving(1.0, 0.0, 0.0))
    pools.resize(STEP, rooms(0), 0.0)
    pools.need(STEP, "run", 0, LIMITS, Arriving(1.0, 110.0, 0.0))
    assert pools.resize(STEP, rooms(0), 65.0)[0] == []


def test_a_warm_worker_covers_what_it_does_while_another_would_start() -> None:
    pools = Autoscaler(5.0)
    pools.need(STEP, "run", 1, LIMITS)
    pools.resize(STEP, rooms(0), 0.0)
    pools.told(STEP, "n0", 0, 1, 0, 5.0, start_seconds=5.0)
    pools.took(STEP, 100, 10.0)
    pools.need(STEP, "run", 20, LIMITS)
    assert pools.resize(STEP, rooms(0), 6.0)[0] == [], "2 s of work"
    pools.need(STEP, "run", 100, LIMITS)
    assert sum(change.workers for change in pools.resize(STEP, rooms(0), 7.0)[0]) > 1, "10 s of work"


def test_a_worker_that_died_is_replaced_at_once_and_then_later_and_later() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 1, LIMITS)
    pools.resize(STEP, rooms(0), 0.0)
    now, waits = 1.0, []
    for _ in range(12):
        start_all(pools, "n0", 1, now)
        pools.told(STEP, "n0", 0, 0, 0, now)
        told, again = pools.resize(STEP, rooms(0), now)
        began = now
        while not told:
            assert again is not None
            now = again
            told, again = pools.resize(STEP, rooms(0), now)
        assert told == [Resize("n0", 1)]
        waits.append(now - began)
    assert waits[:6] == pytest.approx([0.0, 0.4, 0.8, 1.6, 3.2, 6.4])
    assert max(waits) == pytest.approx(30.0)


def test_a_node_that_cannot_start_a_worker_leaves_it_to_another() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 1, LIMITS)
    (first,) = pools.resize(STEP, rooms(0, 0), 0.0)[0]
    pools.told(STEP, first.node, 0, 0, 0, 0.1, error="no interpreter")
    (second,) = pools.resize(STEP, rooms(0, 0), 0.1)[0]
    assert second.node != first.node
    assert pools.hopeless(STEP, rooms(0, 0)) == ""


def test_a_pool_is_hopeless_when_every_node_has_failed_as_often_as_a_step_may() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 1, LIMITS)
    now = 0.0
    for attempt in range(1, 4):
        for node in ("n0", "n1"):
            assert pools.hopeless(STEP, rooms(0, 0)) == "", attempt
            pools.told(STEP, node, 0, 0, 0, now, error="no module named frob")
        now += 100.0
    assert pools.hopeless(STEP, rooms(0, 0)) == "no module named frob"
    start_all(pools, "n1", 1, now)
    assert pools.hopeless(STEP, rooms(0, 0)) == "", "one could be started after all"


def test_a_node_that_can_never_start_one_has_no_hope_at_once() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 1, LIMITS)
    pools.told(STEP, "n0", 0, 0, 0, 0.0, error="no such function", final=True)
    assert pools.hopeless(STEP, rooms(0, 0)) == "", "another node may have it"
    assert pools.hopeless(STEP, rooms(0)) == "no such function"
    start_all(pools, "n0", 1, 100.0)
    assert pools.hopeless(STEP, rooms(0)) == "", "it was mended"


def test_at_its_maximum_an_idle_worker_makes_way_for_one_on_the_node_that_has_the_tasks() -> None:
    pools = Autoscaler()
    limits = Limits(0, 1, 60.0, 1.0, 0)
    pools.need(STEP, "run", 0, limits)
    pools.resize(STEP, rooms(1, 0), 0.0)
    start_all(pools, "n0", 1, 0.1)
    assert pools.resize(STEP, rooms(0, 1), 1.0)[0] == [Resize("n0", 0)]
    pools.told(STEP, "n0", 0, 0, 0, 1.1)
    assert pools.resize(STEP, rooms(0, 1), 1.1)[0] == [Resize("n1", 1)]


def test_a_pools_figures_say_why() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 3, LIMITS)
    pools.resize(STEP, rooms(0), 0.0)
    (figures,) = pools.figures()
    assert (figures.desired, figures.queued, figures.reason) == (3, 3, "3 more: 3 queued")


@given(
    st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 4), min_size=1, max_size=3)), max_size=30),
    st.integers(0, 3),
    st.integers(0, 6),
)
def test_a_target_never_leaves_its_bounds_and_falls_to_nothing_in_the_end(
    story: list[tuple[int, list[int]]], minimum: int, maximum: int
) -> None:
    pools = Autoscaler()
    limits = Limits(minimum, maximum, 5.0, 1.0, 0)
    told: dict[str, int] = {}
    now = 0.0
    for waiting, running in story:
        now += 1.0
        pools.need(STEP, "run", waiting, limits)
        for change in pools.resize(STEP, rooms(*running), now)[0]:
            told[change.node] = change.workers
            assert 0 <= change.workers <= 4
    pools.release(STEP, "run")
    again: float | None = now
    while again is not None:
        now = max(now, again)
        changes, again = pools.resize(STEP, rooms(0, 0, 0), now)
        told |= {change.node: change.workers for change in changes}
    assert not any(told.values())


def test_a_node_without_place_for_another_worker_is_asked_for_none_until_it_says_that_it_has() -> None:
    pools = Autoscaler()
    pools.need(STEP, "run", 6, LIMITS)
    assert {change.node: change.workers for change in pools.resize(STEP, rooms(0, 0), 0.0)[0]} == {"n0": 3, "n1": 3}
    pools.told(STEP, "n0", 0, 1, 0, 1.0, error="Insufficient cpu", full=True)
    assert pools.most(STEP, "n0") == 1
    assert [each.reason for each in pools.figures()] == ["no place for another worker on n0: Insufficient cpu"]
    told, _ = pools.resize(STEP, rooms(0, 0), 1.0)
    assert told == [Resize("n1", 4)], "as many as fit there"
    assert pools.hopeless(STEP, rooms(0, 0)) == ""
    pools.told(STEP, "n0", 0, 1, 0, 11.0)
    assert pools.most(STEP, "n0") is None
    told, _ = pools.resize(STEP, rooms(0, 0), 11.0)
    assert Resize("n0", 3) in told, "what it was told is said again"
