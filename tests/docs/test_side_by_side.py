"""Who tries the tutorial and one example after the other has one federation for all of them."""

from __future__ import annotations

import re
from pathlib import Path

from workflow.load import load
from workflow.model import Step

HERE = Path(__file__).parents[2]


def test_no_step_of_an_example_has_the_name_and_version_of_another_one() -> None:
    page = (HERE / "docs" / "first-workflow.md").read_text()
    texts = {"docs/first-workflow.md": "---\n".join(re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL))}
    texts |= {str(file): file.read_text() for file in sorted((HERE / "examples").glob("*/*.yaml"))}
    first: dict[str, str] = {}
    for name, text in texts.items():
        for document in load(text, name).documents:
            if isinstance(document.model, Step):
                other = first.setdefault(document.model.reference, name)
                assert other == name, f"{document.model.reference} of {name} is also in {other}"
    assert len(first) > 20
