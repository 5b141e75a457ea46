"""Fragments that come, come again, are replaced, contradict themselves, or come later than what is said of them."""

from __future__ import annotations

import pytest

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator import messages, reading
from tests.coordinator.desk import RUN, Desk, unit_ids
from tests.coordinator.workflows import EACH, GATHER, SAME, Use, fragments, output, source, table

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
STEPS = [FLIGHTS, CLEAN, output(CLEAN)]
PARTS = {"inputs.flights": {"edge1": 1}}


def test_the_hub_hears_that_a_fragment_was_accepted() -> None:
    desk = Desk(STEPS, PARTS)
    kind, accepted = desk.first.hub[0]
    assert kind == "accepted"
    assert accepted.epoch == 1  # type: ignore[attr-defined]
    assert list(desk.core.inventory()) == [("default", "run-1", 1, model_pb2.DESIRED_STATE_RUNNING)]


def test_the_same_fragment_again_changes_nothing() -> None:
    desk = Desk(STEPS, PARTS)
    before = desk.core.snapshot()
    said = desk.assign()
    assert desk.core.snapshot() == before
    assert said.records == []
    assert said.nodes == []


def test_a_newer_epoch_replaces_the_fragment_and_starts_anew() -> None:
    desk = Desk(STEPS, PARTS)
    desk.read("inputs.flights")
    said = desk.assign(epoch=2)
    assert [kind for _, kind, _ in said.nodes if kind != "pool"] == ["end_run", "members", "open"]
    assert next(iter(desk.core.inventory()))[2] == 2
    assert desk.status().steps[0].done == 0


def test_an_older_epoch_is_not_taken() -> None:
    desk = Desk(STEPS, PARTS)
    desk.assign(epoch=3)
    before = desk.core.snapshot()
    desk.assign(epoch=2)
    assert desk.core.snapshot() == before


def test_what_a_peer_said_before_the_fragment_came_is_heard_when_it_comes() -> None:
    flights = source("flights", ["edge2"])
    clean = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
    desk = Desk(clusters=["edge1", "edge2"])
    unit = desk.part("inputs.flights").outputs[0].unit
    offer = peer_pb2.Offer(edge="clean.rows", unit=model_pb2.Unit(id=unit.id, digest=unit.digest, size=1000))
    assert desk.peer("edge2", offer=offer).peers == []
    desk.restart()
    desk.join()
    desk.steps, desk.parts = [flights, clean, output(clean)], {"inputs.flights": {"edge2": 1}}
    said = desk.assign()
    assert [cluster for cluster, _ in said.to_peers("accept")] == ["edge2"]
    assert len(desk.restart().to_peers("accept")) == 0


def test_what_a_peer_says_of_a_newer_plan_waits_for_it() -> None:
    flights = source("flights", ["edge2"])
    clean = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
    desk = Desk([flights, clean, output(clean)], {"inputs.flights": {"edge2": 1}}, clusters=["edge1", "edge2"])
    offer = peer_pb2.Offer(edge="clean.rows", unit=model_pb2.Unit(id=b"u" * 16, digest=b"d" * 32, size=1000))
    assert desk.peer("edge2", epoch=2, revision=2, offer=offer).to_peers("accept") == []
    assert len(desk.assign(epoch=2).to_peers("accept")) == 1


def test_a_peer_of_an_older_epoch_is_not_heard() -> None:
    flights = source("flights", ["edge2"])
    clean = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
    desk = Desk([flights, clean, output(clean)], {"inputs.flights": {"edge2": 1}}, clusters=["edge1", "edge2"])
    desk.assign(epoch=2)
    offer = peer_pb2.Offer(edge="clean.rows", unit=model_pb2.Unit(id=b"u" * 16, digest=b"d" * 32, size=1000))
    said = desk.peer("edge2", epoch=1, revision=1, offer=offer)
    assert said.peers == []
    assert said.records == []


def fenced() -> tuple[Desk, peer_pb2.Offer]:
    """A desk of edge1 whose run goes on without edge2, and what edge2 goes on to say."""
    flights = source("flights", ["edge1"])
    clean = Use("clean", ["edge1", "edge2"], {"rows": ("inputs.flights.out", EACH)})
    desk = Desk([flights, clean, output(clean)], {"inputs.flights": {"edge1": 1}}, clusters=["edge1", "edge2"])
    desk.steps[1].executors = desk.steps[2].executors = ["edge1"]
    desk.clusters = ["edge1"]
    desk.assign(epoch=2)
    return desk, peer_pb2.Offer(edge="clean.rows", unit=model_pb2.Unit(id=b"u" * 16, digest=b"d" * 32, size=1000))


def test_a_cluster_that_was_replaced_is_not_heard_and_told_so_once() -> None:
    desk, offer = fenced()
    said = desk.peer("edge2", epoch=1, revision=1, offer=offer)
    assert said.records == []
    [(cluster, message)] = said.to_peers("superseded")
    shown = model_pb2.EpochTable.FromString(message.superseded.table.table)
    assert (cluster, shown.revision, dict(shown.epochs)) == ("edge2", 2, {"edge1": 2})
    assert desk.peer("edge2", epoch=1, revision=1, offer=offer).peers == []


def test_who_knows_of_the_newest_plan_only_that_its_run_is_over_tells_nobody_of_it() -> None:
    """What was said under a plan that never came here is too old then; there is no table to answer with."""
    desk, offer = fenced()
    kept = desk.peer("edge2", epoch=3, revision=3, offer=offer)
    assert [type(record).__name__ for record in kept.records] == ["MessageKept"]
    name = model_pb2.Fragment(namespace="default", run="run-1", cluster="edge1", epoch=4, revision=4)
    assigned = messages.FragmentAssigned(name.SerializeToString(), model_pb2.DESIRED_STATE_FINISHED)
    assert desk.do(assigned).peers == []


def superseded(clusters: list[str], epoch: int = 2, run: str = RUN.run) -> peer_pb2.Superseded:
    return peer_pb2.Superseded(table=model_pb2.SignedEpochs(table=table(clusters, epoch, run=run)))


def test_a_cluster_that_hears_that_it_was_replaced_stops_and_frees_everything() -> None:
    desk = Desk(STEPS, PARTS)
    [task] = desk.read("inputs.flights").starts
    said = desk.peer("edge2", epoch=2, revision=2, superseded=superseded(["edge2"]))
    assert said.ended is not None
    assert said.ended.state == model_pb2.FRAGMENT_STATE_CANCELLED
    assert said.ended.failures[0].kind == "replaced"
    assert "edge2" in said.ended.failures[0].message
    assert [kind for _, kind, _ in said.nodes if kind == "end_run"]
    assert desk.done(task).records == []


@pytest.mark.parametrize(
    "told",
    [
        superseded(["edge1", "edge2"]),  # we take part: the fragment comes from the hub
        superseded(["edge2"], epoch=1),  # no newer one than ours
        superseded(["edge2"], run="run-2"),
        peer_pb2.Superseded(),
    ],
)
def test_no_other_table_stops_a_cluster(told: peer_pb2.Superseded) -> None:
    """Whatever the revision that its sender claims to have."""
    desk = Desk(STEPS, PARTS)
    said = desk.peer("edge2", epoch=9, revision=9, superseded=told)
    assert said.records == []
    assert said.ended is None


def test_the_table_of_an_earlier_run_of_the_same_name_stops_nothing() -> None:
    desk = Desk()
    desk.steps, desk.parts = STEPS, PARTS
    desk.assign(epoch=5)
    older = model_pb2.EpochTable(namespace="default", run=RUN.run, revision=7, epochs={"edge2": 4}).SerializeToString()
    told = peer_pb2.Superseded(table=model_pb2.SignedEpochs(table=older))
    assert desk.peer("edge2", epoch=9, revision=9, superseded=told).ended is None


def test_a_fragment_that_contradicts_itself_is_answered_with_the_reason() -> None:
    lost = Use("lost", ["edge1"], {"rows": ("nowhere.out", EACH)})
    desk = Desk([lost], {})
    ended = desk.first.ended
    assert ended is not None
    assert ended.state == model_pb2.FRAGMENT_STATE_FAILED
    assert "lost.rows" in ended.failures[0].message
    assert "nowhere" in ended.failures[0].message


def test_a_run_that_was_cancelled_before_it_came_is_told_to_be_over() -> None:
    desk = Desk()
    desk.steps, desk.parts = STEPS, PARTS
    said = desk.assign(desired=model_pb2.DESIRED_STATE_CANCELLED)
    assert said.ended is not None
    assert said.ended.state == model_pb2.FRAGMENT_STATE_CANCELLED
    assert list(desk.core.inventory()) == []


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"a": ("inputs.flights.out", EACH), "b": ("inputs.flights.out", EACH)}, "is driven by s.a already"),
        ({"a": ("inputs.flights.out", EACH), "b": ("inputs.flights.out", GATHER)}, "all of its ports must gather"),
        ({"a": ("inputs.flights.out", SAME)}, "no port drives it"),
    ],
)
def test_pairings_that_say_nothing_are_refused(inputs: dict[str, tuple[str, int]], complaint: str) -> None:
    step = Use("s", ["edge1"], inputs)  # type: ignore[arg-type]
    serialised = fragments([FLIGHTS, step], PARTS, ["edge1"])["edge1"]
    with pytest.raises(ValueError, match=complaint):
        reading.read(serialised, "edge1")


def test_a_suspended_run_starts_nothing_new_until_it_is_resumed() -> None:
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 2}})
    (first,) = desk.read("inputs.flights", 0).starts
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_SUSPENDED))
    assert desk.status().state == model_pb2.FRAGMENT_STATE_SUSPENDED
    assert desk.read("inputs.flights", 1).starts == []
    assert desk.done(first).recorded(type(first)) == []
    said = desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_RUNNING))
    (second,) = said.starts
    assert unit_ids(second, "rows") != unit_ids(first, "rows")
