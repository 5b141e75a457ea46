"""Bytes that are others than they were: who has the old ones, who the new ones, and what becomes of either."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2, node_pb2, peer_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.units.records import CopiesLost
from tests.coordinator.desk import RUN, Desk, outputs
from tests.coordinator.federation import made
from tests.coordinator.test_crossing import THERE, offer, receiver, sender, word
from tests.coordinator.workflows import EACH, GATHER, Use, output, source
from tests.fixtures import words

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
REPORT = Use("report", ["edge1"], {"rows": ("clean.out", GATHER)})
STEPS = [FLIGHTS, CLEAN, REPORT, output(REPORT)]


def test_what_an_attempt_that_was_given_up_has_left_is_not_taken_for_the_unit() -> None:
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 1}}, nodes=["n1"])
    desk.read("inputs.flights")
    desk.join("n2")
    desk.lose("n1")
    desk.at(desk.now + 6)
    desk.read("inputs.flights", node="n2")
    [task] = desk.at(desk.now + 1).starts
    assert task.key.attempt == 2
    [unit] = [made.unit.id for made in outputs(task)]
    desk.done(task, "n2")
    said = desk.join("n1", process=b"2", units=[unit])
    assert unit in said.freed("n1")
    assert desk.core._book.lives[RUN].run.units[unit].copies == ["n2"], "the bytes on n1 may be others"


def test_what_a_late_result_has_put_in_the_place_of_a_unit_is_not_taken_for_it() -> None:
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 2}}, nodes=["n1"])
    (task,) = desk.read("inputs.flights").starts
    desk.done(task)
    others = [made(task.key.task, "out", 0, 1000, b"varied")]
    said = desk.do(messages.NodeSaid("n1", words.done(RUN, task.key.task, 7, others)))
    [unit] = [each.unit.id for each in others]
    assert said.recorded(CopiesLost) == [CopiesLost(RUN, "n1", (unit,))]
    assert unit in said.freed()
    assert [each.key.task for each in desk.read("inputs.flights").starts] == [task.key.task], "it is made again"


def test_a_task_whose_result_comes_after_all_waits_for_no_input_any_more() -> None:
    """If that result is lost then, the task would be executed for each of the two reasons."""
    tidy = Use("tidy", ["edge1"], {"rows": ("clean.out", EACH)})
    desk = Desk([FLIGHTS, CLEAN, tidy, output(tidy)], {"inputs.flights": {"edge1": 2}}, nodes=["n1"])
    (task,) = desk.read("inputs.flights").starts
    (task,) = desk.done(task).starts
    desk.join("n2")
    desk.lose("n1")
    for _ in range(8):
        desk.at(desk.now + 1)
    parked = desk.core._book.lives[RUN].parked
    assert [task.key.task] in parked.values()
    desk.join("n1", process=b"2")
    desk.done(task)
    assert [task.key.task] not in parked.values()


def test_what_a_node_has_of_a_task_that_it_does_over_does_not_count_meanwhile() -> None:
    """The run may end before that task has, and the node be told to keep what is not what it was."""
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 2}}, nodes=["n1"], run_policy=model_pb2.Policy(retain=60.0))
    (task,) = desk.read("inputs.flights").starts
    desk.done(task, count=2)
    lost, left = (each.unit.id for each in outputs(task, count=2))
    desk.do(messages.UnitsDamaged("n1", RUN, (lost,)))
    (again,) = desk.read("inputs.flights").starts
    assert again.key.task == task.key.task
    ((_, command),) = desk.assign(epoch=2).to_nodes("end_run")
    assert isinstance(command, node_pb2.EndRun)
    assert left not in command.keep


def test_a_unit_that_a_node_has_before_it_is_known_is_freed_there_when_it_is_made_elsewhere() -> None:
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 1}}, nodes=["n1"])
    [unit] = [output.unit.id for output in desk.part("inputs.flights").outputs]
    desk.join("n2", units=[unit])
    assert unit in desk.read("inputs.flights", node="n1").freed("n2")


def test_a_unit_whose_bytes_are_others_now_is_fetched_anew_though_a_fetch_is_under_way() -> None:
    desk = receiver()
    message = offer(desk)
    desk.peer(THERE, offer=message)
    desk.peer(THERE, grant=peer_pb2.Grant(**word(message)))  # type: ignore[arg-type]
    assert desk.peer(THERE, offer=message).to_nodes("fetch") == [], "the same bytes are on their way"
    message.unit.digest = b"\1" * 32
    ((_, fetch),) = desk.peer(THERE, offer=message).to_nodes("fetch")
    assert isinstance(fetch, node_pb2.FetchUnit)
    assert fetch.unit.digest == message.unit.digest


def test_a_push_of_a_unit_that_is_gone_has_it_made_again_and_pushed_from_there() -> None:
    desk = sender()
    desk.read("inputs.flights")
    unit = desk.part("inputs.flights").outputs[0].unit
    about = {"edge": "clean.rows", "unit": unit.id}
    desk.peer(THERE, accept=peer_pb2.Accept(**about))
    desk.peer(THERE, granted=peer_pb2.Granted(**about))
    push = peer_pb2.PushRequest()
    push.unit.id = unit.id
    push.to.cluster, push.to.node, push.to.address = THERE, "n9", "far:1"
    assert len(desk.peer(THERE, push=push).to_nodes("push")) == 1
    said = desk.do(messages.PushEnded("n1", RUN, unit.id, "far:1", "its bytes are others", gone=True))
    assert len(said.to_nodes("open")) == 1, "it is made again"
    assert len(desk.read("inputs.flights").to_nodes("push")) == 1
