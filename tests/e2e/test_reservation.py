"""Reserving on real processes: runs that want each other's slots, who is denied and told why, and what a crash leaves.

The cores' own properties are in tests/reservation; here it is shown that hub, store, links and agents keep to them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from federation import HERE, Federation, lay_out
from killing import stopped

from bdw_fed import SyncClient
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m

pytestmark = pytest.mark.slow

WORKFLOWS = HERE / "federation" / "reservation" / "workflow.yaml"


@pytest.fixture(scope="module")
def reserving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation of its own, since its processes are stopped and killed."""
    directory = tmp_path_factory.mktemp("reserving")
    started = Federation.start(directory, lay_out(directory))
    started.apply(WORKFLOWS)
    yield started
    started.stop()


def submitted(federation: Federation, workflow: str, **parameters: float) -> str:
    """The name of a new run."""
    with SyncClient(state=federation.state) as client:
        return client.submit(workflow, parameters).run.name


def until(federation: Federation, run: str, holds: Callable[[m.Run], bool], what: str) -> m.Run:
    """The run once something holds of it; it is watched until its end."""
    with SyncClient(state=federation.state) as client:
        seen = None
        for seen in client.watch_run(run):
            if holds(seen):
                return seen
    raise AssertionError(f"{run} has ended and was never {what}: {seen}")


def held(federation: Federation, cluster: str) -> list[cp.HeldSlots]:
    """The slots held on a cluster, as its agent said last."""
    with SyncClient(state=federation.state) as client:
        return [slots for each in client.status().clusters if each.name == cluster for slots in each.held]


def eventually(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Ask again until it is so: the hub hears of slots with heartbeats, and nobody is told."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.2)


def pid(federation: Federation, name: str) -> int:
    _, processes = federation.supervised()
    (found,) = [each["pid"] for each in processes if each["name"] == name]
    return int(found)


def test_two_runs_that_want_each_others_slots_both_end_and_the_second_says_why_it_waits(reserving: Federation) -> None:
    there = submitted(reserving, "there", seconds=5)
    back = submitted(reserving, "back")
    queued = until(reserving, back, lambda run: f"run {there} holds" in run.message, "told who holds its slots")
    assert queued.state == m.RUN_STATE_QUEUED
    assert "lacks slots for" in reserving.call("get", "runs")
    assert f"run {there} holds" in reserving.call("describe", "run", back)
    for run in (there, back):
        reserving.call("wait", run)
        fragments = reserving.describe(run)["run"]["fragments"].values()
        assert sum(int(step["done"]) for each in fragments for step in each["steps"] if step["step"] == "negate") == 6


def test_what_is_lent_serves_others_and_its_owner_gets_it_back_at_once_from_who_may_be_stopped(
    reserving: Federation,
) -> None:
    lender = submitted(reserving, "lender", seconds=10)
    until(reserving, lender, lambda run: run.state == m.RUN_STATE_RUNNING, "running")
    borrower = submitted(reserving, "borrower")
    eventually(lambda: any(each.lent for each in held(reserving, "edge2")), "the idle slot is lent")
    assert "Slots reserved" in reserving.call("describe", "cluster", "edge2")
    reserving.call("wait", lender)  # its second step needs the slot, in which a task of ten minutes is
    described = reserving.describe(borrower)["run"]
    assert described["state"] == "RUN_STATE_RUNNING"
    failed = [step.get("failed", 0) for each in described["fragments"].values() for step in each["steps"]]
    assert not any(map(int, failed)), "being stopped for an owner is no failure"
    reserving.call("cancel", borrower)


@pytest.mark.parametrize("killed", ["agent", "hub"])
def test_a_kill_in_the_middle_of_reserving_leaves_nothing_held(reserving: Federation, killed: str) -> None:
    with stopped(pid(reserving, "agent-edge2")):  # it can't answer, so that the other's half stays one
        run = submitted(reserving, "there")
        eventually(lambda: any(each.half and each.run == run for each in held(reserving, "edge1")), "a half is held")
        if killed == "agent":
            os.kill(pid(reserving, "agent-edge1"), signal.SIGKILL)
        else:
            os.kill(pid(reserving, "hub"), signal.SIGKILL)
    reserving.call("wait", run)
    eventually(lambda: not held(reserving, "edge1") and not held(reserving, "edge2"), "nothing is held any more")


def test_cancelling_a_run_that_waits_takes_its_half_back(reserving: Federation, tmp_path: Path) -> None:
    with stopped(pid(reserving, "agent-edge2")):
        run = submitted(reserving, "there")
        eventually(lambda: any(each.run == run for each in held(reserving, "edge1")), "a half is held")
        reserving.call("cancel", run)
        eventually(lambda: not held(reserving, "edge1"), "it is taken back")
    with pytest.raises(AssertionError):
        reserving.outputs(run, tmp_path)
