"""What the step makes of its sample is what is expected. `pytest` runs it; it needs bdw-fed, and no federation."""

import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def test_the_sample_becomes_what_is_expected() -> None:
    done = subprocess.run(["bdw-fed", "step", "test", str(PROJECT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
