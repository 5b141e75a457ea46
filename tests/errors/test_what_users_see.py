"""The exact words that a user sees for every wrong file in `cases/`.

Each `NAME.yaml` is applied beside `stored.yaml`; `NAME.txt` is what comes out. After a change of the words, look at
what `BDW_FED_GOLDEN=write pytest tests/errors` writes before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from topology.model import Topology
from workflow.checks import check_documents
from workflow.load import load
from workflow.model import Step
from workflow.problems import render

HERE = Path(__file__).parent
CASES = sorted((HERE / "cases").glob("*.yaml"))


def seen(file: Path) -> str:
    """What `apply` tells of a file: what the loader finds, and if that is nothing, what the checks find."""
    stored = load((HERE / "stored.yaml").read_text()).documents
    steps = {one.model.reference: one.model for one in stored if isinstance(one.model, Step)}
    topology = next(one.model for one in stored if isinstance(one.model, Topology))
    loaded = load(file.read_text(), file.name)
    return render(loaded.problems or check_documents(loaded.documents, steps, topology))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_wrong_file_is_told_in_these_words(case: Path) -> None:
    golden = case.with_suffix(".txt")
    if os.environ.get("BDW_FED_GOLDEN") == "write":
        golden.write_text(seen(case))
    assert seen(case) == golden.read_text()
    assert seen(case), "a case must be wrong"


def test_every_problem_has_a_line_and_says_what_to_do() -> None:
    for case in CASES:
        lines = seen(case).splitlines()
        for told, remedy in zip(lines[::2], lines[1::2], strict=True):
            assert told.split(":")[1].isdigit(), told
            assert remedy.startswith("    ") and remedy.strip(), told


def test_what_is_stored_is_right_itself() -> None:
    stored = load((HERE / "stored.yaml").read_text())
    assert render(stored.problems) == ""
    assert render(check_documents(stored.documents)) == ""
