"""A cluster without the hub goes on, but for runs whose policy stops their part; the time left survives a restart."""

from __future__ import annotations

import pytest

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator.messages import FragmentAssigned, HubGone, HubHeard
from cluster_agent.coordinator.runs.records import AloneCounted
from tests.coordinator.desk import RUNNING, Desk, Said
from tests.coordinator.workflows import EACH, Use, fragments, output, source

CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
STEPS = [source("flights", ["edge1"]), CLEAN, output(CLEAN)]
PARTS = {"inputs.flights": {"edge1": 1}}


def desk(stop_after: float) -> Desk:
    """A desk with a run in the middle of things, and a hub."""
    made = Desk()
    made.do(HubHeard())
    fragment = model_pb2.Fragment.FromString(fragments(STEPS, PARTS, ["edge1"])["edge1"])
    fragment.policy.stop_after = stop_after
    made.do(FragmentAssigned(fragment.SerializeToString(), RUNNING))
    made.read("inputs.flights")
    return made


def let_pass(alone: Desk, seconds: float) -> list[Said]:
    """Ring the timer whenever it was asked for, until so much time has passed."""
    until = alone.now + seconds
    said = []
    while alone.now < until:
        alone.now = min(until, alone.now + 0.5)
        said.append(alone.do())
        said.append(alone.at(alone.now))
    return said


def stopped(said: list[Said]) -> bool:
    return any(each.ended is not None for each in said)


def test_a_run_without_stop_after_goes_on_for_ever_and_nothing_is_written() -> None:
    alone = desk(0.0)
    alone.do(HubGone())
    said = let_pass(alone, 500.0)
    assert not stopped(said)
    assert not [each for each in said if each.recorded(AloneCounted)]


def test_a_run_is_stopped_so_long_after_the_hub_was_lost_and_the_hub_is_told_why() -> None:
    alone = desk(60.0)
    assert not stopped(let_pass(alone, 100.0)), "it stopped with the hub there"
    alone.do(HubGone())
    assert not stopped(let_pass(alone, 59.0))
    [ended] = [each.ended for each in let_pass(alone, 1.0) if each.ended is not None]
    assert ended.state == model_pb2.FRAGMENT_STATE_FAILED
    assert ended.failures[-1].kind == "stopped"
    assert "60 s after it lost the hub" in ended.failures[-1].message


def test_what_runs_is_stopped_with_it() -> None:
    alone = desk(5.0)
    alone.do(HubGone())
    assert [kind for said in let_pass(alone, 5.0) for _, kind, _ in said.nodes if kind == "end_run"]


@pytest.mark.parametrize("restarts", [1, 3])
def test_the_time_left_survives_a_restart(restarts: int) -> None:
    alone = desk(60.0)
    alone.do(HubGone())
    for _ in range(restarts):
        let_pass(alone, 45.0 / restarts)
        alone.restart()
        alone.join(process=b"2")
    assert stopped(let_pass(alone, 15.0 + restarts * 3.0)), "the count began anew"


def test_the_time_begins_anew_once_the_hub_was_heard() -> None:
    alone = desk(60.0)
    alone.do(HubGone())
    let_pass(alone, 50.0)
    alone.do(HubHeard())
    alone.do(HubGone())
    assert not stopped(let_pass(alone, 50.0))
    alone.restart()
    assert not stopped(let_pass(alone, 9.0))
