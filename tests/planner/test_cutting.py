"""Splits and merges in the graph of a run: what they are told, in which format, and where they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.core import Planned, plan
from tests.planner.conftest import Case
from tests.planner.test_placing import STEP, TOPOLOGY, workflow
from wire.errors import ProblemError

CaseOf = Callable[[str], Case]
ANY = """
kind: Step
metadata: {name: any, version: "1"}
spec: {run: {command: [cat]}, inputs: {x: {}}, outputs: {y: {}}}
---
"""


def step(planned: Planned, name: str) -> m.Step:
    return next(each for each in planned.steps if each.name == name)


def where(planned: Planned, name: str) -> list[str]:
    return [share.cluster for share in step(planned, name).executors]


def test_a_merged_output_is_made_where_all_units_can_be_brought_soonest(case: CaseOf) -> None:
    text = (
        TOPOLOGY
        + STEP
        + workflow("[{name: one, use: s@1, in: {x: inputs.rows}}]", outputs="all: {from: one.y, merge: csv}")
    )
    planned = plan(case(text).request())
    merge = step(planned, "outputs.all.merge")
    assert (merge.execution.merge.format, merge.execution.merge.name) == ("csv", "all.csv")
    assert [port.pairing for port in merge.inputs] == [m.PAIRING_GATHER_ALL]
    assert where(planned, "outputs.all.merge") == ["cloud"], "the edges can't reach each other"
    assert where(planned, "outputs.all") == ["cloud"]
    assert [port.from_step for port in step(planned, "outputs.all").inputs] == ["outputs.all.merge"]


def test_it_is_made_where_most_bytes_are_if_that_can_be_reached(case: CaseOf) -> None:
    linked = TOPOLOGY.replace(
        "  datasets:", "    - {between: [a, b], bandwidth: 10Mbit, latency: 10ms, dial: a}\n  datasets:"
    )
    text = (
        linked
        + STEP
        + workflow(
            "[{name: one, use: s@1, in: {x: inputs.rows}, place: {stay: true}}]",
            outputs="all: {from: one.y, merge: concat}",
        )
    )
    planned = plan(case(text).request())
    assert where(planned, "outputs.all.merge") == ["edge-a"]
    assert [(each.from_cluster, each.to_cluster) for each in planned.plan.transfers] == [("edge-b", "edge-a")]


def test_a_merged_input_is_made_where_its_reader_may_run(case: CaseOf) -> None:
    steps = "[{name: one, use: any@1, in: {x: {from: inputs.rows, gather: all, merge: csv}}, place: {tier: cloud}}]"
    planned = plan(case(TOPOLOGY + ANY + workflow(steps)).request())
    assert where(planned, "one.x.merge") == where(planned, "one") == ["cloud"]
    (port,) = step(planned, "one").inputs
    assert (port.from_step, port.format) == ("one.x.merge", "csv")


def test_a_tree_makes_one_file_on_each_cluster_and_then_one_of_these(case: CaseOf) -> None:
    steps = (
        "[{name: first, use: any@1, in: {x: inputs.rows}, place: {tier: edge, stay: true}}, "
        "{name: one, use: any@1, in: {x: {from: first.y, gather: tree, merge: csv}}, place: {tier: cloud}}]"
    )
    planned = plan(case(TOPOLOGY + ANY + workflow(steps)).request())
    local, last = step(planned, "one.x.local.merge"), step(planned, "one.x.merge")
    assert where(planned, local.name) == ["edge-a", "edge-b"]
    assert where(planned, last.name) == where(planned, "one") == ["cloud"]
    assert (local.inputs[0].from_step, local.inputs[0].pairing) == ("first", m.PAIRING_GATHER_EACH)
    assert (last.inputs[0].from_step, last.inputs[0].pairing) == (local.name, m.PAIRING_GATHER_ALL)
    assert (step(planned, "one").inputs[0].from_step, last.outputs[0].format) == (last.name, "csv")
    assert {each.edge for each in planned.plan.transfers} == {"one.x.merge.in"}, "what is merged first does not cross"
    assert next(each for each in planned.plan.steps if each.step == last.name).expected_units == 1


def test_one_file_of_each_cluster_is_made_where_its_reader_has_room(case: CaseOf) -> None:
    steps = (
        "[{name: first, use: any@1, in: {x: inputs.rows}, place: {tier: edge, stay: true}}, "
        "{name: one, use: any@1, in: {x: {from: first.y, gather: each-cluster, merge: csv}}, resources: {cpus: %s}}]"
    )
    planned = plan(case(TOPOLOGY + ANY + workflow(steps % 1)).request())
    assert where(planned, "one.x.merge") == where(planned, "one") == ["edge-a", "edge-b"]
    planned = plan(case(TOPOLOGY + ANY + workflow(steps % 6)).request())
    assert where(planned, "one.x.merge") == where(planned, "one") == ["cloud"], "only there it has six processors"
    (port,) = step(planned, "one").inputs
    assert (port.from_step, port.pairing) == ("one.x.merge", m.PAIRING_GATHER_EACH)


def test_where_no_cluster_can_have_all_units_the_merge_is_named(case: CaseOf) -> None:
    steps = "[{name: one, use: s@1, in: {x: inputs.rows}, place: {stay: true}}]"
    text = TOPOLOGY.replace("{between: [b, c]", "{between: [b, island]") + STEP
    with pytest.raises(ProblemError) as raised:
        plan(case(text + workflow(steps, outputs="all: {from: one.y, merge: csv}")).request())
    assert [problem.field for problem in raised.value.problems] == ["spec.outputs.all.merge"]
    assert "no cluster can have all units to merge" in raised.value.problems[0].message


@pytest.mark.parametrize(
    ("written", "expected", "into", "out"),
    [
        ("{records: 5}", m.Split(records=5), "csv.gz", "csv"),
        ("{per: slot, header: true}", m.Split(per_slot=True, header=True), "csv.gz", "csv"),
        ("{per: member}", m.Split(members=True, format="tar"), "tar", ""),
        ("{size: 1MiB, format: bytes}", m.Split(size=1 << 20, format="bytes"), "csv.gz", "csv"),
    ],
)
def test_a_split_is_told_how_and_its_pieces_have_the_format_of_what_is_inside(
    case: CaseOf, written: str, expected: m.Split, into: str, out: str
) -> None:
    text = TOPOLOGY.replace("a.csv", "a.csv.gz").replace("b.csv", "b.csv.gz") + ANY
    text += workflow(f"[{{name: one, use: any@1, in: {{x: {{from: inputs.rows, split: {written}}}}}}}]")
    planned = plan(case(text).request())
    split = step(planned, "one.x.split")
    assert split.execution.split.split == expected
    assert (split.inputs[0].format, split.outputs[0].format) == (into, out)
    assert step(planned, "one").inputs[0].format == out


def test_parts_that_are_directories_are_read_as_such_by_whoever_reads_them(case: CaseOf) -> None:
    steps = "[{name: one, use: any@1, in: {x: inputs.rows}}, {name: two, use: any@1, in: {x: inputs.names}}]"
    inputs = "rows: {dataset: rows, format: directory}, names: {dataset: names}"
    planned = plan(case(TOPOLOGY + ANY + workflow(steps, inputs)).request())
    found = {name: step(planned, f"inputs.{name}") for name in ("rows", "names")}
    assert {name: each.execution.source.directory for name, each in found.items()} == {"rows": True, "names": False}
    assert [step(planned, name).inputs[0].format for name in ("one", "two")] == ["directory", "csv"]


def test_a_split_per_slot_is_expected_to_fill_the_slots(case: CaseOf) -> None:
    text = (
        TOPOLOGY
        + ANY
        + workflow(
            "[{name: one, use: any@1, in: {x: {from: inputs.only, split: {per: slot}}}}]", "only: {dataset: only-a}"
        )
    )
    planned = plan(case(text).request())
    reader = next(each for each in planned.plan.steps if each.step == "one")
    assert reader.expected_units >= 18
