"""Whether a declared parameter, of a step or a workflow, can have a value at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from topology.problems import Path, Positions, Problem
from workflow.model import Parameter
from workflow.values import check_value, has_type


def check_declared(declared: Mapping[str, Parameter], path: Path, where: Positions) -> Iterator[Problem]:
    """What is wrong with the parameters declared at `path`."""
    for name, parameter in declared.items():
        yield from _parameter(name, parameter, (*path, name), where)


def _parameter(name: str, parameter: Parameter, path: Path, where: Positions) -> Iterator[Problem]:
    numeric = parameter.type in ("integer", "number")
    for bound in ("minimum", "maximum"):
        if getattr(parameter, bound) is not None and not numeric:
            message = f"a {bound} has no meaning for a parameter of type {parameter.type}"
            yield where.problem((*path, bound), message, "leave it out, or use type integer or number")
    if parameter.minimum is not None and parameter.maximum is not None and parameter.minimum > parameter.maximum:
        message = f"the minimum {parameter.minimum:g} is more than the maximum {parameter.maximum:g}"
        yield where.problem((*path, "minimum"), message, "exchange them")
    if parameter.enum == ():
        yield where.problem((*path, "enum"), "is empty, so no value is allowed", "list the values, or leave it out")
    mistyped = False
    for index, value in enumerate(parameter.enum or ()):
        if not has_type(value, parameter.type):
            mistyped = True
            message = f"{value!r} is not of the parameter's type {parameter.type}"
            yield where.problem((*path, "enum", index), message, "change the value or the type")
    if parameter.default is not None and not mistyped:
        fault = check_value(name, parameter.default, parameter)
        if fault:
            yield where.problem((*path, "default"), fault.message, fault.remedy)
