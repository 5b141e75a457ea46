"""The quick reading of a command line and typer's agree wherever the quick one takes a line at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.cli.arguments import NotPlainError, Option, parameters_of, parse
from bdw_fed.cli.typed import application
from bdw_fed.cli.verbs import MODULES, load


def by_typer(verb: str, words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any] | None:
    """What typer would call the verb with; None where it refuses."""
    module = load(verb)
    parameters = parameters_of(module.command)
    got: dict[str, Any] = {}

    def command(**values: Any) -> None:
        got.update(values)

    command.__doc__ = module.command.__doc__
    command.__module__ = module.__name__
    import inspect

    command.__signature__ = inspect.signature(module.command)  # type: ignore[attr-defined]
    import typing

    command.__annotations__ = typing.get_type_hints(module.command, include_extras=True)
    monkeypatch.setattr(module, "command", command)
    try:
        application(verb)(args=[verb, *words], standalone_mode=False)
    except Exception:
        return None
    finally:
        monkeypatch.undo()
    return got if got or not parameters else None


def words_of(verb: str) -> st.SearchStrategy[list[str]]:
    """Command lines that have the verb's own flags in them, and what else people type."""
    flags = [
        flag
        for parameter in parameters_of(load(verb).command)
        if isinstance(parameter.mark, Option)
        for flag in parameter.mark.flags
    ]
    values = ["x", "a=1", "json", "wide", "3", "2.5", "-", "", "é ü", "runs", "--", "-x", "--nope"]
    joined = [f"{flag}=v" for flag in flags if flag.startswith("--")] + ["--output=json"]
    return st.lists(st.sampled_from(flags + flags + values + joined), max_size=5)


@pytest.mark.parametrize("verb", ["get", "submit", "outputs", "wait", "apply", "logs", "up"])
def test_a_line_that_is_read_quickly_means_to_typer_the_same(verb: str) -> None:
    @given(words_of(verb))
    def agree(words: list[str]) -> None:
        try:
            quick = parse(load(verb).command, words)
        except NotPlainError:
            return
        with pytest.MonkeyPatch.context() as monkeypatch:
            assert by_typer(verb, words, monkeypatch) == quick

    agree()


@pytest.mark.parametrize(
    ("verb", "words", "expected"),
    [
        ("get", ["runs", "-o", "json"], {"kind": "runs", "output": "json", "name": None}),
        ("get", ["--output=wide", "step", "a@1"], {"kind": "step", "output": "wide", "name": "a@1"}),
        ("submit", ["w", "-p", "a=1", "-p", "b=2", "--wait"], {"parameter": ["a=1", "b=2"], "wait": True}),
        ("outputs", ["r", "a", "b", "--to", "out"], {"run": "r", "names": ["a", "b"]}),
        ("wait", ["r", "--timeout", "2.5"], {"timeout": 2.5}),
        ("apply", ["-f", "-"], {"filename": ["-"], "dry_run": False}),
        ("delete", ["step", "--", "-odd"], {"name": "-odd"}),
    ],
)
def test_usual_lines_are_read_quickly(verb: str, words: list[str], expected: dict[str, Any]) -> None:
    values = parse(load(verb).command, words)
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    "words", [["--help"], [], ["runs", "-o", "xml"], ["runs", "--nope"], ["a", "b", "c"], ["runs", "-o"], ["-wo", "x"]]
)
def test_what_is_unusual_is_left_to_typer(words: list[str]) -> None:
    with pytest.raises(NotPlainError):
        parse(load("get").command, words)


def test_every_verb_says_what_it_is_for_and_gives_examples() -> None:
    for verb in MODULES:
        module = load(verb)
        assert module.command.__doc__, verb
        assert f"bdw-fed {verb}" in module.EXAMPLES, verb
        assert all(parameter.mark.help for parameter in parameters_of(module.command)), verb
