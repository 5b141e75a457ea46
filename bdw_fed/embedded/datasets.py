"""The sizes of a topology's datasets, measured where the files lie on this machine, and which of them are not there.

A plan weighs bytes, so a topology without sizes plans blindly. What its author wrote is not touched; a part without a
size gets the size of its file, if it is there. Every line stays the line that it was, because the hub tells by lines
what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from topology.model import Topology
from topology.problems import Positions, Problem

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_KINDS = ("parts", "replicas")
_ON_ONE_LINE: dict[str, Any] = {"width": 1 << 30, "allow_unicode": True}


def with_sizes(text: str, data_root: Path) -> str:
    """The topology in `text` (one YAML document) with the sizes that it lacks; `text` itself where none is added."""
    try:
        content: Any = yaml.load(text, Loader=_Loader)  # noqa: S506 - is safe
        found = [
            (place, part, size)
            for number, dataset in enumerate(content["spec"]["datasets"])
            for kind in _KINDS
            for index, part in enumerate(dataset.get(kind) or [])
            if "size" not in part and (size := _size(data_root, part["path"])) is not None
            for place in [("spec", "datasets", number, kind, index)]
        ]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return text  # what is wrong with it, the hub says with line and field
    if not found:
        return text
    for _, part, size in found:
        part["size"] = size
    written = _rewritten(text, {place: part for place, part, _ in found})
    try:
        same = yaml.load(written, Loader=_Loader) == content  # noqa: S506 - is safe
    except yaml.YAMLError:
        same = False
    if same:
        return written
    dumped: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False)  # as with anchors: right, but on other lines
    return dumped


def absent(topology: Topology, where: Positions, data_root: Path) -> Iterator[Problem]:
    """A warning for each part of a dataset that is not on this machine where it should be."""
    for number, dataset in enumerate(topology.spec.datasets):
        for kind in _KINDS:
            for index, part in enumerate(getattr(dataset, kind) or ()):
                if not (data_root / part.path).exists():
                    message = f"there is no {data_root / part.path}, so that runs which read {dataset.name} will fail"
                    remedy = "put it there, or correct the path: it is relative to where datasets lie (up --data DIR)"
                    yield where.problem(("spec", "datasets", number, kind, index, "path"), message, remedy, "warning")


def _size(data_root: Path, path: str) -> int | None:
    """The bytes of a part: of its file, or of all files in its directory."""
    place = data_root / path
    if place.is_file():
        return place.stat().st_size
    if place.is_dir():
        return sum(entry.stat().st_size for entry in place.rglob("*") if entry.is_file())
    return None


def _rewritten(text: str, values: dict[tuple[Any, ...], Any]) -> str:
    """`text` with other values at these places, each on the line where it began, with as many lines as before."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    root = yaml.compose(text, Loader=_Loader)
    spans = []
    for place, value in values.items():
        node = _node(root, place)
        begin, end = (starts[mark.line] + mark.column for mark in (node.start_mark, node.end_mark))
        spans.append((begin, end, value))
    for begin, end, value in sorted(spans, key=lambda span: -span[0]):
        _, newline, indent = text[begin:end].rpartition("\n")
        after = indent if newline and not indent.strip() else ""
        told = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, **_ON_ONE_LINE).strip()
        text = text[:begin] + told + "\n" * text.count("\n", begin, end) + after + text[end:]
    return text


def _node(node: Any, place: tuple[Any, ...]) -> Any:
    for part in place:
        if isinstance(part, int):
            node = node.value[part]
        else:
            node = next(value for key, value in node.value if key.value == part)
    return node
