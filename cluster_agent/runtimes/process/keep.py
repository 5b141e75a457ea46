"""Files in which workers keep the answers of a row, before its next job begins.

In a row each job's input is the output of the one before (see `base`), and the daemon hears of them when some have
ended. Whatever dies meanwhile: a job that has begun did so with an input that is found again. So the daemon writes what
the jobs are into a file that it shares with the worker, and the worker appends each answer, under `power` durability
with a sync.

    <root>/<number>   frames: kind, row, length, CRC-32, body     R: what the daemon says of the row   A: an answer

A file has one row: the next one is written over it, and frames of another row behind it are old. Files that are synced
have their size beforehand, so that a sync writes nothing but the answer. A file goes from a worker that has ended to
the next one, and all go with the daemon. Those that are found at the start were left by one that was killed.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cluster_agent.data.sync import sync_paths
from cluster_agent.runtimes.base import LeftRow
from cluster_agent.runtimes.process.worker.frames import ANSWER, KEPT, answers

ROW: Final = b"R"
_FILE_BYTES: Final = 256 << 10


class Keep:
    """One file. `descriptor` is passed to the worker, and stays ours too."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._directory: Path | None = path.parent  # whose entry for it is not on the disk yet
        self._row = 0

    def begin(self, row: bytes, durable: bool) -> tuple[int, int]:
        """The next answers are of this row: its number, and where they are written. OSError."""
        if durable and self._directory is not None:
            os.pwrite(self.descriptor, bytes(_FILE_BYTES), 0)
            os.fsync(self.descriptor)
            sync_paths([self._directory], self._directory)
            self._directory = None
        self._row += 1
        start = os.pwrite(self.descriptor, KEPT.pack(ROW, self._row, len(row), zlib.crc32(row)) + row, 0)
        return self._row, start

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
            sync_paths([root.parent], root.parent)
        self.left = [row for path in sorted(root.iterdir()) if (row := _row(path.read_bytes())) is not None]

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


def _row(data: bytes) -> LeftRow | None:
    """What a file tells, up to where a crash has torn it."""
    frames = _frames(data)
    kind, said = next(frames, (b"", b""))
    if kind != ROW:
        return None
    row = LeftRow(said, [])
    for _, body in frames:
        [(_, seconds, outputs, _)] = answers(body)
        row.ends.append((seconds, [each if isinstance(each, bytes) else None for each in outputs]))
    return row


def _frames(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = row = 0
    while start + KEPT.size <= len(data):
        kind, of, size, checksum = KEPT.unpack_from(data, start)
        body = data[start + KEPT.size : start + KEPT.size + size]
        if kind != (ANSWER if start else ROW) or (start and of != row) or zlib.crc32(body) != checksum:
            return
        yield kind, body
        row = of
        start += KEPT.size + size
