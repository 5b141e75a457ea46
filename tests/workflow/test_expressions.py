"""Conditions: what they mean, what they refuse, and that nothing in them runs away."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.errors import WrongValue
from workflow.expressions import MOST_CHARACTERS, Scope, compiled

SCOPE: Scope = {
    "param": {"mode": "string", "days": "integer", "share": "number", "full": "boolean", "cities": "array"},
    "item": {"city": "any"},
}
VALUES: dict[str, dict[str, Any]] = {
    "param": {"mode": "full", "days": 7, "share": 0.5, "full": True, "cities": ("ny", "la")},
    "item": {"city": "ny"},
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("param.mode == 'full'", True),
        ("param.mode != 'full'", False),
        ("param.days > 3 and param.days <= 7", True),
        ("3 < param.days < 7", False),
        ("not param.full or param.share == 0.5", True),
        ("item.city in param.cities", True),
        ("item.city not in ['ny', 'sf']", False),
        ("'ul' in param.mode", True),
        ("param.days % 2 == 1 and param.days // 2 == 3 and -param.days < 0", True),
        ("param.days / 2 == 3.5", True),
        ("param.mode + '!' == 'full!'", True),
        ("param.full", True),
        ("  param.full  ", True),
        ("True", True),
    ],
)
def test_a_condition_means_what_it_says(text: str, holds: bool) -> None:
    condition = compiled(text)
    condition.check(SCOPE)
    assert condition.holds(VALUES) is holds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("param.mod == 'full'", "param.mod at character 1 names nothing"),
        ("True and parm.mode == 'x'", "parm.mode at character 10: there is no parm"),
        ("param.days == 'x'", "at character 15: a whole number is compared with text"),
        ("param.full < True", "at character 14: true or false has no order"),
        ("param.days and param.full", "at character 1: expected true or false, found a whole number"),
        ("param.days in 3", "at character 15: expected a list after in, found a whole number"),
        ("param.mode * 3 == 'x'", "at character 1: expected a number, found text"),
        ("param.days + 1", "it is a whole number, but expected true or false"),
        ("param.cities in [param.cities]", "at character 18: a list can't stand in a list"),
        ("mode == 'full'", "at character 1: mode is not known"),
        ("param.full == true", "at character 15: true is not known"),
    ],
)
def test_what_can_not_be_true_is_found_before_it_runs_and_where_it_stands(text: str, words: str) -> None:
    with pytest.raises(WrongValue) as wrong:
        compiled(text).check(SCOPE)
    assert words in wrong.value.message
    assert wrong.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "param.days ==",
        "__import__('os').system('true')",
        "param.mode.upper() == 'X'",
        "param.__class__.__mro__",
        "param['mode'] == 'full'",
        "[x for x in param.cities] == 1",
        "9 ** 9 ** 9 > 1",
        "1 << 9999 > 1",
        "lambda: 1",
        "f'{param.mode}' == 'x'",
        "(x := 3) > 2",
        "1 if param.full else 2",
        "a = 1",
        "1 == 1; 2 == 2",
        "None == None",
        "b'x' == b'x'",
        "param.mode is 'full'",
        "(" * 300 + "1" + ")" * 300,
        "not " * 200 + "True",
        "x" * (MOST_CHARACTERS + 1),
        "\0",
        "1j == 1j",
    ],
)
def test_nothing_but_conditions_is_understood(text: str) -> None:
    with pytest.raises(WrongValue) as wrong:
        compiled(text).check(SCOPE)
    assert wrong.value.message and wrong.value.remedy


def test_a_name_of_the_language_is_no_way_out() -> None:
    with pytest.raises(WrongValue, match="names nothing"):
        compiled("param.__class__ == 'x'").check(SCOPE)
    with pytest.raises(WrongValue, match="names nothing"):
        compiled("param.keys == 'x'").holds(VALUES)


def test_what_shows_only_with_the_values_is_told_then() -> None:
    condition = compiled("item.city > 3")
    condition.check(SCOPE)
    with pytest.raises(WrongValue, match="can't be evaluated"):
        condition.holds(VALUES)
    with pytest.raises(WrongValue, match="can't be evaluated"):
        compiled("1 / (param.days - 7) > 1").holds(VALUES)


@given(st.text(max_size=60) | st.text("parmitem.days()[]'\"0123456789 +-*/<>=!", max_size=60))
def test_any_text_is_a_condition_or_is_refused_in_words(text: str) -> None:
    try:
        condition = compiled(text)
        condition.check(SCOPE)
        assert condition.holds(VALUES) in (True, False)
    except WrongValue as wrong:
        assert wrong.message


MADE = {"find-least": {"year": "any", "word": "string"}, "a": {"b": "any"}}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("{find-least.year} > param.days", True),
        ("{a.b} in param.cities and {find-least.year}==8", False),
        ("{find-least.word} == '{find-least.word}'", False),
        ("param.full and not {find-least.year} < 9", True),
    ],
)
def test_what_steps_make_is_compared_like_all_else_and_known_by_the_steps_that_make_it(text: str, holds: bool) -> None:
    made = {"find-least": {"year": 9, "word": "x"}, "a": {"b": "ny"}}
    condition = compiled(text)
    condition.check({**SCOPE, **MADE})
    assert set(condition.makers) == {(name.group, name.name) for name in condition.names if name.made}
    assert condition.holds({**VALUES, **made}) is holds
    plain = {maker: f"outer:{maker[0]}-0.{maker[1]}" for maker in condition.makers}
    resolved = compiled(condition.resolved(VALUES, plain))
    assert not [name for name in resolved.names if not name.made]
    assert resolved.holds({f"outer:{step}-0": ports for step, ports in made.items()}) is holds


@pytest.mark.parametrize(
    ("text", "words", "remedy"),
    [
        (
            "param.full and {fnd-least.year} > 1",
            "{fnd-least.year} at character 16: there is no step fnd-least",
            "find-least",
        ),
        ("{find-least.yeer} > 1", "{find-least.yeer} at character 1 names nothing", "year"),
        ("a.b > 1", "a.b at character 1 is of a step", "write {a.b}, in braces"),
        ("{find-least.word} > 1", "at character 21: text is compared with a whole number", "like with like"),
        ("{find-least} > 1", "can't stand in a condition", ""),
        ("_0.x > 1", "_0 at character 1 is not known", ""),
        ("{a.b} > 1 and _0.b > 1", "_0 at character 15 is not known", ""),
        ("{param.days} > 1", "there is no step param", ""),
    ],
)
def test_what_is_wrong_with_such_a_name_is_said_where_it_stands(text: str, words: str, remedy: str) -> None:
    with pytest.raises(WrongValue) as wrong:
        compiled(text).check({**SCOPE, **MADE})
    assert words in wrong.value.message
    assert remedy in (wrong.value.remedy or "")
