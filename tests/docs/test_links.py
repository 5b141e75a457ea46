"""No page sends its reader to something that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]
LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(
    r"`(?P<path>(?:cluster_agent|control_plane|bdw_fed|wire|topology|workflow|tests|examples|docs)/[\w./-]+)`"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = CODE.sub("", page.read_text())
    links = {match["target"] for match in LINK.finditer(text) if "://" not in match["target"]}
    missing = {target for target in links if not (page.parent / target).exists()}
    missing |= {match["path"] for match in NAMED.finditer(text) if not (ROOT / match["path"].rstrip("/")).exists()}
    assert not missing
