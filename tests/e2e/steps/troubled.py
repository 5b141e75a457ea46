"""Steps that fail, each in its own way."""

import os
import sys
import threading
from pathlib import Path


def raises(seed: Path, out: dict[str, Path]) -> None:
    """An exception that a person should be able to read."""
    raise ValueError(f"the seed {seed.read_text().strip()!r} does not grow here")


def hangs(seed: Path, out: dict[str, Path]) -> None:
    """Never returns."""
    threading.Event().wait()


def fills_disk(seed: Path, out: dict[str, Path]) -> None:
    """Writes more than its quota."""
    with out["file"].open("wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))


def eats_memory(seed: Path, out: dict[str, Path]) -> None:
    """Takes more than its limit."""
    hoard = [bytearray(64 << 20) for _ in range(64)]
    out["file"].write_text(str(len(hoard)))


def floods(seed: Path, out: dict[str, Path]) -> None:
    """Prints 100 MB and says one thing before and one after."""
    print("the first line")
    line = "x" * 99 + "\n"
    for _ in range(1000):
        sys.stdout.write(line * 1000)
    print("the last line")
    out["file"].write_text("done\n")


def forgets(seed: Path, out: dict[str, Path]) -> None:
    """Writes no output."""


def third_time_lucky(seed: Path, out: dict[str, Path]) -> None:
    """Fails twice and then succeeds."""
    attempt = int(os.environ["BDW_FED_ATTEMPT"])
    if attempt < 3:
        raise RuntimeError(f"attempt {attempt} is too early")
    out["file"].write_text(f"attempt {attempt}\n")
