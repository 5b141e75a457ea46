"""What the tests' kind environment is made from: the built-in topology, the examples' data and the tests' own.

`lay_out` writes a topology and the files that it names. edge1 has two nodes, so that one can be drained. It has a Redis
and a bucket, cloud1 the same bucket, and edge2 its disk, as in the federation of processes.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import stores
import worked
import yaml
from federation import TOPOLOGY, lay_out_data
from thesis import EDGES, dataset_name, make_unit

from bdw_fed.kind.preparing import DEFAULT, EXAMPLES

MADE = "bdw-fed-examples:1"
"""Of the examples' steps that need more than Python; made from `examples/images`."""
IMAGES = ("python:3.11-slim", "busybox:1", MADE, stores.IMAGE)
"""Of the steps, and of servers; they must be on this machine."""
UNITS = 10
"""Of the chain, 1 MB each, at each edge."""
LARGE_MB = 60
"""Of the one unit that is to fill a link."""


def lay_out(directory: Path) -> Path:
    """The topology with its data in `directory`; the examples' are where they are. Returns the topology file."""
    content = yaml.safe_load(DEFAULT.read_text())
    spec = content["spec"]
    edge = next(cluster for cluster in spec["clusters"] if cluster["name"] == "edge1")
    edge["nodes"] = [{**edge["nodes"][0], "name": name} for name in ("n1", "n2")]
    for cluster in spec["clusters"]:
        if cluster["name"] in stores.STORAGE:
            cluster["storage"] = stores.STORAGE[cluster["name"]]
    spec["datasets"] += yaml.safe_load(TOPOLOGY.read_text())["spec"]["datasets"]
    lay_out_data(directory)
    for example in ("flights", "thesis-chain"):
        (directory / example).symlink_to(EXAMPLES / example)
    spec["datasets"] += [_chain(directory), _large(directory), *worked.lay_out(directory)]
    file = directory / "topology.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def _chain(directory: Path) -> dict[str, Any]:
    parts = []
    for edge in EDGES:
        for number in range(UNITS):
            path = f"data/{edge}/{dataset_name(1, UNITS)}/{number}.bin"
            make_unit(directory / path, 1)
            parts.append({"at": edge, "path": path})
    return {"name": dataset_name(1, UNITS), "parts": parts}


def _large(directory: Path) -> dict[str, Any]:
    """Of bytes that don't get fewer by compression."""
    path = "data/edge1/large.bin"
    chance = random.Random("large")  # the same bytes each time
    with (directory / path).open("wb") as file:
        for _ in range(LARGE_MB):
            file.write(chance.randbytes(1_000_000))
    return {"name": "large", "parts": [{"at": "edge1", "path": path}]}
