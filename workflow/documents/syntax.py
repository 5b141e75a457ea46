"""What the YAML parser complains of, in words that say what to do."""

from __future__ import annotations

import yaml

_REMEDIES = {
    "mapping values are not allowed in this context": (
        "a ':' where no value can start",
        "indent the fields of one mapping alike, and put text that holds ': ' in quotes",
    ),
    "could not find expected ':'": ("a line without ':'", "write it as key: value"),
    "did not find expected key": (
        "the text does not go on as the mapping or list around it began",
        "indent what belongs together alike, and put text that starts with { or [ in quotes",
    ),
    "did not find expected '-' indicator": ("expected a further '-' of the list", "indent what belongs together alike"),
    "did not find expected ',' or ']'": ("a list in brackets is not closed", "put a ']' at its end, ',' between items"),
    "did not find expected ',' or '}'": (
        "a mapping in braces is not closed",
        "put a '}' at its end, ',' between fields; text that holds braces goes in quotes",
    ),
    "found unexpected end of stream": ("a quote is not closed", "put the closing quote"),
    "did not find expected node content": (
        "a value is missing, or a bracket or brace is not closed",
        "write the value, or put the closing ] or }",
    ),
    "found unknown escape character": ("an escape that YAML does not know", "use single quotes for text with a \\"),
    "control characters are not allowed": ("a control character", "remove it; is the file text?"),
}

_NOT_CLOSED = (
    "did not find expected ',' or ']'",
    "did not find expected ',' or '}'",
    "found unexpected end of stream",
)


def explain(error: yaml.YAMLError, text: str) -> tuple[int, str, str]:
    """Line (counted from 0), what is wrong, and what to do."""
    if isinstance(error, yaml.reader.ReaderError):
        before = text.encode()[: error.position]
        message, remedy = _words(str(error.reason), "")
        return before.count(b"\n"), message, remedy
    if not isinstance(error, yaml.MarkedYAMLError):
        return 0, f"not YAML: {error}", "compare it with the examples"
    # What is not closed is found at the end of the file; where it was opened is the place to look at.
    opened = error.problem in _NOT_CLOSED and error.context_mark
    mark = opened or error.problem_mark or error.context_mark
    # The end of the file is no place to look at; the last line with something on it is.
    line = min(int(mark.line), text.rstrip().count("\n")) if mark else 0
    message, remedy = _words(str(error.problem), _line(text, line)[int(mark.column) :][:1] if mark else "")
    return line, message, remedy


def _words(problem: str, character: str) -> tuple[str, str]:
    if problem == "found character that cannot start any token":
        if character == "\t":
            return "a tab where the indentation is expected", "indent with spaces"
        return f"text can't start with {character}", "put it in quotes"
    if problem in _REMEDIES:
        return _REMEDIES[problem]
    return f"not YAML: {problem}", "compare it with the examples"


def _line(text: str, number: int) -> str:
    lines = text.split("\n")
    return lines[number] if number < len(lines) else ""
