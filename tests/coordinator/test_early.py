"""What peers say of runs that have not come: kept in bounds, none of it dropped in silence."""

from __future__ import annotations

import pytest

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.messages import PeerSaid
from tests.coordinator.desk import RUN, Desk
from tests.coordinator.workflows import EACH, Use, output, source

BOUND = 20_000
FLIGHTS = source("flights", ["edge2"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})


FORGOTTEN = model_pb2.DESIRED_STATE_FORGOTTEN


def offer(unit: int, run: str = RUN.run, plan: int = 1) -> bytes:
    offered = peer_pb2.Offer(edge="clean.rows", unit=model_pb2.Unit(id=unit.to_bytes(16, "big"), digest=b"d" * 32))
    message = peer_pb2.PeerMessage(namespace="default", run=run, epoch=plan, revision=plan, offer=offered)
    return message.SerializeToString()


def report(tasks: int) -> bytes:
    told = peer_pb2.StepReport(step="inputs.flights", tasks=tasks)
    message = peer_pb2.PeerMessage(namespace="default", run=RUN.run, epoch=1, revision=1, report=told)
    return message.SerializeToString()


@pytest.fixture
def desk() -> Desk:
    """Of edge1, to which no fragment has come."""
    return Desk(clusters=["edge1", "edge2", "mallory"], policy=Policy(early_bytes=BOUND))


def describe(desk: Desk, clusters: list[str]) -> None:
    desk.steps, desk.parts, desk.clusters = [FLIGHTS, CLEAN, output(CLEAN)], {"inputs.flights": {"edge2": 1}}, clusters


def assign(desk: Desk, clusters: list[str]) -> model_pb2.FragmentStatus | None:
    describe(desk, clusters)
    return desk.assign().ended


def flood(desk: Desk, cluster: str, count: int = 1000) -> None:
    for unit in range(count):
        desk.do(PeerSaid(cluster, offer(unit)))


def test_a_peer_that_says_too_much_has_the_run_fail_when_it_comes_and_not_hang(desk: Desk) -> None:
    flood(desk, "edge2")
    assert len(desk.core.snapshot()) < 2 * BOUND
    desk.restart()
    ended = assign(desk, ["edge1", "edge2"])
    assert ended is not None
    assert ended.state == model_pb2.FRAGMENT_STATE_FAILED
    assert "edge2 had said more of the run than is kept" in ended.failures[-1].message


def test_who_takes_no_part_in_the_run_can_not_have_it_fail(desk: Desk) -> None:
    flood(desk, "mallory")
    desk.do(PeerSaid("edge2", offer(1)))
    desk.steps, desk.parts, desk.clusters = (
        [FLIGHTS, CLEAN, output(CLEAN)],
        {"inputs.flights": {"edge2": 1}},
        ["edge1", "edge2"],
    )
    said = desk.assign()
    assert said.ended is None
    assert [cluster for cluster, _ in said.to_peers("accept")] == ["edge2"]


def test_a_member_that_speaks_of_endless_runs_fills_nothing(desk: Desk) -> None:
    for number in range(2_000):
        desk.do(PeerSaid("mallory", offer(1, run=f"run-of-mine-{number}")))
    assert len(desk.core.snapshot()) < 3 * BOUND
    before = desk.core.snapshot()
    desk.do(PeerSaid("mallory", offer(1, run="one-more")))
    assert desk.core.snapshot() == before


def test_of_what_a_step_has_done_only_the_newest_report_is_kept(desk: Desk) -> None:
    """A cluster that is well, and works on for days before our fragment comes, stays within the bound."""
    for tasks in range(2_000):
        desk.do(PeerSaid("edge2", report(tasks)))
    early = desk.core._book.state.early["default/run-1"]
    assert list(early.kept["edge2"].values()) == [report(1_999)]
    assert early.refused == []


@pytest.mark.parametrize("come", [True, False])
def test_what_was_kept_makes_room_again(desk: Desk, come: bool) -> None:
    for unit in range(20):
        desk.do(PeerSaid("edge2", offer(unit)))
    flood(desk, "mallory")
    for tasks in range(5):
        desk.do(PeerSaid("edge2", report(tasks)))
    kept = dict(desk.core._book.early_bytes)
    assert set(kept) == {"edge2", "mallory"}
    desk.restart()
    assert desk.core._book.early_bytes == kept
    if come:
        assign(desk, ["edge1", "edge2"])
    else:
        describe(desk, ["edge1", "edge2"])
        desk.assign(desired=FORGOTTEN)
        before = desk.core.snapshot()
        desk.do(PeerSaid("mallory", offer(1)))
        assert desk.core.snapshot() == before, "a late word of a run that is deleted"
    assert desk.core._book.early_bytes == {}


@pytest.mark.parametrize("came", [True, False])
def test_what_was_said_of_a_newer_plan_is_not_forgotten_with_the_fragment_before_it(desk: Desk, came: bool) -> None:
    """It was acknowledged, and is not said again; the cluster may have part in both, and hear late of either."""
    describe(desk, ["edge1", "edge2"])
    if came:
        desk.assign()
    desk.do(PeerSaid("edge2", offer(1)), PeerSaid("edge2", offer(2, plan=2)))
    desk.assign(desired=FORGOTTEN)
    desk.restart()
    desk.join()
    said = desk.assign(epoch=2)
    assert [each.accept.unit for _, each in said.to_peers("accept")] == [(2).to_bytes(16, "big")]
    assert desk.core._book.early_bytes == {}
