"""What is seen to come along a run's steps."""

from __future__ import annotations

import pytest

from cluster_agent.pools.ahead import Arriving, Feed, Stage, look_ahead

NOW = 100.0


def stage(queued: int = 0, running: int = 0, *, service: float | None = 10.0, feeds: tuple[Feed, ...] = ()) -> Stage:
    return Stage(queued, running, service, 0.0, 2.0, running_since=NOW - 4.0, feeds=list(feeds))


def test_a_running_task_is_followed_by_its_units_when_it_has_ended() -> None:
    _, after = look_ahead([stage(running=1, feeds=(Feed(1, 3.0),)), stage()], NOW)
    assert after is not None
    assert (after.count, after.first, after.rate) == (3.0, NOW + 6.0, pytest.approx(0.3))


def test_units_are_seen_several_steps_ahead() -> None:
    chain = [
        stage(running=1, feeds=(Feed(1, 1.0),)),
        stage(feeds=(Feed(2, 1.0),)),
        stage(feeds=(Feed(3, 1.0),)),
        stage(),
    ]
    assert [found and found.first for found in look_ahead(chain, NOW)] == [None, NOW + 6.0, NOW + 16.0, NOW + 26.0]


def test_a_step_that_gathers_has_one_task_when_all_have_come() -> None:
    _, after = look_ahead([stage(queued=3, running=2, feeds=(Feed(1, 1.0, waits=True),)), stage()], NOW)
    assert after is not None
    assert after.count == 1.0
    assert after.first == pytest.approx(NOW + 6.0 + 4 * 5.0), "five tasks, two at a time, the first is half done"


def test_a_side_input_only_delays() -> None:
    stages = [stage(running=1, feeds=(Feed(2, 1.0),)), stage(queued=9, feeds=(Feed(2, 0.0, waits=True),)), stage()]
    after = look_ahead(stages, NOW)[2]
    assert after is not None
    assert after.count == 1.0
    assert after.first > NOW + 40.0


def test_what_was_never_measured_may_be_over_at_once() -> None:
    _, after = look_ahead([stage(running=1, service=None, feeds=(Feed(1, 1.0),)), stage()], NOW)
    assert after is not None
    assert after.first == NOW


def test_where_nothing_runs_nothing_comes() -> None:
    assert look_ahead([stage(feeds=(Feed(1, 1.0),)), stage()], NOW) == [None, None]


def test_units_from_another_cluster_come_now() -> None:
    last = stage()
    last.entering = 2
    assert look_ahead([last], NOW) == [Arriving(2.0, NOW, 0.0)]
