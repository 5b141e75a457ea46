"""Whole runs over several clusters: whatever goes wrong, each unit is consumed once and every fragment ends well."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2
from tests.coordinator.federation import Faults, Federation
from tests.coordinator.workflows import random_graph
from tests.settings import few

F = TypeVar("F", bound=Federation)
CLUSTERS = {"edge1": {"n1": 2.0}, "edge2": {"n1": 1.0, "n2": 2.0}, "cloud": {"n1": 4.0, "n2": 2.0}}


def run_random(seed: int, faults: Faults | None = None) -> Federation:
    federation = prepared(seed, faults)
    federation.run()
    return federation


def prepared(seed: int, faults: Faults | None = None, made: Callable[..., F] = Federation) -> F:  # type: ignore[assignment]
    random = Random(seed)
    names = random.sample(list(CLUSTERS), random.randint(1, len(CLUSTERS)))
    federation = made(random, {name: CLUSTERS[name] for name in names}, faults or Faults())
    steps, parts = random_graph(random, names)
    for step in steps:
        step.attempts = 20 if federation.faults.attempt_fails else 3
    if random.random() < 0.5:
        pairs = [(a, b) for a in names for b in names if a != b]
        federation.undialled = set(random.sample(pairs, random.randint(0, len(pairs))))
    federation.introduce()
    federation.submit(steps, parts)
    return federation


@few
@given(st.integers(0, 2**32))
def test_every_run_ends_well_and_leaves_only_its_results(seed: int) -> None:
    federation = run_random(seed)
    federation.check_succeeded()
    federation.check_freed()
    federation.check_crossed_once()


@few
@given(st.integers(0, 2**32))
def test_words_that_are_repeated_and_ways_that_are_cut_change_nothing(seed: int) -> None:
    federation = run_random(seed, Faults(repeats=0.2, cut=0.05, attempt_fails=0.1))
    federation.check_succeeded()
    federation.check_freed()
    federation.check_crossed_once()


@few
@given(st.integers(0, 2**32))
def test_agents_may_be_killed_at_any_moment(seed: int) -> None:
    federation = run_random(seed, Faults(crash=0.1))
    federation.check_succeeded()
    finish(federation)


@few
@given(st.integers(0, 2**32))
def test_nodes_may_be_killed_and_their_streams_may_break(seed: int) -> None:
    federation = run_random(seed, Faults(node_restart=0.03, stream_breaks=0.03))
    federation.check_succeeded()
    finish(federation)


@few
@given(st.integers(0, 2**32))
def test_a_lost_store_is_made_good_or_the_run_fails_and_says_what_is_lost(seed: int) -> None:
    federation = run_random(seed, Faults(node_restart=0.03, node_loses_store=0.5))
    if federation.failures:
        assert {failure.kind for failure in federation.failures} == {"lost"}
        assert "cannot be made again" in federation.failures[-1].message
        federation.check_failed()
    else:
        federation.check_succeeded()
    finish(federation)


@few
@given(st.integers(0, 2**32))
def test_everything_may_go_wrong_at_once(seed: int) -> None:
    faults = Faults.everything(crash=0.05)
    federation = run_random(seed, faults)
    federation.check_succeeded()
    finish(federation)


@few
@given(st.integers(0, 2**32))
def test_a_step_that_always_fails_ends_the_run_everywhere(seed: int) -> None:
    federation = prepared(seed, Faults(crash=0.05))
    federation.broken_steps = {name for name in federation.uses if name in ("each0", "join", "report", "lone")}
    federation.run()
    ended = {agent.state() for agent in federation.agents.values()}
    if model_pb2.FRAGMENT_STATE_FAILED in ended:
        assert any("bad row" in failure.message for failure in federation.failures)
        federation.check_failed()
    else:
        federation.check_succeeded()
    finish(federation)


@few
@given(st.integers(0, 2**32), st.integers(0, 300))
def test_a_run_may_be_cancelled_at_any_moment(seed: int, moment: int) -> None:
    federation = prepared(seed)
    for _ in range(moment):
        federation.step()
    federation.want(model_pb2.DESIRED_STATE_CANCELLED)
    federation.run()
    federation.check_failed()
    finish(federation)


@few
@given(st.integers(0, 2**32), st.integers(0, 300))
def test_a_run_may_be_suspended_at_any_moment_and_goes_on_when_resumed(seed: int, moment: int) -> None:
    federation = prepared(seed)
    for _ in range(moment):
        federation.step()
    federation.want(model_pb2.DESIRED_STATE_SUSPENDED)
    federation.run()
    federation.want(model_pb2.DESIRED_STATE_RUNNING)
    federation.run()
    federation.check_succeeded()
    finish(federation)


@few
@given(st.integers(0, 2**32), st.integers(0, 300))
def test_a_fragment_of_a_newer_epoch_starts_the_run_anew_at_any_moment(seed: int, moment: int) -> None:
    federation = prepared(seed)
    for _ in range(moment):
        federation.step()
    federation.submit(list(federation.uses.values()), federation.parts, epoch=2)
    federation.run()
    for cluster, agent in federation.agents.items():
        assert agent.state() == model_pb2.FRAGMENT_STATE_SUCCEEDED, federation.story()
        assert federation.ended[cluster, 2] == model_pb2.FRAGMENT_STATE_SUCCEEDED
        agent.rebuilt(check=True)
    finish(federation)


def finish(federation: Federation) -> None:
    """The run is finished, later forgotten, and nothing remains."""
    federation.want(model_pb2.DESIRED_STATE_FINISHED)
    federation.run()
    federation.check_freed()
    federation.want(model_pb2.DESIRED_STATE_FORGOTTEN)
    federation.run()
    for agent in federation.agents.values():
        assert agent.core.inventory() == []
        assert not any(node.store or node.running for node in agent.nodes.values())
