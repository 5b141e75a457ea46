"""Steps that pass rows on and count them, so that what became of them can be worked out from the files."""

import shutil
import time
from pathlib import Path


def keep(rows: Path, seconds: float, out: dict[str, Path]) -> None:
    """The same rows, after a while."""
    time.sleep(seconds)  # the work that this step stands for
    shutil.copyfile(rows, out["rows"])


def count(rows: Path, out: dict[str, Path]) -> None:
    """How many rows there are below the header, said aloud as well: what was said is found on the node."""
    number = len(rows.read_text().splitlines()) - 1
    print(f"counted {number} rows", flush=True)
    out["count"].write_text(f"{number}\n")


def total(counts: list[Path], out: dict[str, Path]) -> None:
    """All counts added up, and of how many units."""
    numbers = [int(path.read_text()) for path in counts]
    out["total"].write_text(f"{sum(numbers)} {len(numbers)}\n")
