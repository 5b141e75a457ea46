"""Whole runs over several clusters: whatever goes wrong, each unit is consumed once and every fragment ends well."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2
from tests.coordinator.federation import Faults, Federation
from tests.coordinator.workflows import random_graph

CLUSTERS = {"edge1": {"n1": 2.0}, "edge2": {"n1": 1.0, "n2": 2.0}, "cloud": {"n1": 4.0, "n2": 2.0}}


def run_random(seed: int, faults: Faults | None = None) -> Federation:
    random = Random(seed)
    names = random.sample(list(CLUSTERS), random.randint(1, len(CLUSTERS)))
    federation = Federation(random, {name: CLUSTERS[name] for name in names}, faults or Faults())
    steps, parts = random_graph(random, names)
    for step in steps:
        step.attempts = 50
    if random.random() < 0.5:
        pairs = [(a, b) for a in names for b in names if a != b]
        federation.undialled = set(random.sample(pairs, random.randint(0, len(pairs))))
    federation.introduce()
    federation.submit(steps, parts)
    federation.run(most=20_000)
    return federation


@given(st.integers(0, 2**32))
def test_every_run_ends_well_and_leaves_only_its_results(seed: int) -> None:
    federation = run_random(seed)
    federation.check_succeeded()
    federation.check_freed()
    assert all(count == 1 for count in federation.crossed.values()), "bytes crossed to a cluster more than once"
