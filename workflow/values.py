"""Whether a value is what a parameter takes: asked of what people give, and on nodes of what another step has made.

Nodes ask it in a process that should stay small, so nothing here needs the models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, assert_never

from workflow.errors import ParameterFault

if TYPE_CHECKING:
    from workflow.model import ParameterType, Value

WORDS: dict[ParameterType, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
}


class Declared(Protocol):
    """What is declared of a parameter."""

    @property
    def type(self) -> ParameterType: ...

    @property
    def enum(self) -> Sequence[Value] | None: ...

    @property
    def minimum(self) -> float | None: ...

    @property
    def maximum(self) -> float | None: ...


def shown(value: Value) -> str:
    """A parameter's value within a text: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_value(name: str, value: Value, parameter: Declared) -> ParameterFault | None:
    """What is wrong with a value of a declared parameter, if anything."""
    if not has_type(value, parameter.type):
        expected = WORDS[parameter.type]
        return ParameterFault(name, "type", f"expected {expected}, found {_found(value)}", f"give {expected}")
    if parameter.enum is not None and value not in parameter.enum:
        allowed = ", ".join(shown(one) for one in parameter.enum)
        return ParameterFault(name, "enum", f"{shown(value)!r} is not one of {allowed}", f"give one of {allowed}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if parameter.minimum is not None and value < parameter.minimum:
            return _out_of_range(name, value, f"at least {parameter.minimum:g}")
        if parameter.maximum is not None and value > parameter.maximum:
            return _out_of_range(name, value, f"at most {parameter.maximum:g}")
    return None


def has_type(value: Value, kind: ParameterType) -> bool:
    """Whether a value is of a parameter's type."""
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "array":
            return isinstance(value, tuple)
        case _:
            assert_never(kind)


def _out_of_range(name: str, value: Value, expected: str) -> ParameterFault:
    return ParameterFault(name, "range", f"{shown(value)} is out of range: expected {expected}", "change the number")


def _found(value: Value) -> str:
    if isinstance(value, bool):
        return shown(value)
    if isinstance(value, int | float):
        return f"the number {value}"
    return f"the text {value[:60]!r}" if isinstance(value, str) else "a list"
