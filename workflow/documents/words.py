"""A model's refusal of a document, in the words of the person who wrote it.

Pydantic tells what kind of fault lies where. Here each becomes a problem with the field's line, what was expected there
(read off the model itself, so that the words can't fall behind it), and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from topology.errors import WrongValue
from topology.nearest import did_you_mean, nearest
from topology.problems import Path, Positions, Problem
from topology.schema import Takes

_KEY = "[key]"


def problems(
    error: ValidationError, root: type[BaseModel], positions: Positions, spelled: Mapping[Path, str]
) -> list[Problem]:
    """One problem for each fault in a document of the model `root`."""
    # A list that seems short because its items are wrong is no fault of its own.
    faults = [fault for fault in error.errors(include_url=False) if fault["type"] != "too_short" or not fault["input"]]
    meant = {_meant(fault, root) for fault in faults if fault["type"] == "extra_forbidden"}
    return [
        _problem(fault, root, positions, spelled)
        for fault in faults
        # A misspelt field is missing, too; that is one fault.
        if not (fault["type"] == "missing" and fault["loc"] in meant)
    ]


def _meant(fault: ErrorDetails, root: type[BaseModel]) -> tuple[int | str, ...]:
    """The field that the author of an unknown one probably had in mind."""
    around, name = fault["loc"][:-1], str(fault["loc"][-1])
    return (*around, nearest(name, field_names(annotation_at(root, around))) or "")


def _problem(
    details: ErrorDetails, root: type[BaseModel], positions: Positions, spelled: Mapping[Path, str]
) -> Problem:
    path: Path = tuple(part for part in details["loc"] if part != _KEY)
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    wrong = context.get("error")
    if path[-1:] == ("from",) and path not in positions.lines:
        path = path[:-1]  # the short form, which has the reference alone
    if isinstance(wrong, WrongValue):
        return positions.problem((*path, *wrong.at), wrong.message, wrong.remedy)
    annotation = annotation_at(root, path)
    match kind:
        case "extra_forbidden":
            model = annotation_at(root, path[:-1])
            remedy = did_you_mean(str(path[-1]), field_names(model), "the fields here are")
            return positions.problem(path, f"there is no field {str(path[-1])!r}", remedy)
        case "missing":
            expected, example = _expected(annotation)
            return positions.problem(path, f"is missing; expected {expected}", f"add {path[-1]}: {example}")
        case "literal_error":
            words = [str(word).lower() if word is True else str(word) for word in get_args(_inner(annotation))]
            near = nearest(str(given), words)
            remedy = f"did you mean {near}?" if near else "write one of these"
            return positions.problem(path, f"{_found(given)} is not one of {', '.join(words)}", remedy)
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            bound = f"{kind.replace('_equal', ' or equal').replace('_', ' ')} {_plain(next(iter(context.values())))}"
            bound = bound.replace("less than or equal", "at most").replace("greater than or equal", "at least")
            return positions.problem(path, f"{given} is out of range: expected {bound}", "change the number")
        case "string_too_short" | "too_short":
            _, example = _expected(annotation)
            return positions.problem(path, "is empty", f"write {path[-1]}: {example}")
    expected, example = _expected(annotation)
    remedy = f"write {path[-1]}: {example}" if path and isinstance(path[-1], str) else f"write {example}"
    if given is None:
        remedy = "fill it in, or leave the field out"
    elif kind == "string_type" and path in spelled:
        remedy = f'put it in quotes: "{spelled[path]}"'
    elif kind == "string_type" and isinstance(given, dict) and len(given) == 1 and None in given.values():
        remedy = f'put text with braces in quotes: "{{{next(iter(given))}}}"'
    return positions.problem(path, f"expected {expected}, found {_found(given)}", remedy)


def annotation_at(root: object, path: Path) -> object:
    """What the model says about a field, list item or mapping value; None where it knows nothing."""
    annotation: object = root
    for part in path:
        annotation = _inner(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found = _field(annotation, str(part))
            if found is None:
                return None
            metadata = tuple(found.metadata)
            annotation = Annotated[found.annotation, *metadata] if metadata else found.annotation
        elif get_origin(annotation) is tuple and get_args(annotation):
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        else:
            return None
    return annotation


def field_names(model: object) -> list[str]:
    """The fields that a model takes, as they are written."""
    model = _inner(model)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [info.alias or name for name, info in model.model_fields.items()]
    return []


def _field(model: type[BaseModel], written: str) -> FieldInfo | None:
    for name, info in model.model_fields.items():
        if (info.alias or name) == written:
            return info
    return None


def _inner(annotation: object) -> object:
    """Without `Annotated` and `| None`."""
    while get_origin(annotation) is Annotated or _without_none(annotation) is not annotation:
        annotation = get_args(annotation)[0] if get_origin(annotation) is Annotated else _without_none(annotation)
    return annotation


def _without_none(annotation: object) -> object:
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    choices = [choice for choice in get_args(annotation) if choice is not type(None)]
    return choices[0] if len(choices) == 1 else annotation


_PLAIN: dict[object, tuple[str, str]] = {
    str: ("text", "some text"),
    int: ("a whole number", "1"),
    float: ("a number", "1.5"),
    bool: ("true or false", "true"),
}


def _expected(annotation: object) -> tuple[str, str]:
    """What a field takes: in words, and an example."""
    if get_origin(annotation) is Annotated:
        for takes in get_args(annotation)[1:]:
            if isinstance(takes, Takes):
                return takes
        return _expected(get_args(annotation)[0])
    inner = _inner(annotation)
    if inner is not annotation:
        return _expected(_without_none(annotation))
    if get_origin(annotation) is Literal:
        words = [str(word) for word in get_args(_inner(annotation))]
        return (f"one of {', '.join(words)}" if len(words) > 1 else words[0]), words[0]
    if get_origin(annotation) is tuple:
        return "a list", f"[{_expected(get_args(annotation)[0])[1]}]"
    if get_origin(annotation) is dict:
        return "a mapping", "{some_name: …}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        first = next(iter(annotation.model_fields.items()), None)
        return "a mapping", f"{{{first[1].alias or first[0]}: …}}" if first else "{}"
    return _PLAIN.get(annotation, ("something else", "what the reference pages say"))


def _found(given: Any) -> str:
    if given is None:
        return "nothing"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, int | float):
        return f"the number {given}"[:60]
    if isinstance(given, str):
        return f"the text {given!r}" if len(given) <= 60 else f"the text {given[:57]!r}..."
    return "a mapping" if isinstance(given, dict) else "a list"


def _plain(number: object) -> object:
    return int(number) if isinstance(number, float) and number.is_integer() else number
