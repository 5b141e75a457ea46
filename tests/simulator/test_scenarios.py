"""Scenario files: what is kept holds, can still fail, and a wrong one says what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import simulator
from simulator.trials.drawing import scenario_of
from simulator.trials.scenario import ScenarioError, read, written
from simulator.trials.shrink import shrunk
from simulator.trials.story import story
from simulator.trials.trial import tried
from tests.simulator.planted import PLANTED, planted

FILES = sorted((Path(simulator.__file__).parent / "scenarios").glob("*.yaml"))
VARIATIONS = 30  # of a scenario's seed: a change of the code shifts its moments a little

GOOD = written(replace(scenario_of(7), expected={}))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_kept_scenario_holds(path: Path) -> None:
    assert not tried(read(path.read_text(), path.name)).violations


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_kept_scenario_finds_the_bug_that_it_is_named_after(path: Path) -> None:
    scenario = read(path.read_text(), path.name)
    with planted(path.stem.replace("-", "_")):
        tries = (replace(scenario, seed=scenario.seed + more) for more in range(VARIATIONS))
        assert any(tried(each).violations for each in tries)


def test_scenarios_are_named_after_planted_bugs() -> None:
    assert FILES
    assert {path.stem.replace("-", "_") for path in FILES} == set(PLANTED)


@pytest.mark.parametrize("seed", range(1, 30))
def test_a_scenario_is_the_same_when_it_is_written_and_read(seed: int) -> None:
    scenario = scenario_of(seed)
    assert read(written(scenario), "it.yaml") == scenario


def test_what_goes_wrong_is_made_small_and_told() -> None:
    with planted("offer_executed_without_a_grant"):
        scenario, verdict = next(
            (scenario, verdict) for seed in range(1, 40) if (verdict := tried(scenario := scenario_of(seed))).violations
        )
        small, found = shrunk(scenario, verdict, most=60)
        told = story(small, found)
    assert "nobody has granted" in found.violations[0]
    assert len(written(small)) < len(written(scenario))
    assert len(small.faults) < len(scenario.faults)
    assert any("OfferTaken" in line for line in told)
    assert "GrantTaken" in told[-1]


@pytest.mark.parametrize(
    ("wrong", "instead", "says"),
    [
        ("kind: Scenario", "kind: Scenery", "expected a document of kind Scenario"),
        ("seed: 7", "seed: seven", "it.yaml: seed: expected a number, not 'seven'"),
        ("durability: ", "durability: none # ", "'none' is not known; expected one of process, power"),
        ("submissions:", "runs:", "runs is not known; expected durability, expected, faults"),
        ("kind: Topology", "kind: Tropology", "kind"),
        ("- {run: run1,", "- {run: run1, then: [{pause: 2}],", "'pause' is nothing to do to a run; expected cancel"),
        (
            "faults:\n",
            "faults:\n- {at: 1, kind: flood, where: hub, seconds: 1}\n",
            "'flood' is not known; expected one of",
        ),
        (
            "faults:\n",
            "faults:\n- {at: 0, kind: crash-agent, where: agent/mars, how: now, seconds: 1}\n",
            "faults[0].where: 'agent/mars' can't have a crash-agent; expected one of agent/",
        ),
        ("expected:", "expected: {run9: failed} #", "expected.run9: there is no such run; the runs are run1"),
    ],
)
def test_a_wrong_scenario_says_where_and_what_was_expected(wrong: str, instead: str, says: str) -> None:
    assert wrong in GOOD
    with pytest.raises(ScenarioError) as raised:
        read(GOOD.replace(wrong, instead, 1), "it.yaml")
    assert says in str(raised.value)
    assert "it.yaml" in str(raised.value)
