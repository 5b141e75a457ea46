"""Nodes that go and come back."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.messages import Place
from cluster_agent.coordinator.tasks.records import Committed
from cluster_agent.coordinator.units.records import Remade
from tests.coordinator.desk import RUN, Desk, Said, outputs, unit_ids
from tests.coordinator.workflows import EACH, Use, output, source

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
TIDY = Use("tidy", ["edge1"], {"rows": ("clean.out", EACH)})
STEPS = [FLIGHTS, CLEAN, TIDY, output(TIDY)]
PARTS = {"inputs.flights": {"edge1": 1}}


def test_a_task_that_the_node_still_runs_goes_on() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.lose()
    said = desk.join(running=[task], units=unit_ids(task, "rows"))
    assert said.starts == []
    assert len(desk.done(task).starts) == 1


def test_a_task_that_the_node_was_not_told_of_is_tried_again_and_nothing_is_counted() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.lose()
    said = desk.join(units=unit_ids(task, "rows"))
    assert said.wake is not None
    (again,) = desk.at(said.wake).starts
    assert again.key.task == task.key.task
    assert again.key.attempt == 2
    assert desk.progress("clean").failed == 0


def test_a_task_lost_with_the_daemon_is_tried_again_and_counted_as_lost() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.lose()
    said = desk.join(process=b"2", units=unit_ids(task, "rows"))
    assert said.wake is not None
    assert len(desk.at(said.wake).starts) == 1
    assert desk.status().failures[0].kind == "lost"


def test_a_result_that_comes_just_after_the_node_joined_counts() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.lose()
    wake = desk.join(process=b"2", units=unit_ids(task, "rows")).wake
    said = desk.done(task)
    assert len(said.recorded(Committed)) == 1
    assert wake is not None
    assert [started.step for started in (*said.starts, *desk.at(wake).starts)] == ["tidy"]


def test_a_result_that_comes_before_the_node_joined_is_acknowledged_when_it_has() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.lose()
    assert desk.done(task).to_nodes("ack") == []
    said = desk.join(units=[*unit_ids(task, "rows"), outputs(task)[0].unit.id])
    assert len(said.to_nodes("ack")) == 1
    assert [started.step for started in said.starts] == ["tidy"]
    assert said.freed() == set(unit_ids(task, "rows"))


def test_a_node_that_stays_away_loses_its_tasks_only_after_a_while() -> None:
    desk = Desk(STEPS, PARTS, nodes=["n1", "n2"])
    desk.read("inputs.flights", node="n1")
    desk.do(messages.FetchEnded("n2", RUN, desk.part("inputs.flights").outputs[0].unit.id))
    (info,) = desk.core.tasks(RUN)
    said = desk.lose(info.node)
    assert said.wake == desk.now + 5.0
    desk.at(desk.now + 4.9)
    assert desk.core.tasks(RUN)[0].state != "retrying"
    desk.at(desk.now + 0.2)
    assert desk.core.tasks(RUN)[0].state == "retrying"


def test_being_away_twice_does_not_add_up() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.lose()
    desk.now += 4
    desk.join(running=[task], units=unit_ids(task, "rows"))
    desk.lose()
    desk.at(desk.now + 2)
    assert desk.core.tasks(RUN)[0].state == "waiting"


def test_a_task_given_to_another_node_is_cancelled_on_the_first() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.lose()
    desk.at(desk.now + 6)
    said = desk.join(running=[task], units=unit_ids(task, "rows"))
    ((_, cancel),) = said.to_nodes("cancel")
    assert isinstance(cancel, node_pb2.CancelTask)
    assert (cancel.key.task, cancel.key.attempt) == (task.key.task, 1)


def test_a_lost_unit_is_made_again_by_its_task_and_that_ones_input_by_the_source() -> None:
    desk = Desk(STEPS, PARTS)
    (clean,) = desk.read("inputs.flights").starts
    (tidy,) = desk.done(clean).starts
    desk.lose()
    said = desk.join(process=b"2", units=())
    assert [kind for _, kind, _ in said.nodes if kind in ("open", "start")] == ["open"]
    (again,) = desk.read("inputs.flights").starts
    assert again.key.task == clean.key.task
    assert again.key.attempt == 2
    desk.done(again)
    assert desk.progress("clean").done == 1, "it counts once"
    (last,) = desk.at(desk.now + 10).starts
    assert last.key.task == tidy.key.task
    said = desk.done(last)
    assert said.ended is not None
    assert said.ended.state == model_pb2.FRAGMENT_STATE_SUCCEEDED


def test_a_store_that_survives_needs_nothing_made_again() -> None:
    desk = Desk(STEPS, PARTS)
    (clean,) = desk.read("inputs.flights").starts
    desk.done(clean)
    desk.lose()
    said = desk.join(process=b"2", units=[outputs(clean)[0].unit.id])
    assert said.recorded(Remade) == []
    assert [task.step for task in desk.at(desk.now + 10).starts] == ["tidy"]


def test_units_that_are_not_needed_any_more_are_freed_when_the_node_joins() -> None:
    desk = Desk(STEPS, PARTS)
    (clean,) = desk.read("inputs.flights").starts
    desk.done(clean)
    desk.lose()
    said = desk.join(units=[*unit_ids(clean, "rows"), outputs(clean)[0].unit.id])
    assert said.freed() == set(unit_ids(clean, "rows"))


def test_a_node_with_units_of_a_forgotten_run_is_told_to_end_it() -> None:
    desk = Desk(STEPS, PARTS)
    (clean,) = desk.read("inputs.flights").starts
    desk.lose()
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FORGOTTEN))
    said = desk.join(running=[clean], units=unit_ids(clean, "rows"))
    ((_, end),) = said.to_nodes("end_run")
    assert isinstance(end, node_pb2.EndRun)
    assert end.run == "run-1"
    assert not end.keep


def test_a_source_part_is_opened_again_when_its_node_comes_back() -> None:
    desk = Desk(STEPS, PARTS)
    desk.lose()
    assert len(desk.join().to_nodes("open")) == 1


def test_a_source_part_is_opened_elsewhere_when_its_node_stays_away() -> None:
    desk = Desk(STEPS, PARTS, nodes=["n1", "n2"])
    ((first, _),) = desk.first.to_nodes("open")
    desk.lose(first)
    ((second, _),) = desk.at(desk.now + 6).to_nodes("open")
    assert second != first


def test_a_late_word_of_an_earlier_stream_is_ignored() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.join(process=b"2", running=[task], units=unit_ids(task, "rows"))
    assert desk.lose(process=b"1").wake is None


def test_after_a_restart_of_the_agent_running_tasks_go_on() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.restart()
    said = desk.join(running=[task], units=unit_ids(task, "rows"))
    assert said.starts == []
    assert said.to_nodes("cancel") == []
    assert [started.step for started in desk.done(task).starts] == ["tidy"]


def changed(node: str, *, cordoned: bool, cpus: float = 2.0) -> messages.NodeChanged:
    return messages.NodeChanged(node, cpus, 1 << 30, cordoned)


def nodes_of(said: Said) -> list[str]:
    return [node for node, _ in said.to_nodes("start")]


def test_a_cordoned_node_keeps_what_it_has_begun_and_gets_nothing_new_until_it_is_uncordoned() -> None:
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 6}}, nodes=["n1"])
    (first,) = desk.read("inputs.flights", 0).starts
    desk.do(changed("n1", cordoned=True))
    assert desk.read("inputs.flights", 1).starts == [], "it may still open what lies there"
    assert desk.done(first).starts == []
    assert {started.step for started in desk.do(changed("n1", cordoned=False)).starts} == {"clean", "tidy"}


def test_a_node_that_joins_cordoned_gets_nothing() -> None:
    desk = Desk(STEPS, PARTS, nodes=[])
    joined = messages.NodeJoined("n1", b"1", 2.0, 1 << 30, Place("edge1", "n1", "n1:1", "n1"), cordoned=True)
    desk.do(joined)
    assert desk.read("inputs.flights").starts == []
    assert len(desk.do(changed("n1", cordoned=False)).starts) == 1


def test_a_cordoned_nodes_workers_idle_out() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    desk.do(messages.PoolTold("n1", "clean@1", 0, 0, 1, 0.1))
    desk.do(changed("n1", cordoned=True))
    desk.do(messages.PoolTold("n1", "clean@1", 0, 1, 0))
    sizes = {}
    for _ in range(20):
        desk.now += 30
        for _, size in desk.do(messages.Tick()).to_nodes("pool"):
            assert isinstance(size, node_pb2.SizePool)
            sizes[size.definition] = size.workers
    assert sizes["clean@1"] == 0
    assert task.step == "clean"


def test_what_a_node_gives_back_is_tried_elsewhere_without_being_counted() -> None:
    desk = Desk(STEPS, PARTS, nodes=["n1", "n2"])
    (task,) = desk.read("inputs.flights", node="n1").starts
    desk.do(messages.PoolTold("n1", "clean@1", 0, 0, 0, 0.0, "Insufficient cpu", True))
    said = desk.failed(task, "n1", "room")
    assert said.published == [], "nothing has happened to it"
    assert said.wake is not None
    said = desk.at(said.wake)
    fetch = said.to_nodes("fetch")
    assert [node for node, _ in fetch] == ["n2"]
    assert desk.progress("clean").failed == 0
    assert desk.status().failures == []


def test_a_full_node_is_given_as_much_as_its_workers_take_and_all_again_when_it_has_room() -> None:
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 4}}, cpus=4.0)
    desk.do(messages.PoolTold("n1", "clean@1", 0, 1, 0, 0.1, "", True))
    started = [task for part in range(4) for task in desk.read("inputs.flights", part).starts]
    assert len(started) == 1
    assert len(desk.do(messages.PoolTold("n1", "clean@1", 0, 0, 1)).starts) == 3


def test_a_run_waits_while_all_nodes_are_full_and_does_not_fail() -> None:
    desk = Desk(STEPS, PARTS)
    (task,) = desk.read("inputs.flights").starts
    for attempt in range(1, 6):
        desk.do(messages.PoolTold("n1", "clean@1", 0, 0, 0, 0.0, "Insufficient cpu", True))
        assert task.key.attempt == attempt
        desk.failed(task, "n1", "room")
        said = desk.at(desk.now + 60)
        assert said.starts == []
        (task,) = desk.do(messages.PoolTold("n1", "clean@1", 0, 0, 0)).starts
    assert desk.status().failures == []
