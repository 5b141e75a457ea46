"""What the page on the Python builder shows works as it stands there: as a program, and cell by cell in a notebook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.pages import PRINTED, TYPED, Reader

ROOT = Path(__file__).parents[2]
CELL = re.compile(r"^```python\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^`topology.yaml`:\n\n```yaml\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs" / "python-builder.md").read_text()
CELLS = [match["text"] for match in CELL.finditer(PAGE)]
SHOWN = PRINTED.search(PAGE)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Somebody with the first workflow's data and a federation that has it."""
    first = (ROOT / "docs" / "first-workflow.md").read_text()
    reader = Reader(tmp_path_factory.mktemp("builder"))
    data, topology = TYPED.search(first), FILE.search(first)
    assert data
    assert topology
    (reader.place / "topology.yaml").write_text(topology["text"])
    reader.types(data["text"])
    reader.types("bdw-fed up topology.yaml")
    yield reader
    reader.types("bdw-fed down")


@pytest.mark.slow
def test_the_page_is_a_program(reader: Reader) -> None:
    (reader.place / "job.py").write_text("\n".join(CELLS))
    assert SHOWN
    assert reader.types("python job.py").endswith(SHOWN["text"] + "\n")


@pytest.mark.slow
def test_the_page_is_a_notebook_that_shows_its_progress(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    for name, value in {**reader.environment, "IPYTHONDIR": str(reader.place / "ipython")}.items():
        monkeypatch.setenv(name, value)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(book, timeout=180, resources={"metadata": {"path": str(reader.place)}}).execute()
    waited = next(cell for cell in book.cells if "run.wait()" in cell.source)
    tables = [output for output in waited.outputs if output.output_type == "display_data"]
    assert len(tables) == 1, "the table is drawn again in its place"
    assert "count" in tables[0]["data"]["text/html"]
    assert SHOWN
    assert book.cells[-1].outputs[0]["text"] == SHOWN["text"] + "\n"
