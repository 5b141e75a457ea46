"""What the chain makes of its units in one process, to compare runs with: a line for each unit, its digest and size.

onepass.py shuffle [FILE …]          default: the files below data
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from blake3 import blake3
from prepare import HERE, expected


def digests(files: Iterable[Path], body: str) -> list[bytes]:
    """Digests of what comes out of the chain, sorted."""
    return sorted(blake3(expected(file.read_bytes(), body)).digest() for file in files)


def main(words: Sequence[str]) -> None:
    """See the module."""
    body, *names = words
    for file in [Path(name) for name in names] or sorted(HERE.glob("data/*/*.bin")):
        print(digests([file], body)[0].hex(), file.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:])
