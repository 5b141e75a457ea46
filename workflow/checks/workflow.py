"""All that is checked of a workflow, in the order in which a reader looks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from topology.errors import WrongValue
from topology.model import Topology
from topology.problems import Positions, Problem
from workflow.checks.declared import check_declared
from workflow.checks.directories import check_directories
from workflow.checks.flow import check_flow
from workflow.checks.given import check_given, parameters_named
from workflow.checks.hooks import check_hooks
from workflow.checks.pairing import check_origins, check_pairing
from workflow.checks.placing import check_placing
from workflow.checks.quota import check_quota
from workflow.checks.uses import check_cycle, check_files, check_names, check_references, check_uses
from workflow.expressions import compiled
from workflow.flow.hooks import hooks_of
from workflow.flow.nested import interfaces
from workflow.graph import INPUTS, deciders, makers, written
from workflow.model import Binding, Step, StepUse, Workflow, WorkflowOutput


def check_workflow(
    workflow: Workflow,
    steps: Mapping[str, Step],
    topology: Topology | None = None,
    positions: Positions | None = None,
    workflows: Mapping[str, Workflow] | None = None,
) -> list[Problem]:
    """What is wrong with a well-formed workflow, beside the steps that it uses (by NAME@VERSION) and in a topology.

    Steps, and the `workflows` that it uses (by name), are taken to be checked themselves; without a topology, or in a
    wrong one, what needs it is left out.
    """
    where = positions or Positions()
    others = workflows or {}
    steps = {**steps, **interfaces(others, steps)}
    return [
        *check_declared(workflow.spec.parameters, ("spec", "parameters"), where),
        *check_names(workflow, where),
        *check_uses(workflow, steps, where),
        *check_flow(workflow, steps, others, where),
        *check_hooks(workflow, steps, where),
        *check_references(workflow, steps, where),
        *check_directories(workflow, steps, where),
        *check_cycle(workflow, where),
        *check_pairing(workflow, steps, where),
        *check_origins(workflow, where),
        *check_given(workflow, steps, where),
        *check_files(workflow, where),
        *check_quota(workflow, where),
        *(check_placing(workflow, topology, where) if topology is not None else ()),
    ]


def workflow_warnings(workflow: Workflow, positions: Positions | None = None) -> list[Problem]:
    """What is allowed, but was hardly meant: things that nobody uses."""
    where = positions or Positions()
    spec = workflow.spec
    reads: list[Binding | WorkflowOutput] = [
        *spec.outputs.values(),
        *(binding for use in spec.steps for binding in use.inputs.values()),
    ]
    read = {written(source) for each in reads for source in each.sources}
    read |= {made for use in spec.steps for made in (*makers(use).values(), *deciders(use))}
    named = {name for use in spec.steps for value in use.parameters.values() for name in parameters_named(value)}
    named |= {name for use in spec.steps for name in _steering(use)}
    hooks = hooks_of(workflow).values()
    named |= {name for hook in hooks for value in hook.parameters.values() for name in parameters_named(value)}
    warnings = [
        where.problem(("spec", "parameters", name), f"no step uses parameter {name}", "leave it out", "warning")
        for name in spec.parameters
        if name not in named
    ]
    warnings += [
        where.problem(("spec", "inputs", name), f"no step reads input {name}", "leave it out", "warning")
        for name in spec.inputs
        if (INPUTS, name) not in read
    ]
    warnings += [
        where.problem(("spec", "steps", index), f"nothing reads what {use.name} makes", "add it to outputs", "warning")
        for index, use in enumerate(spec.steps)
        if use.name not in {step for step, _ in read}
    ]
    return warnings


def _steering(use: StepUse) -> Iterator[str]:
    """The parameters on which it depends whether, and how often, a step is executed."""
    yield from (items.parameter for items in (use.for_each or {}).values())
    with suppress(WrongValue):
        yield from (name.name for name in compiled(use.when or "True").names if name.group == "param")
