"""Who submits is told which units are expected to be larger than all that the run may store on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from control_plane.planner.base import Measured
from control_plane.planner.core import plan
from tests.planner.conftest import Case

TEXT = """
kind: Topology
metadata: {name: two}
spec:
  zones: [{name: a, tier: edge}, {name: b, tier: cloud}]
  clusters:
    - {name: edge, zone: a, nodes: [{name: n1, cpus: 2}]}
    - {name: cloud, zone: b, nodes: [{name: n1, cpus: 2}]}
  links: [{between: [a, b], bandwidth: 100Mbit}]
  datasets: [{name: rows, parts: [{at: edge, path: r.csv, size: 8MiB}]}]
---
kind: Step
metadata: {name: work, version: "1"}
spec:
  run: {command: [cp, "{in.row}", "{out.row}"], image: "base:1"}
  inputs: {row: {}}
  outputs: {row: {}}
---
kind: Workflow
metadata: {name: w}
spec:
  inputs: {rows: {dataset: rows}}
  outputs: {row: first.row}
  policy: {quota: 4MiB}
  steps:
    - {name: first, use: work@1, in: {row: {from: inputs.rows, split: {count: 8}}}, place: {tier: edge}}
"""


@pytest.mark.parametrize(
    ("selectivity", "warning"),
    [
        (None, ""),  # nobody knows what the step makes
        (3.0, ""),
        (6.0, "a unit of first is expected to have 6Mi, but the run may store 4Mi on a cluster (policy.quota)"),
    ],
)
def test_a_step_that_makes_too_much_as_measured(
    case: Callable[[str], Case], selectivity: float | None, warning: str
) -> None:
    request = case(TEXT).request(measured={"work@1": Measured(selectivity)})
    assert warning in "".join(plan(request).plan.warnings)
    assert bool(warning) == any("may store" in each for each in plan(request).plan.warnings)


def test_a_file_that_must_cross_as_it_is(case: Callable[[str], Case]) -> None:
    text = TEXT.replace(", split: {count: 8}", "").replace("{tier: edge}", "{tier: cloud}")
    request = case(text.replace("  policy: {quota: 4MiB}\n", "")).request()
    assert not any("may store" in each for each in plan(request).plan.warnings)
    (warning,) = [each for each in plan(replace(request, storage=1 << 20)).plan.warnings if "may store" in each]
    assert warning == (
        "r.csv has 8Mi and must cross as a whole, but the run may store 1Mi on a cluster (namespace default)"
    )


def test_fragments_carry_the_run_s_own_quota(case: Callable[[str], Case]) -> None:
    assert {each.policy.quota for each in plan(case(TEXT).request()).fragments.values()} == {4 << 20}
