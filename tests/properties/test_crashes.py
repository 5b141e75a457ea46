"""A coordinator may be killed at any event, before its commit or after it: one run for each moment that there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.coordinator.federation import Faults
from tests.properties.worlds import World
from tests.settings import few


def moments(seed: int, faults: Faults | None = None) -> int:
    """How many moments a run has at which it could crash."""
    world = World(seed, faults, crashes=frozenset([0]), audited=0.0)
    world.run()
    world.check_succeeded()
    return world.chances


def crash_at(seed: int, *when: int, faults: Faults | None = None) -> None:
    world = World(seed, faults, crashes=frozenset(when), audited=0.05)
    world.run()
    world.check_succeeded()
    world.finish()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 14))
def test_a_crash_at_each_event_of_a_run_changes_nothing(seed: int) -> None:
    for moment in range(1, moments(seed) + 1):
        crash_at(seed, moment)


@few
@given(st.integers(0, 2**32), st.data())
def test_a_crash_at_any_event_changes_nothing(seed: int, data: st.DataObject) -> None:
    crash_at(seed, data.draw(st.integers(1, max(1, moments(seed)))))


@few
@given(st.integers(0, 2**32), st.data())
def test_two_crashes_one_soon_after_the_other_change_nothing(seed: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, max(1, moments(seed))))
    crash_at(seed, first, first + data.draw(st.integers(1, 6)))


@few
@given(st.integers(0, 2**32), st.data())
def test_a_crash_while_nodes_die_and_words_are_repeated_changes_nothing(seed: int, data: st.DataObject) -> None:
    faults = {"node_restart": 0.02, "stream_breaks": 0.02, "repeats": 0.1, "attempt_fails": 0.05, "cut": 0.02}
    moment = data.draw(st.integers(1, max(1, moments(seed, Faults(**faults)))))
    crash_at(seed, moment, faults=Faults(**faults))
