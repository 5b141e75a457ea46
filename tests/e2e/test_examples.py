"""What the README of a worked example says to type prints what it says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.fixtures.pages import TYPED, Reader

pytestmark = pytest.mark.slow

PRINTED = re.compile(r"^prints\n\n```text\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = Path(__file__).parents[2] / "examples"
WORKED = sorted(page.parent.name for page in EXAMPLES.glob("*/README.md") if PRINTED.search(page.read_text()))


@pytest.mark.parametrize("name", WORKED)
def test_an_example_prints_what_its_page_says(name: str, tmp_path: Path) -> None:
    page = (EXAMPLES / name / "README.md").read_text()
    typed, printed = TYPED.search(page), PRINTED.search(page)
    assert typed and printed
    place = tmp_path / name
    shutil.copytree(EXAMPLES / name, place, ignore=shutil.ignore_patterns("data", "results", "__pycache__"))
    reader = Reader(place)
    script, _, last = typed["text"].removesuffix("bdw-fed down\n").rstrip().rpartition("\n")
    try:
        reader.types(script)
        assert reader.types(last) == printed["text"]
    finally:
        reader.types("bdw-fed down", check=False)
