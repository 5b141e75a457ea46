"""What the checks let through, and what they only warn of. The words of what they refuse are in tests/errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workflow.objects import Plain, steps, topologies, workflows
from topology.model import Topology
from workflow.canonical import KINDS
from workflow.checks import check_documents, check_step, check_topology, check_workflow, document_warnings
from workflow.load import Document, load, read
from workflow.model import Step, Workflow
from workflow.problems import has_errors, render

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"

STEPS = """
kind: Step
metadata: {name: count, version: "1"}
spec:
  run: {command: [wc, "{in.rows}"]}
  parameters: {late: {type: integer, default: 0}}
  inputs: {rows: {}, more: {optional: true}}
  outputs: {lines: {}}
---
kind: Step
metadata: {name: installed, version: "1"}
spec: {run: {python: "json.tool:main"}}
---
kind: Topology
metadata: {name: t}
spec:
  zones: [{name: a, tier: edge}, {name: b, tier: cloud}, {name: empty, tier: fog}]
  clusters:
    - {name: a, zone: a, nodes: [{name: n1}]}
    - {name: b, zone: b, runtime: {kubernetes: {context: kind-b}}, nodes: [{name: n1}]}
"""


@given(workflows, st.lists(steps, max_size=2), topologies | st.none())
def test_no_check_raises_whatever_holds_together(one: Plain, others: list[Plain], place: Plain | None) -> None:
    known = [Step.model_validate(other) for other in others]
    topology = Topology.model_validate(place) if place is not None else None
    for step in known:
        check_step(step)
    if topology is not None:
        check_topology(topology)
    check_workflow(Workflow.model_validate(one), dict(zip(["clean@1"], known, strict=False)), topology)


def test_the_example_is_right() -> None:
    files = [read(FLIGHTS / name) for name in ("topology.yaml", "steps.yaml", "workflow.yaml")]
    documents: list[Document] = [document for file in files for document in file.documents]
    assert render([problem for file in files for problem in file.problems]) == ""
    assert render(check_documents(documents)) == ""
    assert render(document_warnings(documents)) == ""


def test_warnings_keep_nothing_from_being_applied() -> None:
    documents = load(STEPS, "s.yaml").documents
    assert check_documents(documents) == []
    warned = document_warnings(documents)
    assert not has_errors(warned)
    assert render(warned).splitlines()[::2] == [
        "s.yaml:6: warning: spec.parameters.late: the command does not name parameter late",
        "s.yaml:7: warning: spec.inputs.more: the command does not name input more",
        "s.yaml:8: warning: spec.outputs.lines: the command does not name output lines",
        "s.yaml:12: warning: spec.run.python: nothing says where module json.tool comes from",
        "s.yaml:17: warning: spec.zones[0]: zone a has no link: its clusters reach no other zone",
        "s.yaml:17: warning: spec.zones[1]: zone b has no link: its clusters reach no other zone",
        "s.yaml:17: warning: spec.zones[2]: no cluster is in zone empty",
    ]


def test_objects_without_a_file_are_told_by_their_fields() -> None:
    step = KINDS["Step"].model_validate(
        {"metadata": {"name": "s", "version": "1"}, "spec": {"run": {"command": ["{in.x}"]}}}
    )
    assert isinstance(step, Step)
    assert render(check_step(step)) == (
        "spec.run.command[0]: {in.x} names no input of this step\n    declare it in spec.inputs\n"
    )


@pytest.mark.parametrize("known", [True, False])
def test_a_workflow_finds_stored_steps_and_those_applied_with_it(known: bool) -> None:
    stored = {one.model.reference: one.model for one in load(STEPS).documents if isinstance(one.model, Step)}
    text = """
kind: Workflow
metadata: {name: w}
spec: {steps: [{name: a, use: installed@1}]}
"""
    documents = load(text if known else STEPS + "---" + text).documents
    assert check_documents(documents, stored if known else None) == []
    assert check_documents(load(text).documents) != []


def test_copies_of_a_dataset_need_only_be_where_the_other_data_is() -> None:
    text = """
kind: Topology
metadata: {name: t}
spec:
  zones: [{name: z, tier: edge}]
  clusters:
    - {name: a, zone: z, nodes: [{name: n1}]}
    - {name: b, zone: z, nodes: [{name: n1}]}
    - {name: c, zone: z, nodes: [{name: n1}]}
  datasets:
    - {name: flights, parts: [{at: a, path: f}, {at: b, path: f}]}
    - {name: airlines, replicas: [{at: a, path: x}, {at: b, path: x}, {at: c, path: x}]}
---
kind: Step
metadata: {name: join, version: "1"}
spec:
  run: {python: "join:main", bundle: .}
  inputs: {rows: {}, names: {}}
---
kind: Workflow
metadata: {name: w}
spec:
  inputs: {flights: {dataset: flights}, airlines: {dataset: airlines}}
  steps:
    - {name: join, use: join@1, in: {rows: inputs.flights, names: {from: inputs.airlines, same: cluster}}, place: PLACE}
"""
    assert check_documents(load(text.replace("PLACE", "{clusters: [a, b]}")).documents) == []
    wrong = check_documents(load(text.replace("PLACE", "{clusters: [a, c]}")).documents)
    assert [problem.field for problem in wrong] == ["spec.steps[0].place"]
    lacks = text.replace("PLACE", "{}").replace("{at: b, path: x}, ", "")
    assert "but b has none" in check_documents(load(lacks).documents)[0].message
