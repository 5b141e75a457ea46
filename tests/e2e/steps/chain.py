"""A chain whose units carry their whole way with them, so that one lost, doubled or mixed up is seen at the end."""

import time
from pathlib import Path


def first(rows: Path, seconds: float, out: dict[str, Path]) -> None:
    """The one number of a unit, on its way."""
    time.sleep(seconds)  # the work that this step stands for
    out["unit"].write_text(f"{rows.read_text().splitlines()[1]}: first\n")


def onward(unit: Path, seconds: float, stage: str, out: dict[str, Path]) -> None:
    """The same with this stage's name added."""
    time.sleep(seconds)
    out["unit"].write_text(f"{unit.read_text().rstrip()} {stage}\n")


def count(unit: Path, seconds: float, out: dict[str, Path]) -> None:
    """The number of a unit, and how often it was counted behind a colon."""
    time.sleep(seconds)
    number, _, counted = unit.read_text().splitlines()[-1].partition(": ")
    out["unit"].write_text(f"{number}: {int(counted or 0) + 1}\n")


def arrivals(units: list[Path], out: dict[str, Path]) -> None:
    """All that has come, in the order of the numbers."""
    lines = [path.read_text() for path in units]
    out["list"].write_text("".join(sorted(lines, key=lambda line: (int(line.split(":")[0]), line))))
