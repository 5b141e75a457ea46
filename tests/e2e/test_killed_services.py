"""Services of steps that are killed in the middle of their tasks, in a whole federation: what becomes of these."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from pathlib import Path

import pytest
from federation import HERE, Federation
from kind_clusters import until
from test_cases import by_step

pytestmark = [
    pytest.mark.fault,
    pytest.mark.parametrize("federation", [pytest.param("process", marks=pytest.mark.slow)], indirect=True),
]
SLOTS = 3
Begun = dict[int, set[str]]


def begun(marks: Path) -> Begun:
    """The tasks that each process of the service has begun."""
    found: Begun = defaultdict(set)
    for mark in marks.glob("*.*"):
        task, _, pid = mark.name.partition(".")
        found[int(pid)].add(task)
    return found


def kill_one_with(marks: Path, tasks: int) -> tuple[int, set[str]]:
    """Kill a process once it has so many tasks, which can't end; its pid and these."""

    def full() -> list[tuple[int, set[str]]]:
        return [(pid, theirs) for pid, theirs in begun(marks).items() if len(theirs) == tasks]

    until(lambda: bool(full()), f"no process of the service has {tasks} tasks")
    pid, theirs = full()[0]
    os.kill(pid, signal.SIGKILL)
    return pid, theirs


@pytest.fixture
def marks(federation: Federation, tmp_path: Path) -> Path:
    """Where the tasks of a test say that they have begun; the workflows are applied."""
    federation.apply(HERE / "killed" / "workflow.yaml")
    made = tmp_path / "marks"
    made.mkdir()
    return made


def test_the_tasks_of_a_service_that_had_several_are_executed_again_at_nobodys_cost(
    federation: Federation, marks: Path, tmp_path: Path
) -> None:
    run = federation.submit("killed-with-many", marks=marks)
    pid, lost = kill_one_with(marks, SLOTS)
    (marks / "gate").touch()
    federation.call("wait", run)
    assert federation.outputs(run, tmp_path / "out") == {"total.txt": f"{sum(range(150))} 150 15\n"}
    described = federation.describe(run)
    assert by_step(described, "done")["add"] == 15
    after = begun(marks)
    again = {task for other, theirs in after.items() if other != pid for task in theirs & lost}
    assert again == lost
    others = [task for other, theirs in after.items() if other != pid for task in theirs - lost]
    assert len(others) == len(set(others)) == 15 - SLOTS, "whom it did not have is executed once"


def test_a_service_that_is_killed_from_outside_costs_no_attempt_of_the_task_that_it_had(
    federation: Federation, marks: Path, tmp_path: Path
) -> None:
    run = federation.submit("killed-with-one", marks=marks)
    _, [task] = kill_one_with(marks, 1)
    (marks / "gate").touch()
    federation.call("wait", run)
    assert federation.outputs(run, tmp_path / "out") == {"sum.txt": "7 1\n"}
    described = federation.describe(run)
    assert by_step(described, "done")["add"] == 1
    assert list(begun(marks).values()) == [{task}, {task}]
    [told] = [each for part in described["run"]["fragments"].values() for each in part.get("failures", [])]
    assert (told["step"], told["kind"]) == ("add", "lost")
    assert "the service was killed by SIGKILL" in told["message"]
