"""Whether a workflow's steps fit together: steps, ports and inputs that it names are there, without a cycle, and what
one step writes another can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from topology.nearest import did_you_mean, nearest
from topology.problems import Path, Positions, Problem
from workflow.checks.step import check_pool
from workflow.formats import DIRECTORY, split_format
from workflow.graph import INPUTS, RESERVED, find_cycle, format_of, pool, steps_by_name, written
from workflow.model import Binding, Step, StepUse, Workflow, WorkflowOutput

_ARCHIVES = {DIRECTORY, "tar"}  # of which one can be read as the other


def check_names(workflow: Workflow, where: Positions) -> Iterator[Problem]:
    """Each step has a name of its own, and none that has a meaning already."""
    first: dict[str, int] = {}
    for index, use in enumerate(workflow.spec.steps):
        path: Path = ("spec", "steps", index, "name")
        if use.name in RESERVED:
            message = f"a step can't be called {use.name}, which names the workflow's own {use.name}"
            yield where.problem(path, message, "choose another name")
        if first.setdefault(use.name, index) != index:
            line = where.line(("spec", "steps", first[use.name]))
            message = f"there is a step {use.name} already" + (f", on line {line}" if line else "")
            yield where.problem(path, message, "give each its own name")


def check_uses(workflow: Workflow, steps: Mapping[str, Step], where: Positions) -> Iterator[Problem]:
    """Each use names a step that there is, and connects the ports that the step has."""
    for index, use in enumerate(workflow.spec.steps):
        path: Path = ("spec", "steps", index)
        step = steps.get(use.use)
        if step is None:
            if not use.workflow:
                yield where.problem((*path, "use"), f"there is no step {use.use}", _other_step(use, steps))
            continue
        noun = f"workflow {use.workflow}" if use.workflow else f"step {use.use}"
        ports = step.spec.inputs
        for port in use.inputs:
            if port not in ports:
                remedy = did_you_mean(port, ports, "its inputs are") or "it has no inputs; leave it out"
                yield where.problem((*path, "in", port), f"{noun} has no input {port}", remedy)
        misspelt = {nearest(port, ports) for port in use.inputs if port not in ports}
        for port, declared in ports.items():
            if port not in use.inputs and port not in misspelt and not declared.optional:
                message = f"input {port} of {use.use} is not connected"
                remedy = f"add in: {{{port}: STEP.PORT}} or in: {{{port}: inputs.NAME}}"
                yield where.problem((*path, "in"), message, remedy)
        yield from check_pool(pool(use, step), (*path, "pool"), where)


def check_references(workflow: Workflow, steps: Mapping[str, Step], where: Positions) -> Iterator[Problem]:
    """Everything that a port or an output reads is made by somebody, in a format that fits."""
    for index, use in enumerate(workflow.spec.steps):
        reader = steps.get(use.use)
        for port, binding in use.inputs.items():
            path: Path = ("spec", "steps", index, "in", port)
            yield from _reference(workflow, steps, binding, path, where)
            declared = reader.spec.inputs.get(port) if reader is not None else None
            if declared is not None and declared.format is not None:
                yield from _format(workflow, steps, binding, declared.format, path, where)
    for name, output in workflow.spec.outputs.items():
        yield from _reference(workflow, steps, output, ("spec", "outputs", name), where)


def check_cycle(workflow: Workflow, where: Positions) -> Iterator[Problem]:
    """No step waits for itself."""
    cycle = find_cycle(workflow)
    if cycle:
        index = next(index for index, use in enumerate(workflow.spec.steps) if use.name == cycle[0])
        message = f"the steps form a cycle: {' → '.join(cycle)}"
        yield where.problem(("spec", "steps", index, "in"), message, "a step can't wait for itself: take one edge out")


def check_files(workflow: Workflow, where: Positions) -> Iterator[Problem]:
    """Two outputs don't overwrite each other."""
    first: dict[str, str] = {}
    for name, output in workflow.spec.outputs.items():
        if output.file is not None and first.setdefault(output.file, name) != name:
            message = f"output {first[output.file]} is saved as {output.file}, too"
            yield where.problem(("spec", "outputs", name, "file"), message, "give each its own file")


def _other_step(use: StepUse, steps: Mapping[str, Step]) -> str:
    name = use.use.partition("@")[0]
    versions = sorted(step.metadata.version for step in steps.values() if step.metadata.name == name)
    if versions:
        return f"there is {name} in version {', '.join(versions)}"
    known = sorted(name for name in steps if "@" in name)
    return did_you_mean(use.use, known, "the steps are") or "apply the step first"


def _reference(
    workflow: Workflow, steps: Mapping[str, Step], reads: Binding | WorkflowOutput, path: Path, where: Positions
) -> Iterator[Problem]:
    uses = steps_by_name(workflow)
    for index, source in enumerate(reads.sources):
        at: Path = (*path, "also", index - 1) if index else path
        if source in reads.sources[:index]:
            yield where.problem(at, f"{source} is read here already", "leave it out")
            continue
        step, port = written(source)
        if step == INPUTS:
            if port not in workflow.spec.inputs:
                remedy = did_you_mean(port, workflow.spec.inputs, "the inputs are")
                yield where.problem(at, f"the workflow has no input {port}", remedy or "declare it in spec.inputs")
            continue
        if step not in uses:
            remedy = did_you_mean(step, uses, "the steps are")
            yield where.problem(at, f"the workflow has no step {step}", remedy)
            continue
        writer = steps.get(uses[step].use)
        if writer is not None and port not in writer.spec.outputs:
            remedy = did_you_mean(port, writer.spec.outputs, "its outputs are")
            message = f"step {step} ({uses[step].use}) has no output {port}"
            yield where.problem(at, message, remedy or "it has no outputs")


def _format(
    workflow: Workflow,
    steps: Mapping[str, Step],
    binding: Binding,
    expected: str,
    path: Path,
    where: Positions,
) -> Iterator[Problem]:
    for source in binding.sources:
        made = format_of(workflow, steps, source)
        if made is None:
            continue
        if binding.split is not None and binding.split.per == "member":
            if split_format(made, "") != "tar":
                message = f"{source} is {made}, which has no members that it could be split by"
                yield where.problem(path, message, "split it by size, lines, records or count, or leave split out")
        elif made != expected and not {made, expected} <= _ARCHIVES:
            message = f"{source} is {made}, but this input takes {expected}"
            yield where.problem(path, message, f"put a step in between that makes {expected} of {made}")
