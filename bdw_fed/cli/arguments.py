"""A verb's arguments, declared once as annotations of its function, and read from the command line in two ways.

Importing typer costs half of what a quick verb may take. So the annotations are our own small classes: `parse` reads a
clean command line from them without any library; whatever it does not take (--help, a mistake, completion) goes to the
typer application that bdw_fed.cli.typed makes of the same annotations, and that one explains.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Argument:
    """A positional argument. `completes` says what its value names, for completion: a kind such as "run"."""

    help: str
    metavar: str = ""
    completes: str = ""


@dataclass(frozen=True)
class Option:
    """An option with its flags, for example ("--output", "-o"). A bool option is a flag without a value."""

    flags: tuple[str, ...]
    help: str
    metavar: str = ""
    completes: str = ""


class NotPlainError(Exception):
    """The command line needs more than `parse` knows."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a verb's function."""

    name: str
    mark: Argument | Option
    annotation: Any  # as annotated, without the mark
    type: type  # of one value
    many: bool
    default: Any  # inspect.Parameter.empty: required

    @property
    def required(self) -> bool:
        """Whether the command line must give it."""
        return self.default is inspect.Parameter.empty


def parameters_of(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a verb's function, in order."""
    hints = get_type_hints(function, include_extras=True)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if get_origin(hint) is not Annotated:
            raise TypeError(f"{function.__module__}: parameter {name} is not Annotated with Argument or Option")
        inner, mark = get_args(hint)[:2]
        one, many = _one_value(inner)
        found.append(Parameter(name, mark, inner, one, many, parameter.default))
    return found


def _one_value(annotation: Any) -> tuple[type, bool]:
    """The type of one value, and whether there may be several: `list[str]` → (str, True)."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is list:
        return get_args(annotation)[0], True
    return annotation, False


def parse(function: Callable[..., Any], words: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments for `function`. NotPlainError where anything is unusual or wrong."""
    parameters = parameters_of(function)
    by_flag = {
        flag: parameter
        for parameter in parameters
        if isinstance(parameter.mark, Option)
        for flag in parameter.mark.flags
    }
    values: dict[str, Any] = {}
    positional: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            positional += rest
            break
        if not word.startswith("-") or word == "-":
            positional.append(word)
            continue
        flag, has_value, value = word.partition("=") if word.startswith("--") else (word, "", "")
        parameter = by_flag.get(flag)
        if parameter is None:
            raise NotPlainError(word)
        if parameter.type is bool:
            if has_value:
                raise NotPlainError(word)
            values[parameter.name] = True
            continue
        if not has_value:
            if not rest or (rest[0].startswith("-") and rest[0] != "-"):
                raise NotPlainError(word)
            value = rest.pop(0)
        _put(values, parameter, value)
    _place(values, parameters, positional)
    for parameter in parameters:
        if parameter.name not in values:
            if parameter.required:
                raise NotPlainError(parameter.name)
            values[parameter.name] = [] if parameter.many and parameter.default is None else parameter.default
    return values


def _place(values: dict[str, Any], parameters: Sequence[Parameter], words: list[str]) -> None:
    """Give the positional words to the positional parameters in order."""
    for parameter in parameters:
        if not isinstance(parameter.mark, Argument):
            continue
        if parameter.many:
            for word in words:
                _put(values, parameter, word)
            words = []
        elif words:
            _put(values, parameter, words[0])
            words = words[1:]
    if words:
        raise NotPlainError(words[0])


def _put(values: dict[str, Any], parameter: Parameter, word: str) -> None:
    try:
        value = parameter.type(word) if issubclass(parameter.type, Enum | Path | int | float) else word
    except ValueError as error:
        raise NotPlainError(word) from error
    if parameter.many:
        values.setdefault(parameter.name, []).append(value)
    else:
        values[parameter.name] = value
