"""Steps whose units are files of some size, and that may be interrupted after they have read what they were given."""

import time
from pathlib import Path

_LINE = 64


def _fill(path: Path, words: str, kilobytes: int) -> None:
    path.write_text(f"{words}\n" + f"{words:>{_LINE - 1}}\n" * (kilobytes * 1024 // _LINE))


def make(seed: Path, pieces: int, kilobytes: int, out: dict[str, Path]) -> None:
    """So many units of that size out of one."""
    out["pieces"].mkdir()
    for index in range(pieces):
        _fill(out["pieces"] / f"{index:05}.txt", f"{seed.read_text().strip()} {index}", kilobytes)


def copy(piece: Path, seconds: float, kilobytes: int, out: dict[str, Path]) -> None:
    """A unit of the same words."""
    words = piece.read_text().splitlines()[0]
    time.sleep(seconds)  # the work that this step stands for
    _fill(out["piece"], words, kilobytes)


def once(piece: Path, marks: str, kilobytes: int, out: dict[str, Path]) -> None:
    """The same, but whoever does it first has eaten its input and never comes back by itself."""
    words = piece.read_text().splitlines()[0]
    mark = Path(marks) / words.replace(" ", "-")
    if not mark.exists():
        mark.touch()
        time.sleep(3600)  # until it is killed
    _fill(out["piece"], words, kilobytes)


def collect(pieces: list[Path], gate: str, out: dict[str, Path]) -> None:
    """The indices of all that has come, in order; a file's every line must say the same. Waits for a file, if named."""
    while gate and not Path(gate).exists():
        time.sleep(0.05)
    indices = []
    for piece in pieces:
        first, *lines = piece.read_text().splitlines()
        assert all(line.strip() == first for line in lines), f"{piece} holds something else than {first}"
        indices.append(int(first.split()[1]))
    out["list"].write_text("".join(f"{index}\n" for index in sorted(indices)))


def begin(out: dict[str, Path]) -> None:
    """Something to begin with, out of nothing."""
    out["seed"].write_text("7\n")
