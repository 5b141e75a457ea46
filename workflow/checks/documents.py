"""What is wrong with documents that are applied together, beside what is stored already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from topology.checks import check_topology, topology_warnings
from topology.model import Topology
from topology.problems import Problem
from workflow.checks.step import check_step, step_warnings
from workflow.checks.workflow import check_workflow, workflow_warnings
from workflow.load import Document
from workflow.model import Step, Workflow


def check_documents(
    documents: Sequence[Document],
    stored_steps: Mapping[str, Step] | None = None,
    stored_topology: Topology | None = None,
    stored_workflows: Mapping[str, Workflow] | None = None,
) -> list[Problem]:
    """The problems of documents of all kinds, which may name each other in any order.

    A workflow is checked beside the steps (by NAME@VERSION) and workflows (by name), and in the topology, that will be
    there when all documents are applied: theirs, else the stored ones. Of several topologies none is taken, because it
    is not clear which.
    """
    steps = dict(stored_steps or {})
    steps.update({one.model.reference: one.model for one in documents if isinstance(one.model, Step)})
    workflows = dict(stored_workflows or {})
    workflows.update({one.model.metadata.name: one.model for one in documents if isinstance(one.model, Workflow)})
    new = [(one.model, one.positions) for one in documents if isinstance(one.model, Topology)]
    topology = stored_topology if not new else new[0][0] if len(new) == 1 else None
    problems = _twice(documents)
    for model, positions in new:
        problems += check_topology(model, positions)
    for one in documents:
        if isinstance(one.model, Step):
            problems += check_step(one.model, one.positions)
        elif isinstance(one.model, Workflow):
            problems += check_workflow(one.model, steps, topology, one.positions, workflows)
    return sorted(set(problems))


def document_warnings(documents: Sequence[Document]) -> list[Problem]:
    """The warnings of each document."""
    warnings: list[Problem] = []
    for one in documents:
        match one.model:
            case Topology():
                warnings += topology_warnings(one.model, one.positions)
            case Step():
                warnings += step_warnings(one.model, one.positions)
            case Workflow():
                warnings += workflow_warnings(one.model, one.positions)
    return sorted(set(warnings))


def _twice(documents: Sequence[Document]) -> list[Problem]:
    first: dict[tuple[str, str], Document] = {}
    problems = []
    for one in documents:
        name = one.model.reference if isinstance(one.model, Step) else one.model.metadata.name
        other = first.setdefault((one.model.kind, name), one)
        if other is not one:
            line = other.positions.line(("metadata", "name"))
            message = f"there is a {one.model.kind} {name} already, in {other.positions.file or 'the same text'}:{line}"
            problems.append(one.positions.problem(("metadata", "name"), message, "keep one of them"))
    return problems
