"""Outputs that are kept for a while after the run's end are freed then, by the cluster alone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator import messages
from tests.coordinator.desk import RUN, Desk, Said
from tests.coordinator.workflows import EACH, Use, output, source

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
FINISHED = messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FINISHED)
DAY = 86_400.0
WALL = 1_700_000_000.0  # what the wall clock shows beyond the desk's time


def kept_for(name: str, seconds: float) -> Use:
    made = output(CLEAN, name)
    made.more.execution.output.retain = seconds
    return made


def ended(*outputs: Use, parts: int = 1) -> tuple[Desk, list[bytes]]:
    """A run of which all is done but that the hub says so; and the units that it has made."""
    desk = Desk([FLIGHTS, CLEAN, *outputs], {"inputs.flights": {"edge1": parts}})
    tell_time(desk)
    units = []
    for index in range(parts):
        (task,) = desk.read("inputs.flights", index).starts
        desk.done(task)
    units += [each.unit.id for each in desk.core.status(RUN).outputs]
    return desk, list(dict.fromkeys(units))


def tell_time(desk: Desk, ahead: float = WALL) -> None:
    desk.do(messages.ClockRead(desk.now + ahead))


def names(desk: Desk) -> set[str]:
    return {each.name for each in desk.core.status(RUN).outputs}


def pass_time(desk: Desk, seconds: float) -> Said:
    """The timer rings whenever it is due until then."""
    said = Said()
    until = desk.now + seconds
    while desk.now < until:
        more = desk.at(min(until, desk.now + 600.0))
        said.nodes += more.nodes
        said.records += more.records
    return said


def test_an_output_is_freed_when_its_time_after_the_end_of_the_run_is_over_and_others_stay() -> None:
    desk, units = ended(kept_for("short", DAY), kept_for("long", 0.0), parts=2)
    assert not pass_time(desk, 2 * DAY).freed(), "as long as the run goes on elsewhere no time counts"
    desk.do(FINISHED)
    assert not pass_time(desk, DAY - 1.0).freed()
    pass_time(desk, 2.0)
    assert names(desk) == {"long"}
    assert not pass_time(desk, 9 * DAY).freed(), "the bytes are those of another output, too"
    assert len(desk.core.status(RUN).outputs) == len(units)


def test_bytes_go_with_the_last_name() -> None:
    desk, units = ended(kept_for("short", DAY), kept_for("long", 2 * DAY), parts=2)
    desk.do(FINISHED)
    assert not pass_time(desk, DAY + 1.0).freed()
    assert pass_time(desk, DAY).freed() == set(units)
    assert names(desk) == set()


def test_the_time_goes_on_while_the_agent_is_down() -> None:
    desk, units = ended(kept_for("report", DAY))
    desk.do(FINISHED)
    desk.restart()
    desk.join(units=units)
    tell_time(desk)
    desk.at(desk.now)
    assert names(desk) == {"report"}
    desk.restart()
    tell_time(desk, WALL + DAY)
    desk.at(desk.now)
    assert names(desk) == set()
    joined = desk.join(process=b"2", units=units)
    ends: list[Any] = [command for _, command in joined.to_nodes("end_run")]
    assert [list(command.keep) for command in ends] == [[]], "the node hears what it missed"


def test_a_clock_that_is_not_known_yet_frees_nothing() -> None:
    desk, units = ended(kept_for("report", DAY))
    desk.do(FINISHED)
    desk.restart()
    desk.join(units=units)
    assert not pass_time(desk, 600.0).freed()
    assert names(desk) == {"report"}


def test_what_a_failed_run_retains_as_a_whole_stays_as_long_as_that() -> None:
    desk = Desk(
        [FLIGHTS, CLEAN, kept_for("report", 60.0)],
        {"inputs.flights": {"edge1": 1}},
        run_policy=model_pb2.Policy(retain=3600.0),
    )
    tell_time(desk)
    (task,) = desk.read("inputs.flights").starts
    desk.done(task)
    desk.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_RETAINED))
    pass_time(desk, 3500.0)
    assert names(desk) == {"report"}
    pass_time(desk, 1000.0)
    assert names(desk) == set()


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_in_between_each_is_kept_for_its_time_and_no_more_than_a_look_longer(seed: int) -> None:
    chance = random.Random(seed)
    times = {f"out{index}": chance.choice([0.0, 30.0, 700.0, 5000.0, DAY]) for index in range(4)}
    desk, units = ended(*(kept_for(name, seconds) for name, seconds in times.items()), parts=3)
    desk.do(FINISHED)
    end, freed = desk.now, set[bytes]()
    for _ in range(12):
        if chance.random() < 0.3:
            desk.now += chance.choice([1.0, 400.0, DAY / 3])  # it is down meanwhile
            desk.restart()
            tell_time(desk)
            held = set(units) - freed
            said = desk.join(process=bytes([chance.randrange(256)]), units=sorted(held))
            commands: list[Any] = [command for _, command in said.to_nodes("end_run")]
            freed |= said.freed() | {unit for each in commands for unit in held - set(each.keep)}
        freed |= pass_time(desk, chance.choice([1.0, 600.0, 3000.0, DAY / 2])).freed()
        gone = {name for name, seconds in times.items() if seconds and end + seconds <= desk.now}
        assert names(desk) == times.keys() - gone
        assert freed == (set(units) if gone == times.keys() else set())
