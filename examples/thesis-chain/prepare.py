"""Makes the units: files of random bytes at both edges, the same ones each time.

    prepare.py                                 what topology.yaml names, below this directory
    prepare.py --to DIR --megabytes 1,10 --units 3

writes DIR/topology.yaml and DIR/data. The topology has a dataset for each size, `units-3-of-1mb` and `units-3-of-10mb`,
of so many units at each edge. `expected` says what comes out of the chain for a unit.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
EDGES = ("edge1", "edge2")
_PIECE = 1_000_000
BLOCK = 100_000
STEPS = 4


def dataset_name(megabytes: int, units: int) -> str:
    """The dataset of so many units at each edge."""
    return f"units-{units}-of-{megabytes}mb"


def make_unit(path: Path, megabytes: int) -> None:
    """A file of that size whose bytes follow from its name and those of its two folders. One that is there is kept."""
    size = megabytes * _PIECE
    if path.exists() and path.stat().st_size == size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = random.Random("/".join(path.parts[-3:]))  # noqa: S311 - the same bytes each time
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(chance.randbytes(_PIECE))


def expected(content: bytes, body: str) -> bytes:
    """What the chain makes of a unit: itself, or itself shuffled four times, with seeds 1 to 4."""
    if body == "echo":
        return content
    for seed in range(1, STEPS + 1):
        blocks = -(-len(content) // BLOCK)
        order = random.Random(f"{seed}/{blocks}").sample(range(blocks), blocks)  # noqa: S311 - as the step does
        content = b"".join(content[block * BLOCK : (block + 1) * BLOCK] for block in order)
    return content


def lay_out(directory: Path, datasets: Sequence[tuple[int, int]]) -> Path:
    """Data and topology in `directory`, a dataset for each (megabytes, units at each edge). Returns the topology."""
    topology = yaml.safe_load((HERE / "topology.yaml").read_text())
    topology["spec"]["datasets"] = []
    for megabytes, units in datasets:
        parts = []
        for edge in EDGES:
            for number in range(units):
                path = f"data/{edge}/{dataset_name(megabytes, units)}/{number}.bin"
                make_unit(directory / path, megabytes)
                parts.append({"at": edge, "path": path, "size": f"{megabytes}MB"})
        topology["spec"]["datasets"].append({"name": dataset_name(megabytes, units), "parts": parts})
    file = directory / "topology.yaml"
    file.write_text(yaml.safe_dump(topology, sort_keys=False))
    return file


def main(words: Sequence[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Makes the units of the chain.")
    parser.add_argument("--to", type=Path)
    parser.add_argument("--megabytes", default="1")
    parser.add_argument("--units", type=int, default=2)
    given = parser.parse_args(words)
    if given.to is None:
        for edge in EDGES:
            for number in range(2):
                make_unit(HERE / "data" / edge / f"1MB-{number}.bin", 1)
        return
    given.to.mkdir(parents=True, exist_ok=True)
    lay_out(given.to, [(int(size), given.units) for size in given.megabytes.split(",")])


if __name__ == "__main__":
    main(sys.argv[1:])
