"""A workflow used as a step: what it looks like from outside, and which workflows it needs in turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from workflow.graph import steps_by_name, written
from workflow.model import (
    Execution,
    InputPort,
    OutputPort,
    Step,
    StepMetadata,
    StepSpec,
    Workflow,
)

MOST_DEPTH: Final = 10
PREFIX: Final = "workflow/"


def interfaces(workflows: Mapping[str, Workflow], steps: Mapping[str, Step]) -> dict[str, Step]:
    """Each workflow as a step that has its parameters, inputs and outputs, under the name that a use gives it.

    An input that names a dataset may be left unconnected. Nothing starts such a step: it is there to be checked.
    """
    return {PREFIX + name: _interface(workflow, workflows, steps) for name, workflow in workflows.items()}


def used_workflows(workflow: Workflow) -> tuple[str, ...]:
    """The workflows that a workflow uses as steps, by name."""
    return tuple(dict.fromkeys(use.workflow for use in workflow.spec.steps if use.workflow))


def nesting_cycle(workflow: Workflow, workflows: Mapping[str, Workflow]) -> tuple[str, ...]:
    """The names of workflows that use each other, from this one and back to it; empty: there are none."""
    name = workflow.metadata.name
    known = {**workflows, name: workflow}
    path: list[str] = [name]
    seen: set[str] = set()

    def found(uses: Iterable[str]) -> bool:
        for each in uses:
            if each == name:
                path.append(each)
                return True
            if each in seen or each not in known:
                continue
            seen.add(each)
            path.append(each)
            if found(used_workflows(known[each])):
                return True
            path.pop()
        return False

    return tuple(path) if found(used_workflows(workflow)) else ()


def _interface(workflow: Workflow, workflows: Mapping[str, Workflow], steps: Mapping[str, Step]) -> Step:
    spec = workflow.spec
    return Step.model_construct(
        metadata=StepMetadata.model_construct(name=workflow.metadata.name, version=""),
        spec=StepSpec.model_construct(
            run=Execution.model_construct(),
            parameters=spec.parameters,
            inputs={
                name: InputPort(format=given.format, optional=given.dataset is not None)
                for name, given in spec.inputs.items()
            },
            outputs={name: _output(output.source, workflow, workflows, steps) for name, output in spec.outputs.items()},
        ),
    )


def _output(
    source: str, workflow: Workflow, workflows: Mapping[str, Workflow], steps: Mapping[str, Step], depth: int = 0
) -> OutputPort:
    """The port that makes an output, as its step declares it; one that takes anything where that is not known."""
    name, port = written(source)
    use = steps_by_name(workflow).get(name)
    if use is None or depth > MOST_DEPTH:
        return OutputPort()
    if use.workflow:
        inner = workflows.get(use.workflow)
        output = inner.spec.outputs.get(port) if inner is not None else None
        if inner is None or output is None:
            return OutputPort()
        return _output(output.source, inner, workflows, steps, depth + 1)
    step = steps.get(use.use)
    return step.spec.outputs.get(port, OutputPort()) if step is not None else OutputPort()
