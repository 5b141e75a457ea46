"""How many slots a plan reserves, and that what it reserves fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.core import plan
from tests.planner.conftest import Case
from topology.packing import Room, Want, take
from wire.errors import ProblemError

TEXT = """
kind: Topology
metadata: {{name: t}}
spec:
  zones: [{{name: here, tier: edge}}, {{name: there, tier: cloud}}]
  clusters:
    - name: edge
      zone: here
      runtime: process
      nodes: [{{name: n1, cpus: 2, memory: 4Gi}}, {{name: n2, cpus: 2, memory: 4Gi}}]
    - {{name: cloud, zone: there, runtime: process, nodes: [{{name: n1, cpus: 4, memory: 8Gi}}]}}
  links: [{{between: [here, there], bandwidth: 100Mbit, latency: 20ms}}]
  datasets: [{{name: rows, parts: [{{at: edge, path: rows.csv, size: 1MiB}}]}}]
---
kind: Step
metadata: {{name: work, version: "1"}}
spec:
  run: {{python: "code:main"}}
  inputs: {{rows: {{}}}}
  outputs: {{rows: {{}}}}
  resources: {{cpus: 1}}
---
kind: Workflow
metadata: {{name: w}}
spec:
  inputs: {{rows: {{dataset: rows}}}}
  steps:
    - name: first
      use: work@1
      in: {{rows: {{from: inputs.rows, split: {{count: {units}}}}}}}
      place: {{tier: edge}}
      {first}
    - {{name: second, use: work@1, in: {{rows: first.rows}}, place: {{{second}}}}}
    - {{name: last, use: work@1, in: {{rows: {{from: second.rows, gather: all}}}}}}
  policy: {{reserve: {reserve}}}
  outputs: {{rows: last.rows}}
"""


def slots(planned: m.Plan) -> dict[str, dict[str, int]]:
    """Step -> cluster -> slots, where there are any."""
    return {
        step.step: {share.cluster: share.slots for share in step.shares if share.slots}
        for step in planned.steps
        if any(share.slots for share in step.shares)
    }


def text(*, units: int = 8, reserve: str = "hold", first: str = "", second: str = "tier: edge") -> str:
    return TEXT.format(units=units, reserve=reserve, first=first, second=second)


def test_nothing_is_reserved_where_the_workflow_does_not_ask_for_it(case: Callable[[str], Case]) -> None:
    assert slots(plan(case(text(reserve="none")).request()).plan) == {}


def test_each_step_gets_a_slot_and_the_rest_of_the_room_is_dealt_out_in_turns(case: Callable[[str], Case]) -> None:
    found = slots(plan(case(text()).request()).plan)
    on_edge = {step: where["edge"] for step, where in found.items() if "edge" in where}
    assert min(on_edge["first"], on_edge["second"]) >= 1
    assert sum(on_edge.values()) == 4, "what the edge's nodes have"
    assert max(on_edge.values()) - min(on_edge.values()) <= 1 + ("last" in on_edge)


def test_no_step_reserves_more_than_its_units_or_its_pool_can_use(case: Callable[[str], Case]) -> None:
    assert slots(plan(case(text(units=1)).request()).plan)["first"] == {"edge": 1}
    limited = case(text(first="pool: {max: 2}\n      preemptible: true"))
    planned = plan(limited.request())
    assert slots(planned.plan)["first"]["edge"] <= 2
    assert [step.name for step in planned.steps if step.preemptible] == ["first"]


def test_what_the_plan_says_is_what_the_fragments_say(case: Callable[[str], Case]) -> None:
    planned = plan(case(text()).request())
    for fragment in planned.fragments.values():
        told = {step.name: {each.cluster: each.slots for each in step.executors} for step in fragment.steps}
        assert told == {step.step: {each.cluster: each.slots for each in step.shares} for step in planned.plan.steps}


def test_a_plan_does_without_a_cluster_that_was_denied_where_there_is_a_choice(case: Callable[[str], Case]) -> None:
    request = case(text(second="")).request()
    planned = plan(replace(request, denied={"cloud": "run r1 holds it all"})).plan
    for step in planned.steps:
        assert all(share.cluster != "cloud" for share in step.shares)
    verdicts = [verdict for step in planned.steps for verdict in step.filtered if "cloud" in verdict.clusters]
    assert any(verdict.filter == "slots" and "run r1 holds it all" in verdict.reason for verdict in verdicts)
    with pytest.raises(ProblemError, match="could not reserve"):
        plan(replace(request, denied={"edge": "it is full"}))


rooms = st.builds(Room, st.sampled_from([1.0, 2.0, 4.0]), st.sampled_from([1.0, 2.0, math.inf]))
wants = st.builds(Want, st.sampled_from([0.1, 0.5, 1.0, 2.0]), st.sampled_from([0.0, 1.0]), st.integers(0, 5))


@given(st.lists(rooms, min_size=1, max_size=4), st.lists(wants, max_size=5))
def test_what_is_taken_fits_and_what_was_planned_can_be_taken_again(nodes: list[Room], wanted: list[Want]) -> None:
    free = {str(index): room for index, room in enumerate(nodes)}
    taken = take(free, wanted)
    used = {name: Room() for name in free}
    for want, placed in zip(wanted, taken.slots, strict=True):
        assert len(placed) <= want.most
        for node in placed:
            used[node].add(want.cpus, want.memory)
    for _, node, more in taken.besides:
        used[node].add(more.cpus, more.memory)
    assert all(free[name].fits(room.cpus, room.memory) for name, room in used.items())
    for index, want in enumerate(wanted):
        covered = any(room.fits(want.cpus, want.memory) for room in used.values())
        assert covered or index in taken.lacking, "one task of each step can run on what was taken"
    planned = [Want(want.cpus, want.memory, len(got)) for want, got in zip(wanted, taken.slots, strict=True)]
    again = take(free, planned)
    assert [len(got) for got in again.slots] == [want.most for want in planned]
    assert again.lacking == taken.lacking
