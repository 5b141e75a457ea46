"""The sizes of a topology's datasets, measured where the files lie on this machine.

A plan weighs bytes, so a topology without sizes plans blindly. What its author wrote is not touched; a part without a
size gets the size of its file, if it is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def with_sizes(text: str, data_root: Path) -> str:
    """The topology in `text` (one YAML document) with the sizes that it lacks; `text` itself where none is added."""
    try:
        content: Any = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - is safe
        datasets = content["spec"]["datasets"]
        parts = [part for dataset in datasets for kind in ("parts", "replicas") for part in dataset.get(kind) or []]
        missing = [part for part in parts if "size" not in part]
        sizes = [_size(data_root, part["path"]) for part in missing]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return text  # what is wrong with it, the hub says with line and field
    if all(size is None for size in sizes):
        return text
    for part, size in zip(missing, sizes, strict=True):
        if size is not None:
            part["size"] = size
    dumped: str = yaml.dump(content, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
    return dumped


def _size(data_root: Path, path: str) -> int | None:
    """The bytes of a part: of its file, or of all files in its directory."""
    place = data_root / path
    if place.is_file():
        return place.stat().st_size
    if place.is_dir():
        return sum(entry.stat().st_size for entry in place.rglob("*") if entry.is_file())
    return None
