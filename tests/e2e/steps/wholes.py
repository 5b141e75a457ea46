"""Directories that become one."""

import shutil
from pathlib import Path


def join(given: list[Path], out: dict[str, Path]) -> None:
    """The files of all, each below the name of the numbers that it is of."""
    for directory in given:
        [numbers] = (directory / "passed").glob("*.txt")
        shutil.copytree(directory, out["joined"] / numbers.stem, dirs_exist_ok=True)
