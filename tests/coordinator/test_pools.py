"""Pools as a run sees them: workers ahead of the work, and a step that can't be started."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.messages import PoolTold
from tests.coordinator.desk import RUN, Desk, Said
from tests.coordinator.workflows import EACH, Use, output, source

FLIGHTS = source("flights", ["edge1"])


def two_steps(parts: int = 2, **kwargs: object) -> Desk:
    clean = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
    tidy = Use("tidy", ["edge1"], {"rows": ("clean.out", EACH)})
    steps = [FLIGHTS, clean, tidy, output(tidy)]
    return Desk(steps, {"inputs.flights": {"edge1": parts}}, **kwargs)  # type: ignore[arg-type]


def sizes(said: Said) -> dict[str, int]:
    return {size.definition: size.workers for _, size in said.to_nodes("pool")}  # type: ignore[attr-defined]


def told(definition: str, node: str = "n1", *, idle: int = 0, error: str = "", final: bool = False) -> PoolTold:
    return PoolTold(node, definition, 0, idle, 0, 0.1 if idle else 0.0, error, final=final)


def test_the_first_workers_of_each_step_start_with_the_run() -> None:
    """What was never measured may be over at once, so nothing is waited for."""
    assert set(sizes(two_steps().first)) == {"clean@1", "tidy@1"}


def test_workers_of_a_step_start_one_start_ahead_of_what_its_predecessor_makes() -> None:
    desk = two_steps(parts=2, cpus=1)
    desk.do(told("clean@1", idle=1))
    (first,) = desk.read("inputs.flights").starts
    desk.do(told("clean@1", idle=1), told("tidy@1", idle=1))
    desk.done(first, seconds=50.0)
    desk.now += 200.0
    desk.do(told("tidy@1", idle=0))
    said = desk.read("inputs.flights", 1)
    assert "tidy@1" not in sizes(said), "it is needed in 50 seconds"
    assert said.wake is not None
    while desk.now < 259.0:
        said = desk.at(said.wake)
        if "tidy@1" in sizes(said):
            break
        assert said.wake is not None
    assert 259.0 < desk.now < 260.0


def test_orders_do_not_wait_for_the_size_of_their_pool() -> None:
    desk = two_steps(parts=1)
    said = desk.read("inputs.flights")
    kinds = [kind for _, kind, _ in said.nodes]
    assert "pool" not in kinds[kinds.index("start") :]


def test_a_step_that_cannot_be_started_fails_its_run_in_the_workers_own_words() -> None:
    desk = two_steps(parts=1)
    desk.read("inputs.flights")
    for _ in range(3):
        assert desk.status().state == model_pb2.FRAGMENT_STATE_RUNNING
        said = desk.do(told("clean@1", error="ModuleNotFoundError: No module named 'frob'"))
        desk.now += 40.0
    assert said.ended is not None
    assert "No module named 'frob'" in said.ended.failures[-1].message
    assert said.ended.failures[-1].step == "clean"


def test_a_start_that_can_never_go_well_is_not_tried_again_where_it_failed() -> None:
    desk = two_steps(parts=1, nodes=["n1", "n2"])
    desk.read("inputs.flights")
    first = desk.do(told("clean@1", "n1", error="there is no module frob", final=True))
    assert first.ended is None, "the other node may have it"
    last = desk.do(told("clean@1", "n2", error="there is no module frob", final=True))
    assert last.ended is not None
    assert last.ended.failures[-1].message == "no worker of clean@1 can be started on edge1: there is no module frob"


def test_a_run_whose_task_waits_for_its_next_attempt_ends_with_the_last_hope_for_a_worker() -> None:
    desk = two_steps(parts=1)
    (task,) = desk.read("inputs.flights").starts
    assert desk.failed(task, kind="start").ended is None
    said = desk.do(told("clean@1", error="there is no module frob", final=True))
    assert said.ended is not None


def test_a_run_does_not_fail_for_a_step_that_it_may_never_need() -> None:
    """Workers of `tidy` are started ahead and can't be; as long as `clean` made nothing for it, nothing is lost."""
    desk = two_steps(parts=1)
    (task,) = desk.read("inputs.flights").starts
    for _ in range(8):
        assert desk.do(told("tidy@1", error="no interpreter")).ended is None
        desk.now += 40.0
    said = desk.done(task, count=0)
    assert said.ended is not None
    assert said.ended.state == model_pb2.FRAGMENT_STATE_SUCCEEDED


def test_a_run_that_needs_the_step_after_all_fails_with_the_words_of_the_next_try() -> None:
    desk = two_steps(parts=1)
    (task,) = desk.read("inputs.flights").starts
    for _ in range(4):
        desk.do(told("tidy@1", error="no interpreter"))
        desk.now += 40.0
    assert desk.done(task).ended is None
    said = desk.do(told("tidy@1", error="still no interpreter"))
    assert said.ended is not None
    assert "still no interpreter" in said.ended.failures[-1].message


def test_one_node_that_cannot_start_workers_fails_nothing_while_another_can() -> None:
    desk = two_steps(parts=4, nodes=["n1", "n2"])
    desk.do(*(desk.part("inputs.flights", index) for index in range(4)))
    desk.do(told("clean@1", "n2", idle=2))
    for _ in range(8):
        assert desk.do(told("clean@1", "n1", error="no interpreter")).ended is None
        desk.now += 40.0


def test_pools_are_shown_with_what_they_wait_for() -> None:
    desk = two_steps(parts=9)
    desk.do(*(desk.part("inputs.flights", index) for index in range(9)))
    clean = next(pool for pool in desk.core.pools() if pool.definition == "clean@1")
    assert (clean.desired, clean.queued) == (2, 7)
    assert clean.reason


def test_what_waits_in_a_suspended_run_needs_no_workers() -> None:
    desk = two_steps(parts=9, cpus=9)
    desk.do(*(desk.part("inputs.flights", index) for index in range(2)))
    desk.lose()
    desk.do(*(desk.part("inputs.flights", index) for index in range(2, 9)))
    desk.join()
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_SUSPENDED))
    assert [pool.queued for pool in desk.core.pools()] == [0, 0]
