"""Whatever the topology and the workflow: a plan that is given can be executed."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.base import World
from control_plane.planner.core import plan
from tests.planner.conftest import Case, case_of
from wire.errors import ProblemError

STEP = """
kind: Step
metadata: {name: s, version: "1"}
spec: {run: {command: [cat]}, inputs: {x: {}}, outputs: {y: {}}}
---
kind: Step
metadata: {name: big, version: "1"}
spec: {run: {command: [cat]}, inputs: {x: {}, all: {optional: true}}, outputs: {y: {}}, resources: {cpus: 4}}
---
"""
GATHERED = ("all", "all, merge: concat", "tree", "tree, merge: concat", "each-cluster", "each-cluster, merge: concat")


_WHOLE = tuple(f", gather: {gathered}" for gathered in GATHERED if not gathered.startswith("each"))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A federation of up to six clusters in up to four zones with some links, and a chain or tree of steps."""
    zones = draw(st.integers(1, 4))
    tiers = [draw(st.sampled_from(["edge", "fog", "cloud"])) for _ in range(zones)]
    places = draw(st.lists(st.integers(0, zones - 1), min_size=1, max_size=6))
    pairs = [(a, b) for a in range(zones) for b in range(a + 1, zones)]
    links = [pair for pair in pairs if draw(st.integers(0, 3))]
    clusters = "\n".join(
        f"    - {{name: c{i}, zone: z{zone}, nodes: [{{name: n, cpus: {draw(st.integers(1, 8))}}}]}}"
        for i, zone in enumerate(places)
    )
    parts = draw(st.lists(st.integers(0, len(places) - 1), min_size=1, max_size=5))
    size = draw(st.sampled_from(["", ", size: 1000000"]))
    lines = []
    for number in range(draw(st.integers(1, 5))):
        before = draw(st.integers(-1, number - 1))
        source = "inputs.rows" if before < 0 else f"s{before}.y"
        how = draw(st.sampled_from(["", ", split: {count: 4}", *(f", gather: {gathered}" for gathered in GATHERED)]))
        name = draw(st.sampled_from(["s", "s", "big"]))
        copied = ", all: {from: inputs.rows, broadcast: true}" if name == "big" and how not in _WHOLE else ""
        tier = draw(st.sampled_from(["", "", "", ", place: {tier: cloud}"]))
        lines.append(f"    - {{name: s{number}, use: {name}@1, in: {{x: {{from: {source}{how}}}{copied}}}{tier}}}")
    text = f"""
kind: Topology
metadata: {{name: t}}
spec:
  zones: [{", ".join(f"{{name: z{i}, tier: {tier}}}" for i, tier in enumerate(tiers))}]
  clusters:
{clusters}
  links: [{", ".join(f"{{between: [z{a}, z{b}], bandwidth: 10Mbit}}" for a, b in links)}]
  datasets:
    - name: rows
      parts: [{", ".join(f"{{at: c{at}, path: f{i}.csv{size}}}" for i, at in enumerate(parts))}]
---
{STEP}
kind: Workflow
metadata: {{name: w}}
spec:
  inputs: {{rows: {{dataset: rows}}}}
  steps:
{chr(10).join(lines)}
  outputs: {{result: s{len(lines) - 1}.y}}
"""
    return case_of(text)


@given(cases())
def test_a_plan_can_be_executed(case: Case) -> None:
    try:
        planned = plan(case.request())
    except ProblemError as error:
        assert all(problem.message and problem.remedy for problem in error.problems)
        assume(False)
        return
    world = World(case.topology, {})
    steps = {step.name: step for step in planned.steps}
    for step in planned.steps:
        executors = [share.cluster for share in step.executors]
        assert len(set(executors)) == len(executors) > 0
        assert sum(share.share for share in step.executors) == pytest.approx(1.0)
        assert all(share.share >= 0 for share in step.executors)
        assert step.counter in executors
        assert step.successor == "" or (step.successor in executors and step.successor != step.counter)
        assert set(executors) <= planned.fragments.keys()
        for port in step.inputs:
            producers = [share.cluster for share in steps[port.from_step].executors]
            for producer in producers:
                assert any(world.reachable(producer, executor) for executor in executors)
            if steps[port.from_step].execution.HasField("merge") and port.pairing == m.PAIRING_GATHER_EACH:
                assert producers == executors, "the one file of each cluster is read where it is made"
            if port.pairing == m.PAIRING_GATHER_ALL:
                assert len(executors) == 1
                assert all(world.reachable(producer, executors[0]) for producer in producers)
    for transfer in planned.plan.transfers:
        assert world.reachable(transfer.from_cluster, transfer.to_cluster)
        assert transfer.from_cluster != transfer.to_cluster
        assert transfer.bytes >= 0
    opened = [(p.step, p.index, c) for c, each in planned.fragments.items() for p in each.sources]
    assert len(opened) == len(case.topology.spec.datasets[0].parts)
