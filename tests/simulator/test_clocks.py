"""Nothing is decided by a wall clock: whichever is wrong, and however it jumps, runs go on and end as they would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulator.trials.drawing import scenario_of
from simulator.trials.faults import Fault
from simulator.trials.trial import tried

DAY = 86400.0


@pytest.mark.parametrize("ahead", [-DAY, DAY])
@pytest.mark.parametrize("whose", ["the hubs", "one agent", "one node", "all but the hubs"])
def test_a_clock_that_is_a_day_off_changes_no_output(whose: str, ahead: float) -> None:
    scenario = scenario_of(7, faults=False)
    agents = [f"agent/{cluster}" for cluster in scenario.clusters]
    nodes = [f"node/{cluster}/{node}" for cluster, nodes in scenario.clusters.items() for node in nodes]
    off = {"the hubs": scenario.hub_names, "one agent": agents[:1], "one node": nodes[:1]}.get(whose, [*agents, *nodes])
    jumps = [Fault("clock-jump", 0.0, 30.0, place, amount=ahead) for place in off]
    later = [Fault("clock-jump", 31.0, 1.0, place, amount=-ahead) for place in off]  # and on, in the middle of things
    told: list[Any] = []
    verdict = tried(replace(scenario, faults=(*jumps, *later)), note=lambda at, what, about: told.append((what, about)))
    assert verdict.violations == ()
    assert set(verdict.ends.values()) == {"succeeded"}
    warned = {about["cluster"] for what, about in told if what == "warning" and "clock" in str(about["event"])}
    there = {place.split("/")[1] for place in off if place.startswith("agent/")}
    assert warned == (set(scenario.clusters) if whose == "the hubs" else there)
