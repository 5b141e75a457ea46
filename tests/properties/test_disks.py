"""A run that needs many times the disk that there is ends all the same, if each of its units finds room on its way."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.space.disks import in_words
from simulator.audit import audit
from tests.coordinator.federation import Faults, Federation
from tests.coordinator.workflows import EACH, GATHER, Use, output, source, split
from tests.settings import examples

few = settings(max_examples=examples(12))
PATIENT = Policy(stuck_after=1e9)  # time jumps ahead of words that are on their way, so it proves nothing
SMALL, LARGE = 100, 1_500
UNITS = 24
CHAIN = LARGE + LARGE + SMALL  # what one unit of the split becomes on its way: grown, turned, small again
# What must be there at the same time: all that is gathered, one unit on its way and the place for another that grows or
# comes. Tasks leave a sixteenth of a disk to those behind them, those that have been held back another one.
LEAST = -(-(UNITS * SMALL + CHAIN + LARGE + LARGE) * 8 // 7)
GUESSED = 4  # tasks that begin before what such a task writes was measured
FULL_OF_FAULTS = Faults(attempt_fails=0.05, crash=0.02, node_restart=0.01, stream_breaks=0.01, repeats=0.1, cut=0.01)


def fan_out(
    seed: int,
    clusters: dict[str, dict[str, float]],
    places: list[str],
    disk: int,
    *,
    faults: Faults | None = None,
    policy: Policy = PATIENT,
    back: str = "",
) -> Federation:
    """A file is split; each unit is made fifteen times as large, then another, small again; all are gathered.

    `places`: of the file, and of these steps; `back`: where units become small again, if not where they were turned.
    """
    federation = Federation(Random(seed), clusters, faults or Faults(), policy=policy)
    federation.size = SMALL
    federation.sizes = {"grow": LARGE, "turn": LARGE}
    where = [[places[0]], [places[1]], [places[2]], [places[3]]]
    data = source("data", where[0])
    cut = split(data)
    grow = Use("grow", where[1], {"rows": (f"{cut.name}.out", EACH)})
    turn = Use("turn", where[2], {"rows": ("grow.out", EACH)})
    shrink = Use("shrink", [back] if back else where[2], {"rows": ("turn.out", EACH)})
    report = Use("report", where[3], {"parts": ("shrink.out", GATHER)})
    for step in (grow, turn, shrink, report):
        step.attempts = 20 if faults else 1
    federation.units_in = {cut.name: UNITS}
    for agent in federation.agents.values():
        for node in agent.nodes.values():
            node.disk = disk
    federation.introduce()
    federation.submit([data, cut, grow, turn, shrink, report, output(report)], {data.name: {places[0]: 1}})
    return federation


def check(federation: Federation) -> None:
    federation.run(most=100_000)
    federation.check_succeeded()
    federation.check_freed()
    for agent in federation.agents.values():
        audit(agent.core)
        for node in agent.nodes.values():
            assert node.fullest <= node.disk
            assert node.refused <= GUESSED or federation.misfortunes, "what is expected to find no room does not begin"


@few
@given(st.integers(0, 2**32), st.sampled_from([LEAST, 10_000, 15_000]))
def test_a_run_that_needs_ten_times_the_disk_ends_on_one_node(seed: int, disk: int) -> None:
    check(fan_out(seed, {"edge1": {"n1": 2.0}}, ["edge1"] * 4, disk))


@few
@given(st.integers(0, 2**32), st.sampled_from([LEAST, 10_000]))
def test_what_goes_wrong_meanwhile_loses_nothing(seed: int, disk: int) -> None:
    check(fan_out(seed, {"edge1": {"n1": 2.0, "n2": 2.0}}, ["edge1"] * 4, disk, faults=FULL_OF_FAULTS))


@few
@given(st.integers(0, 2**32), st.sampled_from([LEAST, 10_000]))
@example(2, 10_000)  # all that was made again began at once, and left no room for what reads it
def test_what_was_lost_with_its_node_is_made_again_in_the_disk_that_there_is(seed: int, disk: int) -> None:
    """Not all of it at once: then nothing of it would find room on its way on, and it would be tried for ever."""
    lost = Faults(node_restart=0.01, node_loses_store=0.5, repeats=0.1, budget=6)
    check(fan_out(seed, {"edge1": {"n1": 2.0, "n2": 2.0}}, ["edge1"] * 4, disk, faults=lost))


@few
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3]), st.booleans(), st.sampled_from([LEAST, 10_000]))
def test_a_full_disk_holds_back_those_who_send_to_it(seed: int, crossing: int, faulty: bool, disk: int) -> None:
    clusters = {"edge1": {"n1": 2.0}, "cloud": {"n1": 2.0}}
    places = ["edge1" if step < crossing else "cloud" for step in range(4)]
    check(fan_out(seed, clusters, places, disk, faults=FULL_OF_FAULTS if faulty else None))


@few
@given(st.integers(0, 2**32), st.booleans())
def test_clusters_that_send_units_to_and_fro_do_not_fill_each_other(seed: int, faulty: bool) -> None:
    clusters = {"edge1": {"n1": 2.0}, "cloud": {"n1": 2.0}}
    places = ["edge1", "edge1", "cloud", "edge1"]
    check(fan_out(seed, clusters, places, LEAST + LARGE, faults=FULL_OF_FAULTS if faulty else None, back="edge1"))


@pytest.mark.parametrize("crossing", range(1, 5))
def test_what_can_never_find_room_fails_its_run_and_says_what_it_lacks(crossing: int) -> None:
    """Also where another cluster has more units for the one that is full, which could free nothing there."""
    clusters = {"edge1": {"n1": 2.0}, "cloud": {"n1": 2.0}} if crossing < 4 else {"edge1": {"n1": 2.0}}
    places = ["edge1" if step < crossing else "cloud" for step in range(4)]
    federation = fan_out(crossing, clusters, places, LEAST, policy=Policy(stuck_after=2.0))
    federation.sizes["shrink"] = LARGE
    federation.run(most=100_000)
    federation.check_failed()
    (failure,) = federation.failures
    assert failure.kind == "full"
    assert f"want of disk on {places[2]}" in failure.message
    assert "run run-1 holds" in failure.message
    assert f"of {in_words(LEAST)} free" in failure.message
