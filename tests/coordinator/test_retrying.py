"""When a task is tried again, and when its run fails."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.book import Policy
from cluster_agent.orders.messages import Failure
from tests.coordinator.desk import RUN, Desk
from tests.coordinator.workflows import EACH, Use, output, source
from tests.fixtures import words

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
STEPS = [FLIGHTS, CLEAN, output(CLEAN)]
PARTS = {"inputs.flights": {"edge1": 1}}


def test_waits_grow_as_the_step_says_and_attempts_are_counted() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    assert task.key.attempt == 1
    said = desk.failed(task)
    assert said.starts == []
    assert said.wake == desk.now + 1.0
    (task,) = desk.at(desk.now + 1.0).starts
    assert task.key.attempt == 2
    said = desk.failed(task)
    assert said.wake == desk.now + 2.0
    assert [event.type for event in said.published] == ["task.failed", "task.retrying"]


def test_a_task_out_of_attempts_fails_the_run_and_says_why() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    for _ in range(2):
        desk.failed(task)
        (task,) = desk.at(desk.now + 10).starts
    said = desk.failed(task)
    assert said.ended is not None
    assert said.ended.state == model_pb2.FRAGMENT_STATE_FAILED
    failure = said.ended.failures[-1]
    assert failure.step == "clean"
    assert failure.task == task.key.task
    assert "the last of 3 attempts" in failure.message
    assert "ValueError: bad row" in failure.message
    assert failure.detail == "Traceback"
    assert len(said.to_nodes("end_run")) == 1
    assert desk.core.tasks(RUN)[0].state == "failed"


def test_what_is_not_the_steps_fault_does_not_use_up_its_attempts() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    for _ in range(10):
        assert desk.failed(task, kind="lost").ended is None
        (task,) = desk.at(desk.now + 100).starts
    assert desk.done(task).ended is not None


def test_what_is_not_the_steps_fault_has_a_bound_all_the_same() -> None:
    desk = Desk(STEPS, PARTS, policy=Policy(lost_bound=4))
    (task,) = desk.read("inputs.flights").starts
    for _ in range(3):
        desk.failed(task, kind="lost")
        (task,) = desk.at(desk.now + 100).starts
    ended = desk.failed(task, kind="lost").ended
    assert ended is not None
    assert ended.failures[-1].kind == "lost"


def test_inputs_that_a_node_could_not_read_are_brought_again() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    ((_, look),) = desk.failed(task, kind="data").to_nodes("fetch")
    unit = look.key.unit  # type: ignore[attr-defined]
    assert not look.addresses, "the node shall look whether it has it, and nowhere else"  # type: ignore[attr-defined]
    assert len(desk.fetched(unit, error="no address was given").to_nodes("open")) == 1
    assert desk.at(desk.now + 100).starts == []
    (again,) = desk.read("inputs.flights").starts
    assert again.key.task == task.key.task


def test_a_second_try_goes_to_another_node_if_there_is_one() -> None:
    desk = Desk(STEPS, PARTS, nodes=["n1", "n2"])
    desk.read("inputs.flights")
    (info,) = desk.core.tasks(RUN)
    first = info.node
    desk.do(messages.NodeSaid(first, words.failed(RUN, info.task, 1, Failure("exception", "no"))))
    desk.at(desk.now + 10)
    (info,) = desk.core.tasks(RUN)
    assert info.node != first


def test_after_a_restart_the_wait_begins_anew() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.failed(task)
    desk.now += 0.9
    said = desk.restart()
    assert said.wake == desk.now + 1.0
    desk.join(units=[unit.id for given in task.inputs for unit in given.units])
    (again,) = desk.at(desk.now + 1.0).starts
    assert again.key.attempt == 2


def test_a_source_that_cannot_be_read_fails_the_run_and_names_the_file() -> None:
    desk = Desk(STEPS, PARTS, nodes=["n1", "n2"])
    tried = [node for node, _ in desk.first.to_nodes("open")]
    said = desk.do(messages.SourceRead(tried[-1], RUN, "inputs.flights", 0, error="No such file or directory"))
    while said.ended is None:
        said = desk.at(desk.now + 100)
        ((node, _),) = said.to_nodes("open")
        tried.append(node)
        said = desk.do(messages.SourceRead(node, RUN, "inputs.flights", 0, error="No such file or directory"))
    assert len(tried) == 3
    assert set(tried) == {"n1", "n2"}
    assert "inputs.flights/0.csv" in said.ended.failures[-1].message
    assert "No such file" in said.ended.failures[-1].message


def test_a_step_that_no_node_can_hold_fails_the_run_and_says_what_is_lacking() -> None:
    big = Use("big", ["edge1"], {"rows": ("inputs.flights.out", EACH)}, cpus=64)
    desk = Desk([FLIGHTS, big, output(big)], PARTS)
    said = desk.read("inputs.flights")
    assert said.wake is not None
    said = desk.at(said.wake)
    assert said.ended is not None
    message = said.ended.failures[-1].message
    assert "big needs 64 cpus" in message
    assert "the largest have 2 cpus" in message


def test_a_cluster_that_never_had_a_node_fails_the_run_and_says_so() -> None:
    desk = Desk(STEPS, PARTS, nodes=[])
    said = desk.first
    assert said.wake == desk.now + 60
    desk.now += 30
    assert desk.restart().wake == desk.now + 60
    ended = desk.at(desk.now + 60).ended
    assert ended is not None
    assert "no node of edge1 has ever joined" in ended.failures[-1].message


def test_nodes_that_are_away_are_waited_for() -> None:
    desk = Desk(STEPS, PARTS)
    desk.lose()
    for _ in range(20):
        assert desk.at(desk.now + 100).ended is None


def test_a_node_that_can_hold_the_step_may_still_come() -> None:
    big = Use("big", ["edge1"], {"rows": ("inputs.flights.out", EACH)}, cpus=64)
    desk = Desk([FLIGHTS, big, output(big)], PARTS)
    said = desk.read("inputs.flights")
    desk.cpus = 64
    assert [kind for _, kind, _ in desk.join("n2").nodes if kind in ("fetch", "start")] == ["fetch"]
    assert said.wake is not None
    assert desk.at(said.wake).ended is None
