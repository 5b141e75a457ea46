"""The tutorial's promise: who copies what the page says sees what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fixtures.pages import PRINTED, TYPED, Reader

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first-workflow.md"
FILE = re.compile(r"^`(?P<name>[\w./-]+)`:\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    page = PAGE.read_text()
    reader = Reader(tmp_path, patience=120.0)
    data, run, look = (match["text"] for match in TYPED.finditer(page))
    reader.types(data)
    for match in FILE.finditer(page):
        (tmp_path / match["name"]).write_text(match["text"])
    printed = PRINTED.search(page)
    assert printed
    try:
        assert reader.types(run).endswith(printed["text"])
        reader.types(look)
    finally:
        reader.types("bdw-fed down")
