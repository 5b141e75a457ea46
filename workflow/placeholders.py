"""Text with placeholders: `{in.PORT}`, `{out.PORT}`, `{param.NAME}`, `{secret.NAME}`, `{item.NAME}`, `{run.NAME}` and
`{bundle}`.

`{{` and `}}` are braces. The same language stands in a step's command, where all but items have a meaning and the node
that starts a task fills them in, and in the parameters that a workflow gives to a step, where `{param.NAME}` and in a
loop `{item.NAME}` have one and are filled in when the run is planned.
A parameter that is `{STEP.PORT}` and no more is what that step makes: see `maker`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from topology.errors import WrongValue
from workflow.model import Scalar, Value
from workflow.values import shown

T = TypeVar("T")

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_MADE = re.compile(r"\{([a-z0-9][a-z0-9:-]{0,2000})\.([A-Za-z_][A-Za-z0-9_]{0,62})\}")
_KINDS = ("in", "out", "param", "item", "secret", "run")
_NAMED = re.compile(r"(in|out|param|item|secret|run)\.([A-Za-z_][A-Za-z0-9_]*)|(bundle)")


@dataclass(frozen=True)
class Placeholder:
    """`kind` is in, out, param, item, secret, run or bundle; `name` the port, parameter, item or secret, or empty."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return "{" + (f"{self.kind}.{self.name}" if self.name else self.kind) + "}"


Template = tuple[str | Placeholder, ...]


def parse(text: str) -> Template:
    """Literal text and placeholders in their order. Raises `WrongValue` for a brace that is neither."""
    parts: list[str | Placeholder] = []
    for token in _TOKEN.finditer(text):
        found = token[0]
        if found in ("{{", "}}"):
            parts.append(found[0])
        elif found in ("{", "}"):
            raise WrongValue(
                f"a single {found} in {text[:60]!r}", f"write {found}{found} for a brace that is meant as it is"
            )
        elif found.startswith("{"):
            parts.append(_placeholder(found, token[1]))
        else:
            parts.append(found)
    return tuple(parts)


def _placeholder(found: str, inside: str) -> Placeholder:
    named = _NAMED.fullmatch(inside)
    if named is None:
        raise WrongValue(
            f"{found[:60]} is not a placeholder: expected {{in.PORT}}, {{out.PORT}}, {{param.NAME}}, {{secret.NAME}} "
            "or {bundle}",
            f"write {{{found[:60]}}} if the braces are meant as they are",
        )
    return Placeholder(named[3] or named[1], named[2] or "")


def maker(value: Value | None) -> tuple[str, str] | None:
    """The step and port that make a parameter's value; None if it is not `{STEP.PORT}`."""
    made = _MADE.fullmatch(value) if isinstance(value, str) else None
    return (made[1], made[2]) if made is not None and made[1] not in _KINDS else None


def makers_within(value: Value) -> tuple[str, ...]:
    """What looks like a value of another step within longer texts, where it has no meaning: `{STEP.PORT}`."""
    texts = value if isinstance(value, tuple) else (value,)
    found = [made for text in texts if isinstance(text, str) for made in _MADE.finditer(text)]
    return tuple(made[0] for made in found if made[1] not in _KINDS)


def placeholders(text: str) -> tuple[Placeholder, ...]:
    """The placeholders in a text. Raises `WrongValue` as `parse` does."""
    return tuple(part for part in parse(text) if isinstance(part, Placeholder))


def _known(things: Mapping[str, T], name: str, part: object) -> T:
    if name not in things:
        raise WrongValue(f"{part} names nothing that this step has", "declare it, or correct the name")
    return things[name]


def escaped(value: Value) -> Value:
    """A value that `fill` gives back as it is."""
    if isinstance(value, tuple):
        return tuple(_escaped(each) for each in value)
    return _escaped(value)


def _escaped(value: Scalar) -> Scalar:
    return value.replace("{", "{{").replace("}", "}}") if isinstance(value, str) else value


def fill(value: Value, parameters: Mapping[str, Value], items: Mapping[str, Value] | None = None) -> Value:
    """A value that a workflow gives to a step, with the workflow's own parameters and the loop's items filled in.

    A text that is `{param.NAME}` and no more becomes the parameter's value, with its type; within a longer text it
    becomes text. Raises `WrongValue` for other placeholders and unknown names.
    """
    known = {"param": parameters, "item": items or {}}
    if isinstance(value, tuple):
        return tuple(_fill_scalar(each, known) for each in value)
    return _fill(value, known)


def _fill(value: Scalar, known: Mapping[str, Mapping[str, Value]]) -> Value:
    if isinstance(value, str):
        template = parse(value)
        match template:
            case (Placeholder("param" | "item" as kind, name),):
                return _known(known[kind], name, template[0])
        return "".join(_filled(part, known) for part in template)
    return value


def _fill_scalar(value: Scalar, known: Mapping[str, Mapping[str, Value]]) -> Scalar:
    filled = _fill(value, known)
    if isinstance(filled, tuple):
        raise WrongValue(f"{value} is a list, and would stand in a list", "give the whole list by one parameter")
    return filled


def _filled(part: str | Placeholder, known: Mapping[str, Mapping[str, Value]]) -> str:
    if isinstance(part, str):
        return part
    if part.kind not in known:
        raise WrongValue(f"{part} has no meaning in a workflow", "only {param.NAME} and {item.NAME} can stand here")
    return shown(_known(known[part.kind], part.name, part))
