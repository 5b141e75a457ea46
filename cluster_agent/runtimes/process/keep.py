"""Files in which workers keep the answers of a row, before its next job begins.

In a row each job's input is the output of the one before (see `base`), and the daemon hears of them when some have
ended. Whatever dies meanwhile: a job that has begun did so with an input that is found again. So the daemon writes what
the jobs are into a file that it shares with the worker, and the worker appends each answer, under `power` durability
with a sync.

    <root>/<number>   frames: kind, length, CRC-32, body      R: what the daemon says of a row   A: an answer

What the daemon has told, or taken into its journal, is not needed here any more: the file is cut when the next row
begins. A file goes from a worker that has ended to the next one, and all go with the daemon. Those that are found at
the start were left by one that was killed.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cluster_agent.runtimes.base import LeftRow
from cluster_agent.runtimes.process.worker import ANSWER, KEPT, answers

ROW: Final = b"R"


class Keep:
    """One file. `descriptor` is passed to the worker, and stays ours too."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._directory: Path | None = path.parent  # whose entry for it is not on the disk yet

    def begin(self, row: bytes, *, durable: bool, forget: bool) -> None:
        """The next answers are of this row; `forget`: those of former ones are not needed. OSError."""
        if forget:
            os.ftruncate(self.descriptor, 0)
        os.write(self.descriptor, KEPT.pack(ROW, len(row), zlib.crc32(row)) + row)
        if durable and self._directory is not None:
            _sync_directory(self._directory)
            self._directory = None

    def close(self) -> None:
        """No more of it here."""
        os.close(self.descriptor)


class Keeps:
    """All files of one daemon, in a directory of its own. What was `left` there is read first. Blocks; OSError."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._numbers = itertools.count(1)
        self._free: list[Keep] = []
        if not root.exists():
            root.mkdir(mode=0o700, parents=True)
            _sync_directory(root.parent)
        self.left = [row for path in sorted(root.iterdir()) for row in _rows(path.read_bytes())]

    def open(self) -> None:
        """What was left has been taken, and is removed."""
        self.left = []
        for path in self._root.iterdir():
            path.unlink()

    def take(self) -> Keep:
        """A file for a new worker."""
        return self._free.pop() if self._free else Keep(self._root / str(next(self._numbers)))

    def give_back(self, keep: Keep) -> None:
        """Its worker is gone."""
        self._free.append(keep)

    def close(self) -> None:
        """Remove all."""
        while self._free:
            self._free.pop().close()
        self.open()


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _rows(data: bytes) -> Iterator[LeftRow]:
    """What a file tells, up to where a crash has torn it."""
    row: LeftRow | None = None
    for kind, body in _frames(data):
        if kind == ROW:
            if row is not None:
                yield row
            row = LeftRow(body, [])
        elif row is not None:
            [(_, seconds, outputs, failure)] = answers(body)
            if failure is None:
                row.ends.append((seconds, [each if isinstance(each, bytes) else None for each in outputs]))
    if row is not None:
        yield row


def _frames(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 0
    while start + KEPT.size <= len(data):
        kind, size, checksum = KEPT.unpack_from(data, start)
        body = data[start + KEPT.size : start + KEPT.size + size]
        if kind not in (ROW, ANSWER) or len(body) < size or zlib.crc32(body) != checksum:
            return
        yield kind, body
        start += KEPT.size + size
