"""What the README of a worked example says to type prints what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
TYPED = re.compile(r"^```sh\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^prints\n\n```text\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
WORKED = sorted(page.parent.name for page in EXAMPLES.glob("*/README.md") if PRINTED.search(page.read_text()))


@pytest.mark.parametrize("name", WORKED)
def test_an_example_prints_what_its_page_says(name: str, tmp_path: Path) -> None:
    page = (EXAMPLES / name / "README.md").read_text()
    typed, printed = TYPED.search(page), PRINTED.search(page)
    assert typed and printed
    place = tmp_path / name
    shutil.copytree(EXAMPLES / name, place, ignore=shutil.ignore_patterns("data", "results", "__pycache__"))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BDW_FED_STATE": str(tmp_path / "state"),
    }

    def shell(script: str, *, check: bool = True) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    script, _, last = typed["text"].removesuffix("bdw-fed down\n").rstrip().rpartition("\n")
    try:
        shell(script)
        assert shell(last) == printed["text"]
    finally:
        shell("bdw-fed down", check=False)
