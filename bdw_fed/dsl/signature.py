"""From a function's signature to the ports and parameters of its step.

    def score(text: str, stop_words: Path, *, least: int = 3) -> dict[str, int]
              ───────── input ports ─────    ── parameter ──     ── output ──

Arguments before the star are input ports, those after it parameters. A port's annotation says how the function takes
what a unit holds (`as` in YAML): `Path`, `bytes`, `str`, or anything else for JSON; `list[...]` of these is for ports
that get many units. What is returned is one output; a `TypedDict` has one output for each of its keys; `out`, an
argument of that name, is the dictionary of paths that outputs are written to.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from bdw_fed.dsl.errors import BuildError
from workflow.model import Form

OUT = "out"  # the argument with the paths to write to
RESULT = "result"  # the output of a function that returns a value
_FORMS: Mapping[Any, Form] = {Path: "path", bytes: "bytes", str: "text"}
_TYPES: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
Ports = dict[str, dict[str, Any]]


def inputs_of(function: Callable[..., Any]) -> Ports:
    """The input ports, as YAML has them."""
    hints = _hints(function)
    ports: Ports = {}
    for argument in _arguments(function, inspect.Parameter.POSITIONAL_OR_KEYWORD):
        if argument.name == OUT:
            continue
        form = _form(hints.get(argument.name, Path))
        ports[argument.name] = {} if form == "path" else {"as": form}
        if argument.default is None:
            ports[argument.name]["optional"] = True
        elif argument.default is not inspect.Parameter.empty:
            raise BuildError(
                f"{function.__name__}: input {argument.name} has a default, but it is data; "
                f"write * before it to make it a parameter, or {argument.name}=None if it may be left unconnected"
            )
    return ports


def parameters_of(function: Callable[..., Any]) -> Ports:
    """The parameters, as YAML has them."""
    hints = _hints(function)
    found = {}
    for argument in _arguments(function, inspect.Parameter.KEYWORD_ONLY):
        if argument.name == OUT:
            continue
        default = argument.default
        hint = hints.get(argument.name, type(default) if default is not inspect.Parameter.empty else None)
        declared = _parameter(function, argument.name, hint)
        if default is not inspect.Parameter.empty:
            declared["default"] = list(default) if isinstance(default, tuple) else default
        found[argument.name] = declared
    return found


def outputs_of(function: Callable[..., Any], output: str | None, files: Mapping[str, str | None]) -> Ports:
    """The output ports: `files` (name → format) are written to paths, the rest is returned."""
    ports: Ports = {name: {"format": form} if form else {} for name, form in files.items()}
    returned = _hints(function).get("return")
    if returned in (None, type(None)):
        if output:
            raise BuildError(f"{function.__name__}: says an output {output}, but is annotated to return nothing")
    elif typing.is_typeddict(returned):
        ports.update({name: {"as": _form(hint)} for name, hint in typing.get_type_hints(returned).items()})
    elif _form(returned) == "path":
        raise BuildError(
            f"{function.__name__}: a path can't be returned; write to out[{output or RESULT!r}] and name the output: "
            f'@step(files={{"{output or RESULT}": None}})'
        )
    else:
        ports[output or RESULT] = {"as": _form(returned)}
    if files and OUT not in inspect.signature(function).parameters:
        raise BuildError(f"{function.__name__}: writes files, so it needs an argument out: dict[str, Path]")
    if not ports:
        raise BuildError(
            f"{function.__name__}: has no output; annotate what it returns, or name files: "
            '@step(files={"rows": "csv"})'
        )
    return ports


def _arguments(function: Callable[..., Any], kind: Any) -> list[inspect.Parameter]:
    found = []
    for argument in inspect.signature(function).parameters.values():
        if argument.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise BuildError(f"{function.__name__}: *{argument.name} can't be a port or a parameter; name each one")
        if argument.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise BuildError(f"{function.__name__}: {argument.name} is given by name, so it can't stand before a /")
        if argument.kind is kind:
            found.append(argument)
    return found


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise BuildError(f"{function.__name__}: an annotation can't be read: {error}") from error


def _form(hint: Any) -> Form:
    """How a function takes or returns what is annotated so."""
    members = [each for each in get_args(hint) if each is not type(None)]
    if get_origin(hint) in (typing.Union, types.UnionType) and len(members) == 1:
        return _form(members[0])
    if get_origin(hint) in (list, tuple) and members and members[0] in _FORMS:
        return _FORMS[members[0]]
    return _FORMS.get(hint, "json")


def _parameter(function: Callable[..., Any], name: str, hint: Any) -> dict[str, Any]:
    if get_origin(hint) is Literal:
        choices = list(get_args(hint))
        return {**_parameter(function, name, type(choices[0])), "enum": choices}
    if get_origin(hint) in (list, tuple) or hint in (list, tuple):
        return {"type": "array"}
    if hint not in _TYPES:
        raise BuildError(
            f"{function.__name__}: parameter {name} is {'not annotated' if hint is None else f'annotated {hint}'}; "
            "expected str, int, float, bool, a list or a Literal of these"
        )
    return {"type": _TYPES[hint]}
