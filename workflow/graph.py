"""The shape of a workflow: what stands before what. Pure helpers for checks, planner and display.

Steps are told by their names in the workflow. An edge comes from a port of a step, or from an input of the workflow;
the latter's producer is called `inputs.NAME` and has the one port `out`, as in the graph of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter

from topology.errors import WrongValue
from topology.model import Disconnect
from topology.schema import overlay
from workflow.expressions import compiled
from workflow.model import Binding, Caching, Pool, Resources, Retry, Step, StepUse, Timeout, Workflow, WorkflowOutput
from workflow.placeholders import maker

INPUTS = "inputs"
OUTPUTS = "outputs"
SOURCE_PORT = "out"
RESERVED = frozenset([INPUTS, OUTPUTS])  # not names for steps


def producers(reads: Binding | WorkflowOutput) -> tuple[tuple[str, str], ...]:
    """Steps and ports that a port or an output reads, as named in the graph of a run."""
    return tuple(_producer(*written(source)) for source in reads.sources)


def _producer(step: str, port: str) -> tuple[str, str]:
    return (f"{INPUTS}.{port}", SOURCE_PORT) if step == INPUTS else (step, port)


def written(source: str) -> tuple[str, str]:
    """The two parts of `STEP.PORT`, or of `inputs.NAME`."""
    step, _, port = source.rpartition(".")
    return step, port


def format_of(workflow: Workflow, steps: Mapping[str, Step], source: str) -> str | None:
    """The format that a port declares which is written `STEP.PORT`, or an input of the workflow; None: not known."""
    name, port = written(source)
    if name == INPUTS:
        given = workflow.spec.inputs.get(port)
        return given.format if given is not None else None
    use = steps_by_name(workflow).get(name)
    writer = steps.get(use.use) if use is not None else None
    output = writer.spec.outputs.get(port) if writer is not None else None
    return output.written if output is not None else None


def source_steps(use: StepUse) -> tuple[str, ...]:
    """What a use reads from directly: steps, and `inputs`."""
    return tuple(dict.fromkeys(written(source)[0] for binding in use.inputs.values() for source in binding.sources))


def steps_by_name(workflow: Workflow) -> dict[str, StepUse]:
    """The uses of steps, in the order of the file; of two with one name the first."""
    uses: dict[str, StepUse] = {}
    for use in workflow.spec.steps:
        uses.setdefault(use.name, use)
    return uses


def predecessors(workflow: Workflow) -> dict[str, tuple[str, ...]]:
    """Of each step, the steps that it reads from directly."""
    uses = steps_by_name(workflow)
    known = uses.keys() - RESERVED
    return {name: tuple(dict.fromkeys(step for step in _read(use) if step in known)) for name, use in uses.items()}


def makers(use: StepUse) -> dict[str, tuple[str, str]]:
    """Of the parameters that other steps make, the step and its port."""
    found = {name: maker(value) for name, value in use.parameters.items()}
    return {name: made for name, made in found.items() if made is not None}


def deciders(use: StepUse) -> tuple[tuple[str, str], ...]:
    """The steps and ports on whose values its `when` decides."""
    if use.when is None:
        return ()
    with suppress(WrongValue):  # told where conditions are checked
        return compiled(use.when).makers
    return ()


def _read(use: StepUse) -> list[str]:
    return [*source_steps(use), *(step for step, _ in (*makers(use).values(), *deciders(use)))]


def successors(workflow: Workflow) -> dict[str, tuple[str, ...]]:
    """Of each step, the steps that read from it directly."""
    before = predecessors(workflow)
    return {name: tuple(after for after, names in before.items() if name in names) for name in before}


def topological_order(workflow: Workflow) -> tuple[str, ...]:
    """All steps, each after those it reads from, else in the order of the file.

    Raises `ValueError` naming the steps of a cycle.
    """
    cycle = find_cycle(workflow)
    if cycle:
        raise ValueError(f"the steps form a cycle: {' → '.join(cycle)}")
    before = predecessors(workflow)
    order: dict[str, None] = {}
    while len(order) < len(before):
        order.update({name: None for name, names in before.items() if name not in order and order.keys() >= set(names)})
    return tuple(order)


def find_cycle(workflow: Workflow) -> tuple[str, ...]:
    """The steps of a cycle in the direction of the data, the first again at the end; empty when there is none."""
    try:
        TopologicalSorter(predecessors(workflow)).prepare()
    except CycleError as error:
        path: list[str] = error.args[1]
        return tuple(path)
    return ()


def upstream(workflow: Workflow, step: str) -> frozenset[str]:
    """All steps that a step reads from, directly or not."""
    return _closure(predecessors(workflow), step)


def downstream(workflow: Workflow, step: str) -> frozenset[str]:
    """All steps that read from a step, directly or not."""
    return _closure(successors(workflow), step)


def _closure(neighbours: Mapping[str, tuple[str, ...]], start: str) -> frozenset[str]:
    found: set[str] = set()
    ahead = list(neighbours[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(neighbours[name])
    return frozenset(found)


def inputs_of(workflow: Workflow, step: str) -> frozenset[str]:
    """The workflow's inputs that reach a step, directly or through others."""
    uses = steps_by_name(workflow)
    return frozenset(
        port
        for name in upstream(workflow, step) | {step}
        for binding in uses[name].inputs.values()
        for before, port in map(written, binding.sources)
        if before == INPUTS
    )


def driving_port(use: StepUse) -> str | None:
    """The port of whose units each makes a task; None for a step that gathers or reads nothing."""
    return next((port for port, binding in use.inputs.items() if binding.pairing == "each"), None)


def timeout(use: StepUse, step: Step) -> Timeout:
    """How long things may take here: the workflow's words over the step's."""
    return overlay(use.timeout, step.spec.timeout)


def retry(use: StepUse, step: Step) -> Retry:
    """How often a task is tried here: the workflow's words over the step's."""
    return overlay(use.retry, step.spec.retry)


def resources(use: StepUse, step: Step) -> Resources:
    """What a worker gets here: the workflow's words over the step's."""
    return overlay(use.resources, step.spec.resources)


def pool(use: StepUse, step: Step) -> Pool:
    """How many workers a cluster keeps here: the workflow's words over the step's."""
    return overlay(use.pool, step.spec.pool)


def caching(use: StepUse, step: Step) -> Caching:
    """Whether tasks' results are kept here, and taken again: the workflow's words over the step's."""
    return overlay(use.cache, step.spec.cache)


def disconnect(workflow: Workflow, cluster: Disconnect) -> Disconnect:
    """What happens when a cluster is cut off: the workflow's words over the cluster's."""
    return overlay(workflow.spec.policy.disconnect, cluster)
