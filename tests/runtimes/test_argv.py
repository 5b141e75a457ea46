"""A command's words are filled in exactly, and what can't be filled in is told before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_agent.runtimes.errors import TemplateError
from cluster_agent.runtimes.process.argv import check, fill

INPUTS = {"one": Path("/t/in/one.csv"), "many": [Path("/t/in/many/00000"), Path("/t/in/many/00001")], "none": []}
OUTPUTS = {"table": Path("/t/out/table.csv")}
PARAMETERS = {"word": "two words", "number": 7, "flag": True, "list": ["ä", 1], "nothing": None}


@pytest.mark.parametrize(
    ("word", "filled"),
    [
        ("plain", ["plain"]),
        ("{in.one}", ["/t/in/one.csv"]),
        ("--rows={in.one}", ["--rows=/t/in/one.csv"]),
        ("{in.many}", ["/t/in/many/00000", "/t/in/many/00001"]),
        ("{in.none}", []),
        ("{in.unconnected}", []),
        ("{out.table}", ["/t/out/table.csv"]),
        ("{param.word}", ["two words"]),
        ("n={param.number},{param.flag}", ["n=7,true"]),
        ("{param.list} {param.nothing}", ['["ä", 1] null']),
        ("{bundle}/x.awk", ["/b/x.awk"]),
        ("{{print $1}}", ["{print $1}"]),
        ("{{{param.number}}}", ["{7}"]),
        ("", [""]),
    ],
)
def test_words_are_filled_in(word: str, filled: list[str]) -> None:
    assert fill([word], INPUTS, OUTPUTS, PARAMETERS, Path("/b")) == filled


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("x={in.many}", "must be a word of its own"),
        ("x={in.rows}", "there is no input port 'rows'; there are: one, many, none"),
        ("{out.rows}", "there is no output port 'rows'"),
        ("{param.rows}", "there is no parameter 'rows'"),
        ("{bundle}", "has no bundle"),
    ],
)
def test_what_a_task_does_not_have_is_named(word: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        fill([word], INPUTS, OUTPUTS, PARAMETERS, None)


@pytest.mark.parametrize("word", ["{", "}", "{}", "{print}", "a{b", "{in.}", "{env.HOME}"])
def test_what_is_no_placeholder_is_refused_before_a_task_comes(word: str) -> None:
    with pytest.raises(TemplateError):
        check(["x", word])


def test_a_command_needs_a_program() -> None:
    with pytest.raises(TemplateError, match="empty"):
        check([])
