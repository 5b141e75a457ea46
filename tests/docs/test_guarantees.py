"""The table of failures names for each of its rows a test that there is."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
COLUMNS = ["what fails", "while", "what happens", "what you see", "shown by"]
TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)(?:::(?P<name>test_\w+))?`")
ROW = re.compile(r"(?<!\\)\|")


def rows() -> list[list[str]]:
    """The cells of the table under the page's heading on failures."""
    section = PAGE.read_text().partition("\n## What fails, and what you see\n")[2]
    lines = section[section.index("\n| ") + 1 :].splitlines()
    table = takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in ROW.split(line)[1:-1]] for line in table]


def test_the_table_says_of_each_failure_what_you_see() -> None:
    head, _, *failures = rows()
    assert head == COLUMNS
    assert len(failures) > 40
    assert [row for row in failures if len(row) != len(COLUMNS) or not all(row)] == []
    assert len({(what, when, seen) for what, when, _, seen, _ in failures}) == len(failures)


@pytest.mark.parametrize("row", rows()[2:], ids=lambda row: f"{row[0]}, {row[1]}")
def test_each_failure_is_shown_by_a_test_that_there_is(row: list[str]) -> None:
    named = list(TEST.finditer(row[-1]))
    assert named, "a failure without a test is no guarantee"
    for test in named:
        file = ROOT / test["file"]
        assert file.is_file()
        assert re.search(rf"^(async )?def {test['name'] or 'test_.*'}\(", file.read_text(), re.MULTILINE)
    assert TEST.sub("", row[-1]).strip(" ,") == ""
