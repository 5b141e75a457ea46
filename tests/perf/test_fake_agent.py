"""`bdw-fed fake-agent` loads a hub of its own, tells what that took, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def bdw_fed(scratch: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bdw_fed.cli", "fake-agent", *words],
        env={**os.environ, "TMPDIR": str(scratch), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_each_count_is_measured_and_nothing_stays(tmp_path: Path) -> None:
    words = ["--count", "3", "--count", "12", "--runs", "6", "--rate", "10", "--seconds", "0.01", "--quiet", "1"]
    done = bdw_fed(tmp_path, *words, "--json")
    assert done.returncode == 0, done.stderr
    few, many = (json.loads(line) for line in done.stdout.splitlines())
    assert (few["agents"], many["agents"]) == (3, 12)
    for figures in (few, many):
        assert figures["runs"] == 6
        assert figures["hub_memory"] > 10 << 20
        assert 0 < figures["dispatch_p50"] <= figures["dispatch_p99"]
        assert figures["writes_per_run"] >= 2, "a run is stored, and so is its end"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--count", "0"], ["--count", "1", "--rate", "0"], []])
def test_what_can_not_be_measured_is_refused(tmp_path: Path, words: list[str]) -> None:
    done = bdw_fed(tmp_path, *words)
    assert done.returncode == 2
    assert "--count" in done.stderr
