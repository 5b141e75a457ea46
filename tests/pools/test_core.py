"""How many workers are kept warm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

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
