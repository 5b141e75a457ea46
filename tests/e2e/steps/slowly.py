"""Steps that take their time, so that there is something to interrupt."""

import time
from pathlib import Path


def square(rows: Path, seconds: float, out: dict[str, Path]) -> None:
    """The sum of the squares of one unit's numbers, and their count."""
    numbers = [int(line) for line in rows.read_text().splitlines()[1:]]
    time.sleep(seconds)  # the work that this step stands for
    out["sum"].write_text(f"{sum(number * number for number in numbers)} {len(numbers)}\n")


def negate(sum: Path, seconds: float, out: dict[str, Path]) -> None:
    """The same with the sign turned: the second stage, on another cluster."""
    total, count = sum.read_text().split()
    time.sleep(seconds)
    out["sum"].write_text(f"-{total} {count}\n")


def wait(seed: Path, seconds: float, out: dict[str, Path]) -> None:
    """The same again, after a while."""
    time.sleep(seconds)
    out["seed"].write_text(seed.read_text())
