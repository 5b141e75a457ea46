"""A unit's key is read from its name, in one go, whatever the name and the pattern are."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.errors import WrongValue
from workflow.keys import parse


@pytest.mark.parametrize(
    ("pattern", "name", "key"),
    [
        ("key", "ORD/2024-01.csv", "ORD"),
        ("key", "ORD.tar.gz", "ORD"),
        ("key", "ORD", "ORD"),
        ("key", ".csv", None),
        ("key", "", None),
        ("{key}", "ORD.csv", "ORD.csv"),
        ("{key}.csv", "ORD.csv", "ORD"),
        ("{key}.csv", ".csv", None),
        ("{key}.csv", "ORD.json", None),
        ("{key}.csv", "a/ORD.csv", None),
        ("{key}/*", "ORD/2024-01.csv", "ORD"),
        ("*/{key}.csv", "2024/ORD.csv", "ORD"),
        ("{key}-*.csv", "ORD-1-2.csv", "ORD"),
        ("*-{key}.csv", "a-ORD.csv", "ORD"),
        ("*-{key}.csv", "a-b-ORD.csv", "b-ORD"),
        ("x*y{key}z", "xyz", None),
        ("x*y{key}z", "xyyz", "y"),
        ("a{key}a", "aa", None),
        ("a{key}a", "aba", "b"),
        ("{key}.csv", "a.csv.csv", "a.csv"),
        ("part.{key}", "part.", None),
        ("*", "", None),
    ],
)
def test_a_name_gives_this_key(pattern: str, name: str, key: str | None) -> None:
    if pattern == "*":
        with pytest.raises(WrongValue):
            parse(pattern)
    else:
        assert parse(pattern).key(name) == key


@pytest.mark.parametrize("pattern", ["", "csv", "{key}{key}", "{key}-{key}", "{key}*", "*{key}", "**{key}"])
def test_a_pattern_has_one_key_and_text_between_signs(pattern: str) -> None:
    with pytest.raises(WrongValue):
        parse(pattern)


@pytest.mark.parametrize("pattern", ["{key}?.csv", "[a]{key}", "{name}/{key}", "\\{key}", "{key}" + "x" * 300])
def test_what_has_no_meaning_is_refused(pattern: str) -> None:
    with pytest.raises(WrongValue):
        parse(pattern)


pieces = st.lists(st.sampled_from(["a", "b", "-", "/", "*", ".csv"]), max_size=6).map("".join)


@given(pieces, pieces, st.text("ab-/.csv", max_size=12))
def test_a_name_fits_when_any_way_to_read_it_does(before: str, after: str, name: str) -> None:
    try:
        keys = parse(f"{before}{{key}}{after}")
    except WrongValue:
        return
    written = "".join({"*": "[^/]*?"}.get(each, re.escape(each)) for each in before)
    written += "([^/]+?)" + "".join({"*": "[^/]*?"}.get(each, re.escape(each)) for each in after)
    reference = re.fullmatch(written, name)
    assert keys.key(name) == (reference[1] if reference is not None else None)


def test_no_name_makes_it_slow() -> None:
    keys = parse("*a" * 60 + "{key}b")
    assert keys.key("a" * 1_000_000 + "c") is None
