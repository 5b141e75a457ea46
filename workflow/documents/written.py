"""YAML text as plain values, each with the line on which it stands.

The text comes from strangers, so it is read event by event with bounds on size, depth and what aliases expand to;
nothing recurses. Plain scalars mean what they mean in YAML 1.2: `yes` and `on` are text. Keys are always text, must not
come twice, and tags and merge keys are refused, so that what stands in a file can be read without knowing YAML well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from topology.problems import Path, Positions, Problem, field_name
from workflow.documents import syntax

MOST_CHARACTERS = 2**20
MOST_DEPTH = 32
MOST_VALUES = 100_000
MOST_DOCUMENTS = 1000

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_INTEGER = re.compile(r"[-+]?[0-9]{1,1000}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf"], float("inf")),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], float("-inf")),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], float("nan")),
}


@dataclass
class Written:
    """One document: its value, the line it starts on, its own text, its fields' lines, and how scalars are spelled."""

    value: object
    line: int
    text: str = ""
    lines: dict[Path, int] = field(default_factory=dict)
    spelled: dict[Path, str] = field(default_factory=dict)


@dataclass
class _Open:
    """A mapping or list whose end has not come yet."""

    value: object
    path: Path
    anchor: str | None
    weight: int = 1
    key: str | None = None
    dropped: bool = False  # the value that comes belongs to a key that is refused


class _TooMuch(Exception):
    """A bound is crossed: nothing further in this text is read."""

    def __init__(self, line: int, message: str, remedy: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.remedy = remedy


def read(text: str, file: str, first_line: int = 1) -> tuple[list[Written], list[Problem]]:
    """The documents of a text that starts on `first_line` of `file`, and what is wrong with it as YAML."""
    if len(text) > MOST_CHARACTERS:
        return [], [Problem(file, first_line, "", f"the file is longer than {MOST_CHARACTERS} characters", "split it")]
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return [], [Problem(file, first_line, "", "the file is not text in UTF-8", "save it as UTF-8")]
    reader = _Reader(file, first_line)
    documents: list[Written] = []
    try:
        documents.extend(reader.documents(text))
    except _TooMuch as stop:
        reader.problems.append(Problem(file, stop.line, "", stop.message, stop.remedy))
    except yaml.YAMLError as error:
        line, message, remedy = syntax.explain(error, text)
        reader.problems.append(Problem(file, first_line + line, "", message, remedy))
    _give_text(documents, text, first_line)
    return documents, reader.problems


def _give_text(documents: list[Written], text: str, first_line: int) -> None:
    starts = [0, *(found.end() for found in _BREAK.finditer(text))]
    begins = [0, *(document.line - first_line for document in documents[1:])]
    for document, begin, end in zip(documents, begins, [*begins[1:], len(starts)], strict=False):
        document.text = text[starts[begin] : starts[end] if end < len(starts) else len(text)]


class _Reader:
    def __init__(self, file: str, first_line: int) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._first = first_line
        self._weight = 0

    def documents(self, text: str) -> Iterator[Written]:
        events = yaml.parse(text, Loader=yaml.CSafeLoader)
        count = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                count += 1
                if count > MOST_DOCUMENTS:
                    raise _TooMuch(self._line(event), f"more than {MOST_DOCUMENTS} documents in one file", "split it")
                written = self._document(events, self._line(event))
                if written.value is not None:
                    yield written

    def _document(self, events: Iterator[yaml.Event], line: int) -> Written:
        written = Written(None, line, lines={(): line})
        anchors: dict[str, tuple[object, int]] = {}
        stack: list[_Open] = []
        for event in events:
            if isinstance(event, yaml.DocumentEndEvent):
                break
            if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                done = stack.pop()
                if done.anchor:
                    anchors[done.anchor] = (done.value, done.weight)
                if stack:
                    stack[-1].weight += done.weight
                continue
            if stack and isinstance(stack[-1].value, dict) and stack[-1].key is None:
                self._key(stack[-1], event, written)
                continue
            parent = stack[-1] if stack else None
            path = self._place(parent, event, written)
            value, weight = self._value(event, path, stack, anchors, written)
            if isinstance(event, yaml.CollectionStartEvent):
                stack.append(_Open(value, path, event.anchor))
            elif parent is not None:
                parent.weight += weight
            self._put(parent, value, written)
        return written

    def _key(self, into: _Open, event: yaml.Event, written: Written) -> None:
        """The next event is a key; only a scalar can be one."""
        line = self._line(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise _TooMuch(line, "a key is not plain text", 'put text with braces or brackets in quotes: "{in.rows}"')
        path = (*into.path, event.value)
        into.key = event.value
        into.dropped = isinstance(into.value, dict) and event.value in into.value
        if event.value == "<<" and not event.style:
            into.dropped = True
            self._fault(line, into.path, "a merge key (<<) is not supported", "write the fields out")
        elif into.dropped:
            message = f"{event.value!r} is written twice, first on line {written.lines.get(path, line)}"
            self._fault(line, path, message, "keep one of them")
        else:
            written.lines[path] = line

    def _place(self, parent: _Open | None, event: yaml.Event, written: Written) -> Path:
        if parent is None:
            return ()
        if isinstance(parent.value, list):
            path: Path = (*parent.path, len(parent.value))
            written.lines[path] = self._line(event)
            return path
        return (*parent.path, parent.key or "")

    def _value(
        self,
        event: yaml.Event,
        path: Path,
        stack: list[_Open],
        anchors: dict[str, tuple[object, int]],
        written: Written,
    ) -> tuple[object, int]:
        """A scalar, what an alias stands for, or a mapping or list that is still empty; and how many values it is."""
        line = self._line(event)
        value: object
        weight = 1
        if isinstance(event, yaml.AliasEvent):
            assert event.anchor is not None
            if event.anchor not in anchors:
                inside = any(around.anchor == event.anchor for around in stack)
                fault = "stands inside of what it names" if inside else "names nothing"
                raise _TooMuch(line, f"the alias *{event.anchor} {fault}", "write the value out")
            value, weight = anchors[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            value = event.value if event.style else meaning(event.value)
            written.spelled.setdefault(path, event.value)
            if event.anchor:
                anchors[event.anchor] = (value, 1)
        else:
            assert isinstance(event, yaml.CollectionStartEvent)
            if len(stack) >= MOST_DEPTH:
                raise _TooMuch(line, f"nested deeper than {MOST_DEPTH} levels", "no field of ours lies so deep")
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
            anchors.pop(event.anchor or "", None)
        self._weight += weight
        if self._weight > MOST_VALUES:
            raise _TooMuch(line, f"more than {MOST_VALUES} values, aliases counted as often as used", "split the file")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            self._fault(line, path, f"the tag {tag} is not supported", "leave it out; quotes make a value text")
        return value, weight

    def _put(self, parent: _Open | None, value: object, written: Written) -> None:
        """Gives a value to the thing around it."""
        if parent is None:
            written.value = value
        elif isinstance(parent.value, list):
            parent.value.append(value)
        elif isinstance(parent.value, dict) and parent.key is not None:
            if not parent.dropped:
                parent.value[parent.key] = value
            parent.key = None

    def _line(self, event: yaml.Event) -> int:
        mark = event.start_mark
        return self._first + (int(mark.line) if mark else 0)

    def _fault(self, line: int, path: Path, message: str, remedy: str) -> None:
        self.problems.append(Problem(self._file, line, field_name(path), message, remedy))


def meaning(text: str) -> object:
    """What a scalar without quotes is: nothing, a truth value, a number, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def positions(written: Written, file: str) -> Positions:
    """Where the fields of a document stand."""
    return Positions(file, written.lines)
