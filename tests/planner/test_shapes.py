"""How units come together says where a step may run, what crosses for it, and which steps a run really has."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.core import Planned, plan
from tests.planner.conftest import Case
from wire.errors import ProblemError

PLACES = """
kind: Topology
metadata: {name: two}
spec:
  zones: [{name: a, tier: edge}, {name: b, tier: edge}, {name: c, tier: cloud}]
  clusters:
    - {name: edge1, zone: a, nodes: [{name: n1, cpus: 2}]}
    - {name: edge2, zone: b, nodes: [{name: n1, cpus: 2}]}
    - {name: cloud1, zone: c, nodes: [{name: n1, cpus: 2}]}
  links:
    - {between: [a, c], bandwidth: 100Mbit}
    - {between: [b, c], bandwidth: 100Mbit}
  datasets:
    - {name: rows, parts: [{at: edge1, path: r.csv, size: 8MiB}, {at: edge2, path: r.csv, size: 4MiB}]}
    - {name: table, parts: [{at: cloud1, path: t.csv, size: 1MiB}]}
    - {name: far, parts: [{at: edge1, path: t.csv, size: 1MiB}]}
---
kind: Step
metadata: {name: work, version: "1"}
spec:
  run: {command: [cp, "{in.row}", "{out.row}"]}
  inputs: {row: {format: csv}, table: {format: csv, optional: true}}
  outputs: {row: {format: csv}}
---
kind: Step
metadata: {name: judge, version: "1"}
spec:
  run: {python: "m:f"}
  parameters: {least: {type: integer, minimum: 1, enum: [1, 2]}}
  inputs: {row: {format: csv}}
  outputs: {least: {as: json}}
---
kind: Workflow
metadata: {name: w}
spec:
  inputs: {rows: {dataset: rows}, table: {dataset: table}, far: {dataset: far}}
  outputs: {row: work.row}
  steps:
"""
SPLIT = "{from: inputs.rows, split: {size: 1MiB}}"


def planned(case: Callable[[str], Case], *steps: str) -> Planned:
    return plan(case(PLACES + "".join(f"    - {step}\n" for step in steps)).request())


def step(found: Planned, name: str) -> m.Step:
    return next(step for step in found.steps if step.name == name)


def executors(found: Planned, name: str) -> list[str]:
    return [share.cluster for share in step(found, name).executors]


def test_a_broadcast_crosses_once_to_each_cluster_that_is_to_have_tasks(case: Callable[[str], Case]) -> None:
    inputs = f"{{row: {SPLIT}, table: {{from: inputs.table, broadcast: true}}}}"
    found = planned(case, f"{{name: work, use: work@1, in: {inputs}, place: {{tier: edge, stay: true}}}}")
    assert executors(found, "work") == ["edge1", "edge2"]
    crosses = sorted((each.from_cluster, each.to_cluster, each.edge, each.bytes) for each in found.plan.transfers)
    assert crosses == [("cloud1", edge, "work.table", 2.0**20) for edge in ("edge1", "edge2")]


def test_who_can_not_be_reached_by_a_broadcast_does_not_execute_the_step(case: Callable[[str], Case]) -> None:
    inputs = f"{{row: {SPLIT}, table: {{from: inputs.far, broadcast: true}}}}"
    found = planned(case, f"{{name: work, use: work@1, in: {inputs}}}")
    assert executors(found, "work") == ["cloud1", "edge1"], "no link leads from edge1 to edge2"
    with pytest.raises(ProblemError, match="must run where its data lies"):
        planned(case, f"{{name: work, use: work@1, in: {inputs}, place: {{tier: edge, stay: true}}}}")


def test_keys_belong_only_to_clusters_that_all_others_reach(case: Callable[[str], Case]) -> None:
    first = f"{{name: first, use: work@1, in: {{row: {SPLIT}}}, place: {{tier: edge, stay: true}}}}"
    found = planned(case, first, "{name: work, use: work@1, in: {row: {from: first.row, group: {by: key}}}}")
    assert executors(found, "work") == ["cloud1"]
    assert step(found, "work").inputs[0].group_by == "key"


def test_a_tree_merges_on_each_cluster_that_made_something_and_then_where_it_is_wanted(
    case: Callable[[str], Case],
) -> None:
    first = f"{{name: first, use: work@1, in: {{row: {SPLIT}}}, place: {{tier: edge, stay: true}}}}"
    found = planned(
        case, first, "{name: work, use: work@1, in: {row: {from: first.row, gather: tree}}, place: {tier: cloud}}"
    )
    local, last = step(found, "work.row.local"), step(found, "work")
    assert executors(found, local.name) == ["edge1", "edge2"]
    assert executors(found, last.name) == ["cloud1"]
    assert (local.inputs[0].from_step, local.inputs[0].pairing) == ("first", m.PAIRING_GATHER_EACH)
    assert (last.inputs[0].from_step, last.inputs[0].from_port) == (local.name, "row")
    assert last.inputs[0].pairing == m.PAIRING_GATHER_ALL
    assert local.definition == last.definition == "work@1"
    assert {each.edge for each in found.plan.transfers} == {"work.row"}, "what is merged first does not cross"
    assert next(each for each in found.plan.steps if each.step == local.name).expected_units == 2


def test_a_batch_makes_fewer_tasks(case: Callable[[str], Case]) -> None:
    cloud = "place: {tier: cloud}"
    batch = "{from: first.row, batch: {count: 4, size: 2MiB, wait: 1s}}"
    found = planned(
        case,
        f"{{name: first, use: work@1, in: {{row: {SPLIT}}}, {cloud}}}",
        f"{{name: work, use: work@1, in: {{row: {batch}}}, {cloud}}}",
    )
    assert next(each for each in found.plan.steps if each.step == "work").expected_units == 6
    said = step(found, "work").inputs[0].batch
    assert (said.count, said.size, said.wait) == (4, 2 << 20, 1.0)


def test_a_value_is_a_port_that_carries_what_the_step_declares(case: Callable[[str], Case]) -> None:
    found = planned(
        case,
        "{name: judged, use: judge@1, in: {row: {from: inputs.rows, gather: all}}, parameters: {least: 1}}",
        f'{{name: again, use: judge@1, in: {{row: {SPLIT}}}, parameters: {{least: "{{judged.least}}"}}}}',
        '{name: all, use: judge@1, in: {row: {from: inputs.rows, gather: all}}, parameters: {least: "{judged.least}"}}',
        "{name: work, use: work@1, in: {row: inputs.rows}}",
    )
    value = next(port for port in step(found, "again").inputs if port.HasField("parameter"))
    assert (value.name, value.from_step, value.from_port) == ("param.least", "judged", "least")
    assert (value.pairing, value.form) == (m.PAIRING_BROADCAST, "json")
    declared = value.parameter
    assert (declared.name, declared.type, declared.minimum, declared.maker) == ("least", "integer", 1, "judged.least")
    assert not declared.HasField("maximum")
    assert json.loads(declared.enum_json) == [1, 2]
    assert json.loads(step(found, "again").parameters_json) == {}
    gathered = next(port for port in step(found, "all").inputs if port.HasField("parameter"))
    assert gathered.pairing == m.PAIRING_GATHER_ALL


def test_what_is_zipped_or_crossed_is_planned_as_so_many_tasks(case: Callable[[str], Case]) -> None:
    cloud = "place: {tier: cloud}"
    both = "{row: {from: first.row, zip: true}, table: {from: other.row, zip: true}}"
    found = planned(
        case,
        f"{{name: first, use: work@1, in: {{row: {SPLIT}}}, {cloud}}}",
        f"{{name: other, use: work@1, in: {{row: first.row}}, {cloud}}}",
        f"{{name: zipped, use: work@1, in: {both}, {cloud}}}",
        f"{{name: work, use: work@1, in: {{row: first.row, table: {{from: inputs.rows, cross: true}}}}, {cloud}}}",
    )
    units = {each.step: each.expected_units for each in found.plan.steps}
    assert (units["first"], units["zipped"], units["work"]) == (12, 12, 24)
    assert [port.pairing for port in step(found, "zipped").inputs] == [m.PAIRING_ZIP, m.PAIRING_ZIP]
    assert [port.pairing for port in step(found, "work").inputs] == [m.PAIRING_EACH, m.PAIRING_CROSS]
