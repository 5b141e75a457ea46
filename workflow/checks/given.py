"""Whether every step gets the parameters that it takes, whatever values the workflow is submitted with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product

from topology.errors import WrongValue
from topology.nearest import did_you_mean
from topology.problems import Path, Positions, Problem
from workflow.checks.flow import VALUES
from workflow.flow.loops import known_items
from workflow.graph import INPUTS, steps_by_name
from workflow.model import Parameter, ParameterType, Scalar, Step, StepUse, Value, Workflow
from workflow.placeholders import Placeholder, fill, maker, makers_within, parse
from workflow.values import check_value, shown

_MOST_TRIED = 1000  # combinations of items; the rest shows when the workflow is submitted


def check_given(workflow: Workflow, steps: Mapping[str, Step], where: Positions) -> Iterator[Problem]:
    """What is wrong with the parameters that the workflow gives to its steps."""
    own = workflow.spec.parameters
    uses = steps_by_name(workflow)
    for index, use in enumerate(workflow.spec.steps):
        step = steps.get(use.use)
        if step is None:
            continue
        path: Path = ("spec", "steps", index, "parameters")
        declared = step.spec.parameters
        for name, value in use.parameters.items():
            if name not in declared:
                remedy = did_you_mean(name, declared, "its parameters are") or "it has none; leave it out"
                yield where.problem((*path, name), f"step {use.use} has no parameter {name}", remedy)
            elif maker(value) is not None:
                yield from _made(workflow, steps, value, name, declared[name], (*path, name), where)
            elif inside := [made for made in makers_within(value) if made[1:].partition(".")[0] in uses]:
                message = f"{inside[0]} stands within more text, and what another step makes is a whole parameter"
                remedy = f'write only "{inside[0]}", and let the step put its words around it'
                yield where.problem((*path, name), message, remedy)
            else:
                yield from _value(name, value, declared[name], own, _items(use, own), (*path, name), where)
        for name, parameter in declared.items():
            if name not in use.parameters and parameter.default is None:
                message = f"parameter {name} of {use.use} has no value"
                remedy = f'add parameters: {{{name}: …}}, or "{{param.NAME}}" for a parameter of the workflow'
                yield where.problem(path, message, remedy)


def parameters_named(value: Value) -> frozenset[str]:
    """The workflow's parameters that a value names."""
    return _named(value, "param")


def _named(value: Value, kind: str) -> frozenset[str]:
    texts = value if isinstance(value, tuple) else (value,)
    found: set[str] = set()
    for text in texts:
        try:
            parts = parse(text) if isinstance(text, str) else ()
        except WrongValue:
            continue
        found.update(part.name for part in parts if isinstance(part, Placeholder) and part.kind == kind)
    return frozenset(found)


def _made(
    workflow: Workflow,
    steps: Mapping[str, Step],
    value: Value,
    name: str,
    takes: Parameter,
    path: Path,
    where: Positions,
) -> Iterator[Problem]:
    """A value that another step makes: whether it can be of the type that is taken; what it is, is seen at run time."""
    made = maker(value)
    assert made is not None
    uses = steps_by_name(workflow)
    step, port = made
    if step == INPUTS:
        message = "a parameter can't be a dataset"
        yield where.problem(path, message, "read it by an input, or let a step make a value of it")
        return
    if step not in uses:
        remedy = did_you_mean(step, uses, "the steps are")
        yield where.problem(path, f"the workflow has no step {step}", remedy)
        return
    writer = steps.get(uses[step].use)
    if writer is None:
        return  # told where it is used
    output = writer.spec.outputs.get(port)
    if output is None:
        remedy = did_you_mean(port, writer.spec.outputs, "its outputs are") or "it has no outputs"
        yield where.problem(path, f"step {step} ({writer.reference}) has no output {port}", remedy)
    elif output.form not in VALUES:
        message = f"output {port} of {writer.reference} is a file or bytes, and a parameter is a value"
        yield where.problem(path, message, f"write as: json, or as: text, at output {port} of {writer.reference}")
    elif output.form == "text" and takes.type != "string":
        message = f"{step}.{port} is text, but the step's {name} of type {takes.type}"
        yield where.problem(path, message, f"write as: json at output {port} of {writer.reference}")


def _items(use: StepUse, own: Mapping[str, Parameter]) -> dict[str, Sequence[Scalar] | None]:
    """The items of each name that a use is repeated for, where they are known already."""
    found: dict[str, Sequence[Scalar] | None] = {}
    for name, items in (use.for_each or {}).items():
        try:
            found[name] = known_items(items, own)
        except WrongValue:
            found[name] = None  # a problem of the loop, and told there
    return found


def _value(
    name: str,
    value: Value,
    takes: Parameter,
    own: Mapping[str, Parameter],
    items: Mapping[str, Sequence[Scalar] | None],
    path: Path,
    where: Positions,
) -> Iterator[Problem]:
    unknown_items = sorted(_named(value, "item") - items.keys())
    for other in unknown_items:
        remedy = (
            did_you_mean(other, items, "the items here are") or f"repeat the step with for_each: {{{other}: [a, b]}}"
        )
        yield where.problem(path, f"the step is not repeated for {other}", remedy)
    unknown = sorted(parameters_named(value) - own.keys())
    for other in unknown:
        remedy = did_you_mean(other, own, "its parameters are") or "declare it in spec.parameters"
        yield where.problem(path, f"the workflow has no parameter {other}", remedy)
    if unknown or unknown_items:
        return
    source = _whole(value)
    if source is not None and not _fits(own[source].type, takes.type):
        message = f"{source} is of type {own[source].type}, but the step's {name} of type {takes.type}"
        yield where.problem(path, message, "change one of the types")
        return
    known: dict[str, Value] = {}
    for other in parameters_named(value):
        default = own[other].default
        if default is None:
            return  # it shows when the workflow is submitted
        known[other] = default
    loops = {other: items[other] for other in sorted(_named(value, "item"))}
    for combination in islice(product(*(each or () for each in loops.values())), _MOST_TRIED):
        item = dict(zip(loops, combination, strict=True))
        try:
            fault = check_value(name, fill(value, known, item), takes)
        except WrongValue as wrong:
            yield where.problem(path, wrong.message, wrong.remedy)
            return
        if fault:
            by = f"by the default of {source}: " if source is not None else ""
            by = f"with {', '.join(f'{other} = {shown(each)}' for other, each in item.items())}: " if item else by
            yield where.problem(path, by + fault.message, fault.remedy)
            return


def _whole(value: Value) -> str | None:
    """The parameter that a value is and no more."""
    names = parameters_named(value)
    return next((name for name in names if value == str(Placeholder("param", name))), None)


def _fits(given: ParameterType, taken: ParameterType) -> bool:
    return given == taken or (given == "integer" and taken == "number")
