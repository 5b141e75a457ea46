"""The reference pages say what is: their YAML can be applied, and no field of the models is missing on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from topology.model import Topology
from workflow.documents.words import field_names
from workflow.load import load
from workflow.model import Quota, Step, Workflow
from workflow.problems import render

PAGES = Path(__file__).parents[2] / "docs" / "reference"
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```\w+\n.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<page>[\w.-]*)#(?P<heading>[\w-]+)\)")


def models(annotation: object) -> Iterator[type[BaseModel]]:
    """Every model within a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for info in annotation.model_fields.values():
            yield from models(info.annotation)
    for inner in get_args(annotation):
        yield from models(inner)


@pytest.mark.parametrize("page", ["topology", "step", "workflow", "quota"])
def test_the_yaml_on_a_page_is_well_formed(page: str) -> None:
    blocks = BLOCK.findall((PAGES / f"{page}.md").read_text())
    assert blocks
    assert "".join(render(load(block, f"{page}.md").problems) for block in blocks) == ""


@pytest.mark.parametrize("root", [Topology, Step, Workflow, Quota])
def test_every_field_is_on_a_page(root: Any) -> None:
    pages = CODE.sub("", "".join(page.read_text() for page in PAGES.glob("*.md")))
    told = re.findall(r"`([^`]+)`", pages) + re.findall(r"^#+ (.*)$", pages, re.MULTILINE)
    named = set(re.findall(r"[A-Za-z_]+", " ".join(told)))
    assert {field for model in models(root) for field in field_names(model)} - named == {"kind"}


def test_links_within_the_pages_lead_somewhere() -> None:
    for page in PAGES.glob("*.md"):
        for link in LINK.finditer(page.read_text()):
            target = PAGES / link["page"] if link["page"] else page
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert link["heading"] in anchors, f"{page.name}: {link[0]}"
