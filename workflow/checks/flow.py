"""Whether what a workflow says about its flow can be: its conditions, its loops, and the workflows that it uses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from topology.errors import WrongValue
from topology.nearest import did_you_mean
from topology.problems import Path, Positions, Problem
from workflow.expressions import Kind, compiled
from workflow.flow.loops import known_items
from workflow.flow.nested import nesting_cycle
from workflow.graph import deciders, makers, steps_by_name
from workflow.model import Scalar, Step, StepUse, Workflow

VALUES = ("json", "text")  # what an output is written as that is a value
_OF_STEPS = ("place", "timeout", "retry", "on_failure", "resources", "pool", "cache", "preemptible")
_KINDS: Mapping[type, Kind] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def check_flow(
    workflow: Workflow, steps: Mapping[str, Step], workflows: Mapping[str, Workflow], where: Positions
) -> Iterator[Problem]:
    """What is wrong with conditions, loops and workflows used as steps; `steps`, by NAME@VERSION, and `workflows`, by
    name, are those that there are."""
    for index, use in enumerate(workflow.spec.steps):
        path: Path = ("spec", "steps", index)
        yield from _loop(workflow, use, path, where)
        yield from _condition(workflow, steps, use, path, where)
        yield from _one_value(workflow, use, path, where)
        if use.workflow:
            yield from _nested(use, workflows, path, where)
    cycle = nesting_cycle(workflow, workflows)
    if cycle:
        index = next(index for index, use in enumerate(workflow.spec.steps) if use.workflow == cycle[1])
        message = f"the workflows use each other without end: {' → '.join(cycle)}"
        yield where.problem(("spec", "steps", index, "use"), message, "take one of these uses out")


def _condition(
    workflow: Workflow, steps: Mapping[str, Step], use: StepUse, path: Path, where: Positions
) -> Iterator[Problem]:
    if use.when is None:
        return
    parameters: dict[str, Kind] = {name: each.type for name, each in workflow.spec.parameters.items()}
    items = {name: _kind_of_items(workflow, use, name) for name in use.for_each or ()}
    scope: dict[str, dict[str, Kind]] = {"param": parameters}
    if items:
        scope["item"] = items
    for other in workflow.spec.steps:
        writer = steps.get(other.use)
        if other.name != use.name and writer is not None:
            outputs = writer.spec.outputs.items()
            scope[other.name] = {port: "string" if output.form == "text" else "any" for port, output in outputs}
    try:
        condition = compiled(use.when)
        condition.check(scope)
    except WrongValue as wrong:
        yield where.problem((*path, "when"), wrong.message, wrong.remedy)
        return
    if use.workflow and condition.makers:
        message = f"what workflow {use.workflow} does is decided before a step has made anything"
        yield where.problem((*path, "when"), message, "write the condition at the steps of the workflow")
    for step, port in condition.makers:
        writer = steps[steps_by_name(workflow)[step].use]
        if writer.spec.outputs[port].form not in VALUES:
            message = f"output {port} of {writer.reference} is a file or bytes, and a condition compares values"
            remedy = f"write as: json, or as: text, at output {port} of {writer.reference}"
            yield where.problem((*path, "when"), message, remedy)


def _kind_of_items(workflow: Workflow, use: StepUse, name: str) -> Kind:
    items = (use.for_each or {})[name]
    if items.source is not None:
        return "any"  # a parameter can be given another list
    try:
        kinds = {_KINDS[type(value)] for value in known_items(items, workflow.spec.parameters) or ()}
    except WrongValue:
        kinds = set()
    return kinds.pop() if len(kinds) == 1 else "any"


def _loop(workflow: Workflow, use: StepUse, path: Path, where: Positions) -> Iterator[Problem]:
    if use.for_each is None:
        return
    own = workflow.spec.parameters
    for name, items in use.for_each.items():
        at: Path = (*path, "for_each", name)
        if items.source is not None and items.parameter not in own:
            remedy = did_you_mean(items.parameter, own, "its parameters are") or "declare it in spec.parameters"
            yield where.problem(at, f"the workflow has no parameter {items.parameter}", remedy)
            continue
        if items.source is not None and own[items.parameter].type != "array":
            message = f"{items.source} is of type {own[items.parameter].type}, but expected a list of items"
            yield where.problem(at, message, "give the parameter type: array")
            continue
        try:
            known = known_items(items, own)
        except WrongValue as wrong:
            yield where.problem(at, wrong.message, wrong.remedy)
            continue
        if items.source is None:
            yield from _list(known or (), items.values, at, where)
    repeated = re.compile(re.escape(use.name) + r"-\d+")
    for index, other in enumerate(workflow.spec.steps):
        if repeated.fullmatch(other.name):
            message = f"{other.name} is also what one of the uses of {use.name} is called, which is repeated"
            yield where.problem(("spec", "steps", index, "name"), message, "choose another name")


def _list(known: tuple[Scalar, ...], written: object, at: Path, where: Positions) -> Iterator[Problem]:
    if isinstance(written, tuple) and any(isinstance(value, tuple) for value in written):
        yield where.problem(at, "an item is a list itself", "write text, a number, true or false for each item")
    elif not known:
        yield where.problem(at, "there are no items", "list at least one, or leave the step out")


def _one_value(workflow: Workflow, use: StepUse, path: Path, where: Positions) -> Iterator[Problem]:
    """What another step makes is one value, and what a workflow does is decided before there is any."""
    uses = steps_by_name(workflow)
    for step, port in deciders(use):
        if step in uses and uses[step].for_each is not None:
            message = f"{step} is repeated, so {step}.{port} is many values, and a condition compares one"
            yield where.problem((*path, "when"), message, "let a step read them by an input that gathers, and decide")
    for name, (step, port) in makers(use).items():
        at: Path = (*path, "parameters", name)
        if use.workflow:
            message = f"{step}.{port} is known when {step} has run, and what a workflow does is decided before"
            yield where.problem(at, message, "give the value to a step of the workflow, by an input")
        elif step in uses and uses[step].for_each is not None:
            message = f"{step} is repeated, so {step}.{port} is many values, and a parameter is one"
            yield where.problem(at, message, "read them by an input that gathers")


def _nested(use: StepUse, workflows: Mapping[str, Workflow], path: Path, where: Positions) -> Iterator[Problem]:
    if use.workflow not in workflows:
        remedy = (
            did_you_mean(use.workflow, sorted(workflows), "the workflows are") or "apply it first, or along with it"
        )
        yield where.problem((*path, "use"), f"there is no workflow {use.workflow}", remedy)
    for field in _OF_STEPS:
        if field in use.model_fields_set:
            message = f"{field} is of a step, and workflow {use.workflow} is several"
            yield where.problem((*path, field), message, f"write it at the steps of {use.workflow}")
    for port, binding in use.inputs.items():
        if binding.model_fields_set - {"source", "also"}:
            message = f"how units are cut and paired is said within workflow {use.workflow}"
            yield where.problem((*path, "in", port), message, f"write {port}: {binding.source} alone")
