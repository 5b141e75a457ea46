"""What the README of a worked example says to type prints what it says, and on each runtime it makes what it should."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import worked
from federation import Federation

import bdw_fed.steps
from tests.fixtures.pages import TYPED, Reader

PRINTED = re.compile(r"^prints\n\n```text\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = Path(__file__).parents[2] / "examples"
WORKED = sorted(page.parent.name for page in EXAMPLES.glob("*/README.md") if PRINTED.search(page.read_text()))


CACHED = {"sweep": ("more", {f"score-{number}": number < 4 for number in range(5)})}
"""Example -> a run of it, and which of its cached steps were not executed in it."""


def _cached(described: dict[str, Any]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for fragment in described["run"]["fragments"].values():
        for progress in fragment["steps"]:
            if progress["step"].startswith("score-") and int(progress.get("done", 0)):
                found[progress["step"]] = bool(int(progress.get("cached", 0)))
    return found


@pytest.mark.slow
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
        if name in CACHED:
            run, expected = CACHED[name]
            assert _cached(json.loads(reader.types(f"bdw-fed describe run {run} -o json"))) == expected
            kept = json.loads(reader.types("bdw-fed cache ls -o json"))
            assert sum(int(line.get("taken", 0)) for line in kept) > 0
            assert json.loads(reader.types("bdw-fed cache clear --all -o json")) == kept
            assert json.loads(reader.types("bdw-fed cache ls -o json")) == []
    finally:
        reader.types("bdw-fed down", check=False)


@pytest.mark.parametrize("name", worked.CHECKS)
def test_an_example_makes_what_another_way_makes(federation: Federation, name: str, tmp_path: Path) -> None:
    place = federation.topology.parent / worked.PLACE / name
    federation.apply(place / f"{name}.yaml")
    run = federation.run(name)["run"]
    assert run["state"] == "RUN_STATE_SUCCEEDED", run.get("message")
    worked.CHECKS[name](place, federation.fetch(run["name"], tmp_path))


def test_a_sweep_that_goes_on_executes_what_is_new_alone(federation: Federation) -> None:
    federation.apply(federation.topology.parent / worked.PLACE / "sweep" / "sweep.yaml")
    federation.call("cache", "clear", "--all")
    for degrees, known in ([6, 7], 0), ([6, 7, 8], 2):
        run = federation.submit("sweep", degrees=degrees)
        federation.call("wait", run)
        assert _cached(federation.describe(run)) == {f"score-{index}": index < known for index in range(len(degrees))}


def test_each_worked_example_is_tried_on_each_runtime() -> None:
    assert list(worked.CHECKS) == WORKED


def test_the_service_of_an_example_speaks_as_one_that_is_made_anew() -> None:
    made = Path(bdw_fed.steps.__file__).parent / "templates" / "service" / "code" / "conversation.py"
    assert (EXAMPLES / "thumbnails" / "steps" / made.name).read_text() == made.read_text()
