"""Whole federations under faults: what is promised holds for every seed, and the same seed is the same trial."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from simulator.trials.drawing import scenario_of
from simulator.trials.faults import KINDS
from simulator.trials.sweep import sweep
from simulator.trials.trial import tried

QUICK = 10
ALL = 2_000


def wrong(first: int, count: int) -> list[str]:
    """Seeds that went wrong, and how."""
    return [
        f"seed {one.seed}: {one.verdict.violations[0]}"
        for one in sweep(first, count, processes=2 if count > QUICK else 1, stop_after=3)
        if one.verdict.violations
    ]


def test_whatever_goes_wrong_each_unit_is_consumed_once_and_every_run_ends() -> None:
    assert not wrong(1, QUICK)


def test_runs_that_are_all_at_the_quota_of_their_namespace_end_though_their_clusters_offer_each_other_units() -> None:
    assert not wrong(5_000_579, 1)


def test_a_file_of_a_dataset_that_was_copied_to_another_node_takes_of_no_quota() -> None:
    assert not wrong(11_000_946, 1)


def test_whatever_can_go_wrong_is_drawn() -> None:
    drawn = [scenario_of(seed) for seed in range(1, 101)]
    assert {fault.kind for scenario in drawn for fault in scenario.faults} == set(KINDS)
    assert any(scenario.hubs > 1 for scenario in drawn)
    assert any(scenario.relays for scenario in drawn)
    assert any("kind: Quota" in scenario.objects for scenario in drawn)
    assert any("quota: " in scenario.objects for scenario in drawn)
    assert any("replace: true" in scenario.objects for scenario in drawn)
    assert all(any(f"keep: {line}" in scenario.objects for scenario in drawn) for line in ("original", "furthest"))


@pytest.mark.slow
@pytest.mark.fault
def test_two_thousand_sets_of_faults_change_no_output() -> None:
    assert not wrong(1, ALL)


def test_a_seed_is_the_same_trial_in_every_process() -> None:
    """Where sets and maps are hashed otherwise, and other trials came before, too."""
    seeds = range(1, 4)
    here = [tried(scenario_of(seed)).digest for seed in seeds]
    code = (
        "from simulator.trials.drawing import scenario_of; from simulator.trials.trial import tried\n"
        f"for seed in {seeds[::-1]}: print(tried(scenario_of(seed)).digest)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.split()[::-1] == here
    assert len(set(here)) == len(here)


def test_a_trial_without_faults_needs_no_patience() -> None:
    verdict = tried(scenario_of(1, faults=False))
    assert not verdict.violations
    assert set(verdict.ends.values()) == {"succeeded"}
