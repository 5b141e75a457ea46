"""Parameters: from what is given and what is declared to the values that hold.

A run's parameters are resolved against the workflow when it is submitted; each step's against the step, with the run's
filled in. Values keep their types: 5 is no text, "5" no number; a whole number is also a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never, cast

from topology.errors import WrongValue
from topology.nearest import did_you_mean
from workflow.errors import ParameterError, ParameterFault
from workflow.model import Parameter, StepUse, Value, plain_value
from workflow.placeholders import fill, maker
from workflow.values import WORDS, check_value


def resolve(given: Mapping[str, object], declared: Mapping[str, Parameter]) -> dict[str, Value]:
    """The value of every declared parameter: the one given (as read from JSON or YAML), else its default.

    Raises `ParameterError` with all faults.
    """
    faults = [_unknown(name, declared) for name in given if name not in declared]
    values: dict[str, Value] = {}
    for name, parameter in declared.items():
        if name in given:
            checked = _checked(name, given[name], parameter)
            if isinstance(checked, ParameterFault):
                faults.append(checked)
            else:
                values[name] = _typed(checked, parameter)
        elif parameter.default is not None:
            values[name] = _typed(parameter.default, parameter)
        else:
            faults.append(_missing(name, parameter))
    if faults:
        raise ParameterError(tuple(faults))
    return values


def resolve_step(
    use: StepUse,
    declared: Mapping[str, Parameter],
    workflow_values: Mapping[str, Value],
    items: Mapping[str, Value] | None = None,
) -> dict[str, Value]:
    """The parameters of a step in a workflow whose own are resolved already, within a loop over `items`.

    Those that another step makes are left out: they are known when it has. Raises `ParameterError`.
    """
    given: dict[str, Value] = {}
    faults: list[ParameterFault] = []
    for name, value in use.parameters.items():
        if maker(value) is not None:
            continue
        try:
            given[name] = fill(value, workflow_values, items)
        except WrongValue as wrong:
            faults.append(ParameterFault(name, "template", wrong.message, wrong.remedy))
    if faults:
        raise ParameterError(tuple(faults))
    return resolve(given, {name: one for name, one in declared.items() if maker(use.parameters.get(name)) is None})


def parse(text: str, parameter: Parameter) -> Value:
    """A value as typed on a command line, by the declared type; a list is separated by commas. Raises `WrongValue`."""
    try:
        match parameter.type:
            case "string":
                return text
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "array":
                return tuple(text.split(",")) if text else ()
            case _:
                assert_never(parameter.type)
    except (ValueError, KeyError):
        expected = WORDS[parameter.type]
        raise WrongValue(f"{text!r} is not {expected}", f"expected {expected}") from None


def _checked(name: str, value: object, parameter: Parameter) -> Value | ParameterFault:
    try:
        plain = cast(Value, plain_value(value))
    except WrongValue as wrong:
        return ParameterFault(name, "type", wrong.message, wrong.remedy)
    return check_value(name, plain, parameter) or plain


def _typed(value: Value, parameter: Parameter) -> Value:
    return float(value) if parameter.type == "number" and isinstance(value, int) else value


def _unknown(name: str, declared: Mapping[str, Parameter]) -> ParameterFault:
    remedy = did_you_mean(name, declared, "the parameters here are") or "there are no parameters here; leave it out"
    return ParameterFault(name, "unknown", f"there is no parameter {name!r}", remedy)


def _missing(name: str, parameter: Parameter) -> ParameterFault:
    expected = WORDS[parameter.type]
    return ParameterFault(name, "missing", f"has no value; expected {expected}", "give it, or declare a default")
