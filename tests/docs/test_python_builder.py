"""What the page on the Python builder shows works as it stands there: as a program, and cell by cell in a notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CELL = re.compile(r"^```python\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"prints\n\n```text\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^`topology.yaml`:\n\n```yaml\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
DATA = re.compile(r"^```sh\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs" / "python-builder.md").read_text()
CELLS = [match["text"] for match in CELL.finditer(PAGE)]
SHOWN = PRINTED.search(PAGE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the first workflow's data and a federation that has it."""
    first = (ROOT / "docs" / "first-workflow.md").read_text()
    place = tmp_path_factory.mktemp("builder")
    data, topology = DATA.search(first), FILE.search(first)
    assert data
    assert topology
    (place / "topology.yaml").write_text(topology["text"])
    _run(place, "bash", "-euc", data["text"])
    _run(place, sys.executable, "-m", "bdw_fed.cli", "up", "topology.yaml")
    yield place
    _run(place, sys.executable, "-m", "bdw_fed.cli", "down")


def _environment(place: Path) -> dict[str, str]:
    return {**os.environ, "BDW_FED_STATE": str(place / "state"), "IPYTHONDIR": str(place / "ipython")}


def _run(place: Path, *words: str) -> str:
    done = subprocess.run(
        words, cwd=place, env=_environment(place), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_page_is_a_program(place: Path) -> None:
    (place / "job.py").write_text("\n".join(CELLS))
    assert SHOWN
    assert _run(place, sys.executable, "job.py").endswith(SHOWN["text"] + "\n")


@pytest.mark.slow
def test_the_page_is_a_notebook_that_shows_its_progress(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    for name, value in _environment(place).items():
        monkeypatch.setenv(name, value)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(book, timeout=180, resources={"metadata": {"path": str(place)}}).execute()
    waited = next(cell for cell in book.cells if "run.wait()" in cell.source)
    tables = [output for output in waited.outputs if output.output_type == "display_data"]
    assert len(tables) == 1, "the table is drawn again in its place"
    assert "count" in tables[0]["data"]["text/html"]
    assert SHOWN
    assert book.cells[-1].outputs[0]["text"] == SHOWN["text"] + "\n"
