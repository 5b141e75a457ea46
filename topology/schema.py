"""What all our models are made of: the base class, names, and quantities as field types.

Models are frozen, refuse fields that they don't know and never guess a type: the text `5` is not the number 5. Fields
that were not written stay out of the canonical form, so that a definition is stored as its author meant it, and
what was written can be laid over a default (`overlay`).
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, Strict

from topology.errors import WrongValue
from topology.quantity import (
    format_bandwidth,
    format_cpus,
    format_duration,
    format_size,
    parse_bandwidth,
    parse_cpus,
    parse_duration,
    parse_size,
)

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?")


class Takes(NamedTuple):
    """What a field takes, in words, and an example: said to who wrote something else there."""

    words: str
    example: str


class Model(BaseModel):
    """The base of every model: frozen, strict about types, without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


T = TypeVar("T")
M = TypeVar("M", bound=Model)


def overlay(over: M, under: M) -> M:
    """`under`, with the fields that `over` sets itself in their place."""
    return under.model_copy(update={name: getattr(over, name) for name in over.model_fields_set})


def _name(value: str) -> str:
    if _NAME.fullmatch(value):
        return value
    raise WrongValue(
        f"{value!r} is not a name: expected up to 63 lower-case letters, digits and inner '-'",
        _instead(re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63]),
    )


def _identifier(value: str) -> str:
    if _IDENTIFIER.fullmatch(value):
        return value
    plain = re.sub(r"[^A-Za-z0-9]+", "_", value).strip("_")[:60]
    raise WrongValue(
        f"{value!r} is not an identifier: expected letters, digits and '_', not starting with a digit",
        _instead("_" + plain if plain[:1].isdigit() else plain),
    )


def _label(value: str) -> str:
    if _LABEL.fullmatch(value):
        return value
    raise WrongValue(
        f"{value!r} is not a label's key: expected letters, digits, '.', '_', '/' and '-'",
        "for example site or disk/kind",
    )


def _instead(suggestion: str) -> str:
    return f"write {suggestion} instead" if suggestion else "choose another one"


# A thing's name; also safe as a part of a path, a host name and a key.
Name = Annotated[str, AfterValidator(_name), Takes("a name", "some-name")]
# A port's, parameter's, input's or output's name; a valid keyword argument of a Python function.
Identifier = Annotated[str, AfterValidator(_identifier), Takes("an identifier", "some_name")]
Labels = dict[Annotated[str, AfterValidator(_label)], str]
# A list in the file, immutable in the program.
Many = Annotated[tuple[T, ...], Strict(False)]

Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size), Takes("a size", "512Mi")]
Bandwidth = Annotated[
    float, BeforeValidator(parse_bandwidth), PlainSerializer(format_bandwidth), Takes("a bandwidth", "100Mbit")
]
Duration = Annotated[
    float, BeforeValidator(parse_duration), PlainSerializer(format_duration), Takes("a duration", "30s")
]
Cpus = Annotated[float, BeforeValidator(parse_cpus), PlainSerializer(format_cpus), Takes("a number of processors", "1")]


class Metadata(Model):
    """Who an object is. `namespace` empty: the one that the command or the connection names."""

    name: Name
    namespace: Name | None = None
    labels: Labels = Field(default_factory=dict)
    description: str = ""
