"""How units become tasks."""

from __future__ import annotations

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator.messages import NodeSaid
from cluster_agent.coordinator.tasks.records import Gathered
from tests.coordinator.desk import RUN, Desk, outputs, sum_of, unit_ids
from tests.coordinator.workflows import EACH, GATHER, SAME, Use, output, source, split
from tests.fixtures import words
from wire.digests import task_id

FLIGHTS = source("flights", ["edge1"])
WEATHER = source("weather", ["edge1"])


def test_each_unit_becomes_a_task_the_moment_it_exists() -> None:
    clean = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
    desk = Desk([FLIGHTS, clean, output(clean)], {"inputs.flights": {"edge1": 2}})
    assert len(desk.first.to_nodes("open")) == 2
    said = desk.read("inputs.flights", 0)
    assert [task.step for task in said.starts] == ["clean"], "the other part is not waited for"
    assert said.starts[0].inputs[0].many is False
    assert said.starts[0].key.task == task_id("default", "run-1", "clean", [("rows", unit_ids(said.starts[0], "rows"))])


def test_units_of_a_split_move_on_while_it_still_runs() -> None:
    parts = split(FLIGHTS)
    clean = Use("clean", ["edge1"], {"rows": (f"{parts.name}.out", EACH)})
    desk = Desk([FLIGHTS, parts, clean, output(clean)], {"inputs.flights": {"edge1": 1}})
    (task,) = desk.read("inputs.flights").starts
    first, second = outputs(task, 2)
    said = desk.do(NodeSaid("n1", words.produced(RUN, task.key.task, 1, (first,))))
    assert [unit_ids(started, "rows") for started in said.starts] == [[first.unit.id]]
    said = desk.done(task, count=2)
    assert [unit_ids(started, "rows") for started in said.starts] == [[second.unit.id]], "the first is not taken twice"


def joined() -> tuple[Desk, Use]:
    join = Use(
        "join",
        ["edge1"],
        {"rows": ("inputs.flights.out", EACH), "weather": ("inputs.weather.out", SAME)},
        pinned=True,
    )
    desk = Desk(
        [FLIGHTS, WEATHER, join, output(join)], {"inputs.flights": {"edge1": 2}, "inputs.weather": {"edge1": 2}}
    )
    return desk, join


def test_a_paired_task_waits_for_all_side_inputs_of_its_cluster() -> None:
    desk, _ = joined()
    assert desk.read("inputs.flights", 0).starts == []
    assert desk.read("inputs.weather", 0).starts == []
    said = desk.read("inputs.weather", 1)
    (task,) = said.starts
    assert len(unit_ids(task, "weather")) == 2
    assert unit_ids(task, "weather") == sorted(unit_ids(task, "weather"))
    assert len(desk.read("inputs.flights", 1).starts) == 1, "once complete, a new unit waits for nothing"


def test_side_inputs_are_kept_until_their_step_has_closed() -> None:
    desk, _ = joined()
    desk.read("inputs.weather", 0)
    desk.read("inputs.weather", 1)
    (first,) = desk.read("inputs.flights", 0).starts
    side = set(unit_ids(first, "weather"))
    said = desk.done(first)
    assert said.freed() == set(unit_ids(first, "rows"))
    (second,) = desk.read("inputs.flights", 1).starts
    said = desk.done(second)
    assert said.freed() == set(unit_ids(second, "rows")) | side


def test_side_inputs_that_a_step_makes_are_complete_when_it_has_closed() -> None:
    prepare = Use("prepare", ["edge1"], {"rows": ("inputs.weather.out", EACH)}, pinned=True)
    join = Use("join", ["edge1"], {"rows": ("inputs.flights.out", EACH), "side": ("prepare.out", SAME)}, pinned=True)
    desk = Desk(
        [FLIGHTS, WEATHER, prepare, join, output(join)],
        {"inputs.flights": {"edge1": 1}, "inputs.weather": {"edge1": 2}},
        cpus=4,
    )
    desk.read("inputs.flights")
    (one,) = desk.read("inputs.weather", 0).starts
    (two,) = desk.read("inputs.weather", 1).starts
    assert desk.done(one).starts == []
    (task,) = desk.done(two).starts
    assert task.step == "join"
    assert len(unit_ids(task, "side")) == 2


def test_a_gathering_step_takes_all_units_at_once_in_the_order_of_their_ids() -> None:
    report = Use("report", ["edge1"], {"parts": ("inputs.flights.out", GATHER)})
    desk = Desk([FLIGHTS, report, output(report)], {"inputs.flights": {"edge1": 3}})
    assert desk.read("inputs.flights", 0).starts == []
    assert desk.read("inputs.flights", 1).starts == []
    (task,) = desk.read("inputs.flights", 2).starts
    units = unit_ids(task, "parts")
    assert len(units) == 3
    assert units == sorted(units)
    assert task.inputs[0].many
    assert task.key.task == task_id("default", "run-1", "report", [("parts", units)])


def test_a_gathering_step_without_units_still_has_its_one_task() -> None:
    report = Use("report", ["edge1"], {"parts": ("inputs.flights.out", GATHER)})
    desk = Desk([FLIGHTS, report, output(report)], {"inputs.flights": {}})
    (task,) = desk.first.starts
    assert task.inputs[0].port == "parts"
    assert not task.inputs[0].units
    assert task.inputs[0].many
    said = desk.done(task)
    assert said.ended is not None
    assert said.ended.state == 4


def test_a_step_without_inputs_is_executed_once_by_its_counter() -> None:
    lone = Use("lone", ["edge1", "edge2"], counter="edge1")
    desk = Desk([lone, output(lone)], clusters=["edge1", "edge2"])
    assert [task.step for task in desk.first.starts] == ["lone"]
    other = Desk([lone, output(lone)], clusters=["edge2", "edge1"])
    assert other.first.starts == []


def test_a_gathering_step_waits_for_units_of_other_clusters_until_all_have_come() -> None:
    flights = source("flights", ["edge2"])
    report = Use("report", ["edge1"], {"parts": ("inputs.flights.out", GATHER)})
    desk = Desk([flights, report, output(report)], {"inputs.flights": {"edge2": 1}}, clusters=["edge1", "edge2"])
    unit = desk.part("inputs.flights").outputs[0].unit
    closed = peer_pb2.StepClosed(step="inputs.flights")
    closed.produced["out"].by_cluster["edge2"].CopyFrom(sum_of(unit.id))
    assert desk.peer("edge2", closed=closed).starts == []
    offer = peer_pb2.Offer(edge="report.parts")
    offer.unit.id, offer.unit.digest, offer.unit.size = unit.id, unit.digest, unit.size
    offer.location.cluster, offer.location.node, offer.location.address = "edge2", "n9", "n9:1"
    desk.peer("edge2", offer=offer)
    desk.peer("edge2", grant=peer_pb2.Grant(edge="report.parts", unit=unit.id))
    said = desk.fetched(unit.id)
    assert [unit_ids(task, "parts") for task in said.starts] == [[unit.id]]
    assert len(said.recorded(Gathered)) == 1
