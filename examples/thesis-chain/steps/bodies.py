"""The two bodies of a step: one passes a unit on as it is, one shuffles its blocks. Both take time by size if asked to.

Equal input and parameters give equal output, whoever executes it, so that runs can be compared by their digests.
"""

import random
import shutil
import time
from pathlib import Path

BLOCK = 100_000
_MEGABYTE = 1e6


def echo(unit: Path, pace: float, out: dict[str, Path]) -> None:
    """The unit as it is. `pace`: seconds that a megabyte takes at least, standing for work on the processor."""
    begun = time.monotonic()
    shutil.copyfile(unit, out["unit"])
    _take_time(begun, pace, unit)


def shuffle(unit: Path, pace: float, seed: int, out: dict[str, Path]) -> None:
    """The unit's blocks of 100 KB in another order, which follows from the seed and their number."""
    begun = time.monotonic()
    blocks = -(-unit.stat().st_size // BLOCK)
    order = random.Random(f"{seed}/{blocks}").sample(range(blocks), blocks)  # noqa: S311 - always the same
    with unit.open("rb") as source, out["unit"].open("wb") as target:
        for block in order:
            source.seek(block * BLOCK)
            target.write(source.read(BLOCK))
    _take_time(begun, pace, unit)


def _take_time(begun: float, pace: float, unit: Path) -> None:
    left = begun + pace * unit.stat().st_size / _MEGABYTE - time.monotonic()
    if left > 0:
        time.sleep(left)
