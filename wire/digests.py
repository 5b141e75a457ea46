"""Ids and content digests: the names by which units and tasks are the same wherever they are made again.

A task's id is a digest of what it is (run, step, inputs), a unit's of the task that made it and the port. So whoever
executes a task, however often, names its results alike, and a second result is recognised. Fields are length-prefixed
before they are hashed, so that no two different lists give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from blake3 import blake3

from wire.lines import run_of

ID_BYTES = 16
DIGEST_BYTES = 32
_READ_BYTES = 256 << 10  # stays in a core's cache between reading and hashing
_THREADS_FROM_BYTES = 64 << 20  # below this, starting threads costs more than it saves


def _pack(field: bytes) -> bytes:
    return len(field).to_bytes(4, "big") + field


def _identify(kind: bytes, fields: Sequence[bytes]) -> bytes:
    return blake3(kind + b"".join(map(_pack, fields))).digest(length=ID_BYTES)


def task_id(namespace: str, run: str, step: str, inputs: Sequence[tuple[str, Sequence[bytes]]]) -> bytes:
    """The 16-byte id of the task that executes `step` on `inputs`: (port, unit ids in order), in port order."""
    packed = _task_prefix(namespace, run, step)
    for port, units in inputs:
        packed += _pack(port.encode()) + _pack(b"".join(units))
    return blake3(packed).digest(length=ID_BYTES)


@lru_cache(maxsize=1024)
def _task_prefix(namespace: str, run: str, step: str) -> bytes:
    """What the ids of all tasks of a step of a run are made of, before they are hashed."""
    return b"task" + b"".join(_pack(field.encode()) for field in (namespace, run_of(run), step))


def source_task_id(namespace: str, run: str, step: str, index: int) -> bytes:
    """The 16-byte id that stands as the maker of the units of part `index` of a source."""
    return _identify(b"source", [namespace.encode(), run_of(run).encode(), step.encode(), index.to_bytes(8, "big")])


def unit_id(task: bytes, port: str, index: int) -> bytes:
    """The 16-byte id of the unit that `task` puts on `port` at `index`."""
    return _identify(b"unit", [task, port.encode(), index.to_bytes(8, "big")])


def unit_ids(task: bytes, port: str) -> Callable[[int], bytes]:
    """`unit_id` for many units of one port, by index."""
    packed = b"unit" + _pack(task) + _pack(port.encode()) + (8).to_bytes(4, "big")
    return lambda index: blake3(packed + index.to_bytes(8, "big")).digest(length=ID_BYTES)


def content_name(digest: bytes) -> bytes:
    """The id under which a content is kept that is no run's unit; `digest` is its 32-byte BLAKE3."""
    return digest[:ID_BYTES]


class ContentHasher:
    """Content digest of bytes that come in pieces."""

    def __init__(self) -> None:
        self._hasher = blake3()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add a piece."""
        self._hasher.update(data)

    def copy(self) -> ContentHasher:
        """One that has the pieces so far, and goes on by itself."""
        other = ContentHasher()
        other._hasher = self._hasher.copy()
        return other

    def digest(self) -> bytes:
        """The 32-byte BLAKE3 of all pieces so far."""
        return self._hasher.digest()


def bytes_digest(data: bytes) -> bytes:
    """The 32-byte BLAKE3 of `data`."""
    return blake3(data).digest()


def content_digest(path: Path, *, ours: bool = False) -> bytes:
    """The 32-byte BLAKE3 of a file. Blocks: call it in a thread for files of more than some megabytes.

    `ours`: nobody else can shorten it meanwhile, which would kill a process that has it mapped into its memory.
    """
    size = path.stat().st_size
    if ours or size >= _THREADS_FROM_BYTES:
        hasher = blake3(max_threads=blake3.AUTO if size >= _THREADS_FROM_BYTES else 1)
        hasher.update_mmap(path)
        return hasher.digest()
    hasher = blake3()
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
    return hasher.digest()
