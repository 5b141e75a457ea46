"""What a workflow says about failures and time: what is tried again, what is gone on without, and what ends a run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.reading import read
from cluster_agent.coordinator.tasks.judging import wait_after
from cluster_agent.coordinator.tasks.records import Committed
from tests.coordinator.desk import RUN, Desk, Said, outputs
from tests.coordinator.federation import made
from tests.coordinator.workflows import EACH, GATHER, Use, fragments, output, source
from tests.fixtures import words
from wire.digests import source_task_id

FLIGHTS = source("flights", ["edge1"])
FAILED = model_pb2.FRAGMENT_STATE_FAILED
SUCCEEDED = model_pb2.FRAGMENT_STATE_SUCCEEDED


def desk(parts: int = 1, policy: model_pb2.Policy | None = None, **more: Any) -> Desk:
    clean = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)}, more=model_pb2.Step(**more))
    all_of_it = Use("all", ["edge1"], {"parts": ("clean.out", GATHER)})
    steps = [FLIGHTS, clean, all_of_it, output(all_of_it)]
    return Desk(steps, {"inputs.flights": {"edge1": parts}}, run_policy=policy)


def why(said: Said) -> str:
    assert said.ended is not None
    assert said.ended.state == FAILED
    return said.ended.failures[-1].message


# ----------------------------------------------------------------------------------------------- what is tried again


@pytest.mark.parametrize(
    ("retry", "kind", "code", "again"),
    [
        ({"on": ["exit:75"]}, "exit", 75, True),
        ({"on": ["exit:75"]}, "exit", 1, False),
        ({"on": ["exit"]}, "exit", 3, True),
        ({"on": ["timeout", "memory"]}, "memory", 0, True),
        ({"on": ["timeout", "memory"]}, "exception", 0, False),
        ({"on": ["timeout"]}, "lost", 0, True),
        ({"on": ["timeout"]}, "data", 0, True),
        ({"not_on": ["exception"]}, "exception", 0, False),
        ({"not_on": ["exit:2"]}, "exit", 2, False),
        ({"not_on": ["exit:2"]}, "exit", 3, True),
        ({"not_on": ["lost"]}, "lost", 0, False),
        ({"on": ["exit"], "not_on": ["exit:1"]}, "exit", 1, False),
        ({"not_on": ["lost"]}, "room", 0, True),
    ],
)
def test_an_attempt_is_followed_by_another_if_its_step_says_so(
    retry: dict[str, list[str]], kind: str, code: int, again: bool
) -> None:
    at = desk(retry=model_pb2.Retry(**retry))  # type: ignore[arg-type]
    (task,) = at.read("inputs.flights").starts
    said = at.failed(task, kind=kind, code=code)
    if again:
        assert said.ended is None
        (next_one,) = at.at(at.now + 100).starts
        assert next_one.key.attempt == 2
    else:
        assert "the step's retry says that this is not tried again (attempt 1)" in why(said)


@given(st.floats(0, 1), st.integers(1, 3000), st.binary(min_size=16, max_size=16))
def test_chance_only_shortens_a_wait_and_is_the_same_whenever_it_is_asked(
    jitter: float, failed: int, task: bytes
) -> None:
    retry = model_pb2.Retry(max_backoff=30.0, jitter=jitter)
    use = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)}, more=model_pb2.Step(retry=retry))
    step = read(fragments([FLIGHTS, use], {}, ["edge1"])["edge1"], "edge1").step_by_name["clean"]
    whole = 30.0 if failed > 5 else 2.0 ** (failed - 1)
    assert whole * (1 - jitter) <= wait_after(step, task, failed) <= whole
    assert wait_after(step, task, failed) == wait_after(step, task, failed)


# ------------------------------------------------------------------------------------------ what is gone on without


def fail_for_good(at: Desk, task: words.Task) -> Said:
    for _ in range(2):
        at.failed(task)
        (task,) = at.at(at.now + 100).starts
    return at.failed(task)


def test_a_task_that_is_skipped_makes_nothing_and_the_run_goes_on_with_the_rest() -> None:
    at = desk(parts=3, on_failure="skip")
    first, second = (at.read("inputs.flights", index).starts[0] for index in range(2))
    said = fail_for_good(at, first)
    assert said.ended is None
    assert [event.type for event in said.published][-1] == "task.skipped"
    at.done(second)
    (third,) = at.read("inputs.flights", 2).starts
    (gathered,) = at.done(third).starts
    assert len(gathered.inputs[0].units) == 2
    progress = at.progress("clean")
    assert (progress.done, progress.skipped, progress.given_up, progress.closed) == (2, 1, 0, True)
    ended = at.done(gathered).ended
    assert ended is not None
    assert (ended.state, ended.skipped, ended.given_up) == (SUCCEEDED, 1, 0)
    assert "bad row" in ended.failures[-1].message, "why it was skipped is kept"


def test_where_the_run_is_to_continue_its_end_says_what_was_given_up() -> None:
    at = desk(on_failure="continue")
    (task,) = at.read("inputs.flights").starts
    (gathered,) = fail_for_good(at, task).starts
    assert not gathered.inputs[0].units, "a step that gathers gets what there is"
    ended = at.done(gathered).ended
    assert ended is not None
    assert (ended.state, ended.skipped, ended.given_up) == (SUCCEEDED, 0, 1)


def test_what_was_skipped_stays_so_after_a_restart_and_its_late_result_counts_for_nothing() -> None:
    at = desk(parts=2, on_failure="skip")
    (task,) = at.read("inputs.flights").starts
    fail_for_good(at, task)
    at.restart()
    at.join()
    late = at.done(task)
    assert not late.recorded(Committed)
    assert at.progress("clean").skipped == 1


def test_a_task_whose_condition_does_not_hold_makes_nothing_and_has_not_failed() -> None:
    at = desk(parts=2)
    first, second = (at.read("inputs.flights", index).starts[0] for index in range(2))
    said = at.failed(first, kind="unmet")
    assert [event.type for event in said.published] == ["task.skipped"], "nothing has failed, nothing is tried again"
    (gathered,) = at.failed(second, kind="unmet").starts
    assert not gathered.inputs[0].units, "a step that gathers gets what there is"
    progress = at.progress("clean")
    assert (progress.done, progress.failed, progress.unmet, progress.skipped, progress.closed) == (0, 0, 2, 0, True)
    ended = at.done(gathered).ended
    assert ended is not None
    assert (ended.state, ended.skipped, ended.given_up) == (SUCCEEDED, 0, 0)
    assert not ended.failures


def test_what_was_left_out_stays_so_after_a_restart() -> None:
    at = desk(parts=2)
    (task,) = at.read("inputs.flights").starts
    at.failed(task, kind="unmet")
    at.restart()
    at.join()
    assert at.progress("clean").unmet == 1
    assert not at.at(at.now + 100).starts


# -------------------------------------------------------------------------------------------------- what ends a run


def test_a_run_may_go_on_for_so_long_and_no_longer() -> None:
    at = desk(policy=model_pb2.Policy(timeout=100.0))
    at.read("inputs.flights")
    start = at.now
    said = Said()
    while at.now < start + 100.0:
        assert said.ended is None
        assert said.wake is None or said.wake > at.now
        said = at.at(min(said.wake or start + 2.0, start + 100.0))
    assert "has gone on for 100 s" in why(said)


def test_the_time_of_a_run_goes_on_after_a_restart_and_stands_still_while_it_is_suspended() -> None:
    at = desk(policy=model_pb2.Policy(timeout=100.0))
    at.read("inputs.flights")
    for _ in range(20):
        at.at(at.now + 2.0)
    at.now += 1000.0  # the agent is down
    at.restart()
    suspend = messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_SUSPENDED)
    at.do(suspend)
    for _ in range(100):
        assert at.at(at.now + 2.0).ended is None
    at.do(messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_RUNNING))
    left = 0
    while at.at(at.now + 2.0).ended is None:
        left += 1
        assert left < 35
    assert left >= 28, "forty of a hundred seconds had gone by"


def test_a_new_plan_does_not_give_a_run_its_time_again() -> None:
    at = desk(policy=model_pb2.Policy(timeout=100.0))
    for _ in range(30):
        at.at(at.now + 2.0)
    at.assign(epoch=2)
    count = 0
    while at.at(at.now + 2.0).ended is None:
        count += 1
        assert count < 25


def test_a_run_whose_tasks_no_node_takes_fails_after_the_time_for_the_queue() -> None:
    at = desk(parts=5, queue_timeout=50.0)
    tasks = [task for index in range(5) for task in at.read("inputs.flights", index).starts]
    assert len(tasks) == 2, "the node has two cpus"
    at.at(at.now + 40.0)
    assert at.done(tasks[0]).starts, "one more is given to the node, so that the wait begins anew"
    assert at.at(at.now + 40.0).ended is None
    assert "2 tasks of step clean wait on edge1" in why(at.at(at.now + 10.0))


def test_a_queue_that_empties_has_no_deadline() -> None:
    at = desk(parts=3, queue_timeout=50.0)
    tasks = [task for index in range(3) for task in at.read("inputs.flights", index).starts]
    tasks += at.done(tasks[0]).starts
    assert len(tasks) == 3
    for _ in range(10):
        assert at.at(at.now + 30.0).ended is None


def test_an_attempt_that_no_worker_takes_is_called_back_and_counts() -> None:
    at = desk(start_timeout=20.0)
    (task,) = at.read("inputs.flights").starts
    said = at.at(at.now + 20.0)
    ((node, _),) = said.to_nodes("cancel")
    assert node == "n1"
    (again,) = at.at(at.now + 1.0).starts
    assert again.key.attempt == 2
    assert at.core.tasks(RUN)[0].failure.kind == "timeout"
    assert task.key.task == again.key.task


# ---------------------------------------------------------------------------------------------------------- priority


def test_tasks_of_the_run_with_the_higher_priority_are_given_out_first() -> None:
    use = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
    at = Desk()
    steps = [FLIGHTS, use, output(use)]
    for run, priority in (("low", 0), ("high", 5), ("alike", 5)):
        policy = model_pb2.Policy(priority=priority)
        fragment = fragments(steps, {"inputs.flights": {"edge1": 6}}, ["edge1"], run=run, policy=policy)["edge1"]
        at.do(messages.FragmentAssigned(fragment, model_pb2.DESIRED_STATE_RUNNING))
    opened = [part_of(run, index) for index in range(6) for run in ("low", "high", "alike")]
    given: list[str] = []
    running = at.do(*opened).starts
    while running:
        given += [task.key.run for task in running]
        running = [task for each in running for task in at.do(done_of(each)).starts]
    assert sorted(given[:12]) == ["alike"] * 6 + ["high"] * 6
    assert given[12:] == ["low"] * 6
    assert {"high", "alike"} == set(given[:2]), "of equal priority, those with least come first"


def part_of(run: str, index: int) -> messages.SourceRead:
    unit = made(source_task_id("default", run, "inputs.flights", index), "out", 0, 1000)
    return messages.SourceRead("n1", RunKey("default", run), "inputs.flights", index, (unit,))


def done_of(task: words.Task) -> messages.NodeSaid:
    key = RunKey("default", task.key.run)
    return messages.NodeSaid("n1", words.done(key, task.key.task, task.key.attempt, outputs(task), 1.0, 1000))
