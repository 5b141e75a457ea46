"""What names, references and values may be in what people write, and the words for them in errors."""

from __future__ import annotations

import re
from math import isfinite
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from topology.errors import WrongValue
from topology.schema import Takes

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]
ParameterType = Literal["string", "integer", "number", "boolean", "array"]

_VERSION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_REFERENCE = re.compile(r"([a-z0-9][a-z0-9-]{0,62})\.([A-Za-z_][A-Za-z0-9_]{0,62})")
_USE = re.compile(
    r"([a-z0-9][a-z0-9-]{0,62})@([A-Za-z0-9][A-Za-z0-9._-]{0,62})|workflow/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)
_STEP_USE = re.compile(r"([a-z0-9][a-z0-9-]{0,62})@([A-Za-z0-9][A-Za-z0-9._-]{0,62})")
_WHOLE_PARAMETER = re.compile(r"param\.([A-Za-z_][A-Za-z0-9_]{0,62})")
_FUNCTION = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_FORMAT = re.compile(r"(?=.{1,32}$)[A-Za-z0-9]+(\.[A-Za-z0-9]+)*")
_MISHAP = re.compile(r"exit(:[0-9]{1,3})?|exception|timeout|memory|disk|output|start|lost|data|full")
_SECRET = re.compile(r"(?!\.\.?$)[A-Za-z0-9._-]{1,253}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LARGEST_INTEGER = 2**63


def plain_value(value: object) -> object:
    """A parameter's value, lists as tuples. Raises `WrongValue` for what can't be one."""
    if isinstance(value, list | tuple):
        return tuple(_scalar(item) for item in value)
    return _scalar(value)


def _scalar(value: object) -> object:
    if not isinstance(value, Scalar):
        raise WrongValue(
            "a parameter's value is text, a number, true, false or a list of these", "put anything larger into a file"
        )
    if isinstance(value, float) and not isfinite(value):
        raise WrongValue(f"{value} is not a number that can be stored", "write a finite number")
    if isinstance(value, int) and not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
        raise WrongValue("the number does not fit into 64 bits", "write it as text, in quotes")
    return value


def _matching(pattern: re.Pattern[str], takes: Takes) -> AfterValidator:
    def match(value: str) -> str:
        if pattern.fullmatch(value):
            return value
        raise WrongValue(f"{value[:80]!r} is not {takes.words}", f"write it like {takes.example}")

    return AfterValidator(match)


def _file_name(value: str) -> str:
    if value in {"", ".", ".."} or len(value.encode()) > 255 or any(c in value for c in "/\\\0"):
        raise WrongValue(f"{value[:60]!r} is not a file name", "write a name without folders, for example report.csv")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise WrongValue(f"{value[:60]!r} is not an absolute path", "write it from the root on, for example /opt/code")
    return value


_A_VERSION = Takes("a version", '"1"')
_A_PORT = Takes("a port of a step, STEP.PORT, or an input, inputs.NAME", "inputs.NAME")
_A_USE = Takes("a step and its version, or a workflow", "clean-flights@1")
_A_STEP_USE = Takes("a step and its version", "notify@1")
_A_PARAMETER = Takes("a parameter of the workflow", "param.NAME")
_A_FUNCTION = Takes("a Python function", "module:function")
_A_FORMAT = Takes("a format", "csv")
_A_MISHAP = Takes(
    "a kind of failure (exit, exit:CODE, exception, timeout, memory, disk, output, start, lost, data or full)",
    "exit:75",
)
_A_SECRET = Takes("the key of a secret", "password")
_A_VARIABLE = Takes("a variable's name", "MY_NAME")

ParameterValue = Annotated[Value, BeforeValidator(plain_value), Takes("a value", "1")]
Version = Annotated[str, _matching(_VERSION, _A_VERSION), _A_VERSION]
Reference = Annotated[str, _matching(_REFERENCE, _A_PORT), _A_PORT]
Use = Annotated[str, _matching(_USE, _A_USE), _A_USE]
WholeParameter = Annotated[str, _matching(_WHOLE_PARAMETER, _A_PARAMETER), _A_PARAMETER]
HookUse = Annotated[str, _matching(_STEP_USE, _A_STEP_USE), _A_STEP_USE]
Function = Annotated[str, _matching(_FUNCTION, _A_FUNCTION), _A_FUNCTION]
Format = Annotated[str, _matching(_FORMAT, _A_FORMAT), _A_FORMAT]
Mishap = Annotated[str, _matching(_MISHAP, _A_MISHAP), _A_MISHAP]
SecretName = Annotated[str, _matching(_SECRET, _A_SECRET), _A_SECRET]
Variable = Annotated[str, _matching(_VARIABLE, _A_VARIABLE), _A_VARIABLE]
AbsolutePath = Annotated[str, AfterValidator(_absolute), Takes("an absolute path", "/opt/code")]
FileName = Annotated[str, AfterValidator(_file_name), Takes("a file name", "report.csv")]
