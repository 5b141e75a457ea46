"""A run keeps to its quota on each cluster, and ends by it all the same, if each of its units finds room on its way."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.messages import RunKey
from simulator.audit import audit
from tests.coordinator.federation import RUN, Faults, Federation
from tests.coordinator.workflows import EACH, GATHER, Use, output, source, split
from tests.settings import examples

few = settings(max_examples=examples(5))
PATIENT = Policy(stuck_after=1e9)  # time jumps ahead of words that are on their way, so it proves nothing
SMALL, LARGE, PARTS = 100, 1_500, 12
ENOUGH = 5_000  # all units at the end of it are gathered, and one more must get there
FAULTS = Faults(attempt_fails=0.05, crash=0.02, node_restart=0.01, stream_breaks=0.01, repeats=0.1, cut=0.01)
ONE, TWO = {"edge1": {"n1": 2.0, "n2": 2.0}}, {"edge1": {"n1": 2.0}, "cloud": {"n1": 2.0}}


def federation(
    seed: int,
    clusters: dict[str, dict[str, float]],
    quota: int,
    faults: Faults | None = None,
    policy: Policy = PATIENT,
) -> Federation:
    made = Federation(Random(seed), clusters, faults or Faults(), policy=policy)
    made.run_policy = model_pb2.Policy(quota=quota)
    made.size = SMALL
    made.sizes = {"grow": LARGE, "turn": LARGE}
    for agent in made.agents.values():
        for node in agent.nodes.values():
            node.cuts = True
    return made


def submit(made: Federation, places: list[str], run: str = "run-1", part: int = SMALL) -> None:
    """A file is split; each unit is made large, then another, small again; all are gathered."""
    data = source("data", [places[0]])
    cut = split(data)
    grow = Use("grow", [places[1]], {"rows": (f"{cut.name}.out", EACH)})
    turn = Use("turn", [places[2]], {"rows": ("grow.out", EACH)})
    shrink = Use("shrink", [places[2]], {"rows": ("turn.out", EACH)})
    report = Use("report", [places[3]], {"parts": ("shrink.out", GATHER)})
    for step in (grow, turn, shrink, report):
        step.attempts = 20 if made.faults.budget and made.faults.attempt_fails else 1
    made.units_in, made.sizes[cut.name] = {cut.name: PARTS}, part
    made.submit([data, cut, grow, turn, shrink, report, output(report)], {data.name: {places[0]: 1}}, run=run)


def stored(made: Federation, cluster: str, namespace: str = "default") -> int:
    """Bytes that really lie in the stores of a cluster, but for those that nodes were told to free."""
    lives = made.agents[cluster].core._book.lives
    found = 0
    for node in made.agents[cluster].nodes.values():
        for run, identifier in node.store:
            live = lives.get(run)
            unit = live.run.units.get(identifier) if live is not None else None
            if run.namespace == namespace and (unit is None or node.name in unit.copies):
                found += node.weight.get((run, identifier), 0)
    return found


def go(made: Federation, most: int) -> None:
    """To the end; what is stored never is more than `most` on any cluster."""

    def within() -> bool:
        for cluster in made.agents:
            assert stored(made, cluster) <= most, f"{stored(made, cluster)} bytes are stored on {cluster}"
        return False

    made.run(until=within, most=100_000)
    for agent in made.agents.values():
        audit(agent.core)


@few
@given(st.integers(0, 2**32), st.sampled_from([ENOUGH, 8_000, 12_000]), st.sampled_from([SMALL, LARGE]), st.booleans())
def test_a_run_that_makes_many_times_its_quota_ends_and_never_passes_it_by_more_than_a_task(
    seed: int, quota: int, part: int, whole: bool
) -> None:
    made = federation(seed, ONE, 0 if whole else quota)
    made.quotas = {"default": quota} if whole else {}
    made.introduce()
    submit(made, ["edge1"] * 4, part=part)
    go(made, quota + LARGE)
    made.check_succeeded()
    made.check_freed()


@few
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3]))
def test_a_quota_holds_on_each_cluster_by_itself_and_holds_back_who_sends(seed: int, crossing: int) -> None:
    made = federation(seed, TWO, 6_000)
    made.introduce()
    submit(made, ["edge1" if step < crossing else "cloud" for step in range(4)])
    go(made, 6_000 + LARGE)
    made.check_succeeded()
    made.check_freed()


@few
@given(st.integers(0, 2**32), st.sampled_from([0, 1, 2, 3]))
def test_what_goes_wrong_meanwhile_loses_nothing(seed: int, crossing: int) -> None:
    made = federation(seed, TWO, 6_000, FAULTS)
    made.introduce()
    submit(made, ["edge1" if step < crossing else "cloud" for step in range(4)])
    made.run(most=100_000)
    made.check_succeeded()
    made.check_freed()
    for agent in made.agents.values():
        audit(agent.core)


@few
@given(st.integers(0, 2**32))
def test_runs_of_a_namespace_share_its_quota_and_all_end(seed: int) -> None:
    made = federation(seed, ONE, 0)
    made.quotas = {"default": 8_000}
    made.introduce()
    for run in ("run-2", "run-1"):
        submit(made, ["edge1"] * 4, run)
    go(made, 8_000 + 2 * LARGE)
    for run in ("run-1", "run-2"):
        assert made.agents["edge1"].state(RunKey("default", run)) == model_pb2.FRAGMENT_STATE_SUCCEEDED


@pytest.mark.parametrize(("crossing", "whole"), [(4, False), (3, True), (2, False)])
def test_what_can_never_find_room_fails_its_run_and_names_the_quota(crossing: int, whole: bool) -> None:
    """Also where it is known on one cluster, while another has still a part in what is open."""
    made = federation(7, TWO, 0 if whole else 5_000, policy=Policy(stuck_after=2.0))
    made.quotas = {"default": 5_000} if whole else {}
    made.sizes["shrink"] = LARGE
    made.introduce()
    submit(made, ["edge1" if step < crossing else "cloud" for step in range(4)])
    made.run(most=100_000)
    made.check_failed()
    failure = made.failures[0]
    assert failure.kind == "full"
    assert f"may store 5 KB on {'cloud' if crossing == 2 else 'edge1'}" in failure.message
    assert ("quota of namespace default" if whole else "policy.quota of its workflow") in failure.message


def test_parts_of_which_a_gather_wants_all_and_that_do_not_fit_fail_the_run() -> None:
    made = federation(4, ONE, 5_000, policy=Policy(stuck_after=2.0))
    data = source("data", ["edge1"])
    cut = split(data)
    report = Use("report", ["edge1"], {"parts": (f"{cut.name}.out", GATHER)})
    made.units_in, made.sizes[cut.name] = {cut.name: PARTS}, LARGE
    made.introduce()
    made.submit([data, cut, report, output(report)], {data.name: {"edge1": 1}})
    made.run(most=100_000)
    made.check_failed()
    assert f"{cut.name} waits in the middle of a file" in made.failures[0].message
    assert "policy.quota of its workflow" in made.failures[0].message


def test_a_unit_that_is_larger_than_the_quota_fails_its_run_at_once() -> None:
    made = federation(3, TWO, 1_000)
    made.introduce()
    submit(made, ["edge1", "edge1", "cloud", "cloud"])
    made.run(most=100_000)
    made.check_failed()
    assert "a unit of 1.5 KB is to come from another cluster" in made.failures[0].message


def test_a_quota_that_is_raised_lets_a_run_go_on_that_it_held_back() -> None:
    made = federation(5, ONE, 0)
    made.sizes["shrink"] = LARGE
    made.quotas = {"default": 5_000}
    made.introduce()
    submit(made, ["edge1"] * 4)
    made.run(until=lambda: made.steps_taken >= 3_000)
    (waits,) = {step.waits_for for step in made.agents["edge1"].core.status(RUN).steps if step.waits_for}
    assert waits.startswith("quota of namespace default on edge1 (")
    made.quotas = {"default": 80_000}
    made.tell_directory("edge1")
    made.run(most=100_000)
    made.check_succeeded()
