"""Documents from text or a file: what people apply.

A file holds any number of YAML documents; each is a Topology, a Step, a Workflow or a Quota. The loader gives the
models of those that are well formed and a problem for every fault, with its line; it raises nothing. Whether objects
make sense together is judged by `workflow.checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from topology.nearest import did_you_mean
from topology.problems import Positions, Problem
from workflow.canonical import KINDS, AnyObject
from workflow.documents import words, written

_LARGEST_FILE = 4 * written.MOST_CHARACTERS


@dataclass(frozen=True)
class Document:
    """An object as somebody wrote it. `line` and `text` are the document's own within the file."""

    model: AnyObject
    positions: Positions
    line: int
    text: str


@dataclass(frozen=True)
class Loaded:
    """What a text held. Where there are problems, documents may be missing."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]


def load(text: str, file: str = "", line: int = 1) -> Loaded:
    """The documents of a text that starts on `line` of `file` (a name for people; nothing is opened)."""
    found, problems = written.read(text, file, line)
    documents = [_document(one, file, problems) for one in found]
    if not found and not problems:
        problems.append(
            Problem(file, line, "", "there is nothing in it", "write a document with kind, metadata and spec")
        )
    return Loaded(tuple(one for one in documents if one is not None), tuple(sorted(problems)))


def read(path: Path) -> Loaded:
    """The documents of a file; also that it can't be read is a problem."""
    try:
        with path.open("rb") as opened:
            content = opened.read(_LARGEST_FILE + 1)
        return load(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError:
        return Loaded((), (Problem(str(path), 0, "", "the file is not text in UTF-8", "save it as UTF-8"),))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Loaded((), (Problem(str(path), 0, "", f"can't be read: {reason}", "check the path and its rights"),))


def _document(one: written.Written, file: str, problems: list[Problem]) -> Document | None:
    positions = written.positions(one, file)
    kind = one.value.get("kind") if isinstance(one.value, dict) else None
    if not isinstance(one.value, dict):
        problems.append(
            positions.problem((), "expected a document with kind, metadata and spec", "start it with kind: Workflow")
        )
        return None
    if not isinstance(kind, str) or kind not in KINDS:
        near = f"{kind!r} is not a kind" if kind is not None else "is missing"
        remedy = did_you_mean(str(kind), KINDS, "it is one of")
        problems.append(positions.problem(("kind",), f"{near}; expected {', '.join(KINDS)}", remedy))
        return None
    try:
        return Document(KINDS[kind].model_validate(one.value), positions, one.line, one.text)
    except ValidationError as error:
        problems.extend(words.problems(error, KINDS[kind], positions, one.spelled))
        return None
