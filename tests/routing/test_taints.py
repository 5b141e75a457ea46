"""Whichever clusters must not begin anything for a while, each unit is consumed once and nothing is left behind."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.coordinator.federation import Faults
from tests.coordinator.test_federation import finish, run_random

few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@few
@given(st.integers(0, 2**32))
def test_what_waits_is_passed_on_and_what_is_passed_on_is_released(seed: int) -> None:
    federation = run_random(seed, Faults(taint=0.05))
    federation.check_succeeded()
    federation.check_freed()


@few
@given(st.integers(0, 2**32))
def test_also_while_agents_and_nodes_are_killed(seed: int) -> None:
    faults = Faults(taint=0.03, crash=0.05, node_restart=0.02, stream_breaks=0.02, repeats=0.1, cut=0.02)
    federation = run_random(seed, faults)
    federation.check_succeeded()
    finish(federation)
