"""Splits bytes as a node would, and reads the parts."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from unittest import mock

from cluster_agent.data.merge import merge
from cluster_agent.data.records import blocks
from cluster_agent.data.split import Part, SplitSpec, make_parts
from wire.digests import bytes_digest


def parts_of(
    content: bytes, spec: SplitSpec, *, block: int = blocks.BLOCK_BYTES, small: int = 15
) -> list[tuple[Part, bytes]]:
    """The parts of a content, and the bytes of each; read in blocks of that size."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(blocks, "BLOCK_BYTES", block):
        source = Path(folder) / "source"
        source.write_bytes(content)
        lists = make_parts(source, spec, lambda: Path(folder), lambda: False, small)
        parts = [(part, bytes_of(part)) for part in itertools.chain.from_iterable(lists)]
        left = {path.name for path in Path(folder).iterdir()} - {"source"}
    assert [part.index for part, _ in parts] == list(range(len(parts)))
    assert all((part.size, part.digest) == (len(data), bytes_digest(data)) for part, data in parts)
    assert all(part.data is None or part.size <= small for part, _ in parts)
    assert left == {part.path.name for part, _ in parts if part.path is not None}, "no other file is left"
    return parts


def bytes_of(part: Part) -> bytes:
    """What is in a part."""
    if part.data is None:
        assert part.path is not None
        return part.path.read_bytes()
    return part.data


def split(content: bytes, spec: SplitSpec, *, block: int = blocks.BLOCK_BYTES, small: int = 15) -> list[bytes]:
    """The parts' bytes."""
    return [data for _, data in parts_of(content, spec, block=block, small=small)]


def merged(contents: list[bytes], form: str, *, block: int = blocks.BLOCK_BYTES) -> bytes:
    """Contents merged, in their order."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(blocks, "BLOCK_BYTES", block):
        units = []
        for number, content in enumerate(contents):
            path = Path(folder) / f"unit{number}"
            path.write_bytes(content)
            units.append((f"rows-{number}", path))
        target = Path(folder) / "target"
        made = merge(units, form, target, lambda: False)
        data = target.read_bytes()
    assert (made.size, made.digest) == (len(data), bytes_digest(data))
    return data
