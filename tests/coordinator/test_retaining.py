"""A run that has not succeeded keeps its data for a while, and goes on from what had failed if it is tried again."""

from __future__ import annotations

from typing import Any

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.cache.records import Recalled
from tests.coordinator.desk import RUN, Desk, Said
from tests.coordinator.workflows import EACH, GATHER, Use, output, source
from tests.fixtures import words

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
TOTAL = Use("total", ["edge1"], {"rows": ("clean.out", GATHER)}, attempts=1)
STEPS = [FLIGHTS, CLEAN, TOTAL, output(TOTAL)]
RETAINED = messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_RETAINED)


def failed(retain: float) -> tuple[Desk, Said, dict[str, list[bytes]]]:
    """A run of which all but the last task is done; and what its node has, as the run knows it."""
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 2}}, run_policy=model_pb2.Policy(retain=retain))
    tasks = [desk.read("inputs.flights", index).starts[0] for index in range(2)]
    desk.done(tasks[0])
    (total,) = desk.done(tasks[1]).starts
    units = [unit.id for given in total.inputs for unit in given.units]
    said = desk.failed(total)
    assert said.ended is not None and said.ended.state == model_pb2.FRAGMENT_STATE_FAILED
    return desk, said, {"units": units}


def kept(said: Said) -> set[bytes]:
    """The units that the node is told to keep, of a run that it is told to end."""
    ((_, command),) = said.to_nodes("end_run")
    return set(command.keep)  # type: ignore[attr-defined]


def begun_again(desk: Desk, units: list[bytes]) -> tuple[list[object], list[words.Task]]:
    """A new fragment comes, and the sources are read again: what is recalled, and what is executed."""
    recalled: list[object] = []
    started: list[Any] = []
    for said in (desk.assign(epoch=2), desk.read("inputs.flights", 0), desk.read("inputs.flights", 1)):
        recalled += said.recorded(Recalled)
        started += said.starts
    return recalled, started


def test_a_run_that_retains_nothing_frees_all_at_once() -> None:
    _, said, _ = failed(retain=0.0)
    assert kept(said) == set()


def test_a_run_that_is_tried_again_executes_only_what_had_failed() -> None:
    desk, said, had = failed(retain=60.0)
    assert kept(said) >= set(had["units"])
    assert not desk.do(RETAINED).to_nodes("end_run")
    recalled, started = begun_again(desk, had["units"])
    assert len(recalled) == 2
    assert [task.start.step for task in started] == ["total"]
    ended = desk.done(started[0]).ended
    assert ended is not None and ended.state == model_pb2.FRAGMENT_STATE_SUCCEEDED


def test_it_remembers_over_a_restart_too() -> None:
    desk, _, had = failed(retain=60.0)
    desk.do(RETAINED)
    desk.restart()
    desk.join(units=had["units"])
    recalled, started = begun_again(desk, had["units"])
    assert (len(recalled), [task.start.step for task in started]) == (2, ["total"])


def test_after_its_time_the_data_goes_and_what_is_tried_again_begins_at_the_beginning() -> None:
    desk, _, had = failed(retain=60.0)
    desk.do(RETAINED)
    said = desk.at(desk.now + 60.0)
    assert kept(said) == set()
    assert desk.core.status(RUN).state == model_pb2.FRAGMENT_STATE_FAILED
    recalled, started = begun_again(desk, had["units"])
    assert (recalled, [task.start.step for task in started]) == ([], ["clean", "clean"])


def test_a_part_that_had_succeeded_is_kept_with_the_run_that_has_not() -> None:
    step = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
    policy = model_pb2.Policy(retain=60.0)
    desk = Desk([FLIGHTS, step, output(step)], {"inputs.flights": {"edge1": 1}}, run_policy=policy)
    (task,) = desk.read("inputs.flights").starts
    assert desk.done(task).ended is not None
    assert not desk.do(RETAINED).to_nodes("end_run")
    desk.assign(epoch=2)
    assert desk.read("inputs.flights").recorded(Recalled)


def test_the_time_of_a_run_that_is_tried_again_begins_anew() -> None:
    policy = model_pb2.Policy(retain=600.0, timeout=50.0)
    desk = Desk(STEPS, {"inputs.flights": {"edge1": 2}}, run_policy=policy)
    while desk.at(desk.now + 1.0).ended is None:
        pass
    desk.do(RETAINED)
    desk.assign(epoch=2)
    for _ in range(49):
        assert desk.at(desk.now + 1.0).ended is None
