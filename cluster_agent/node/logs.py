"""What tasks wrote to their standard streams: kept in files, bounded for each task, read and followed by queries.

    <root>/<namespace>/<run>/<step>/<task hex>.<attempt>.log

A file is a sequence of frames: stream, position, length, bytes. The position counts all bytes that the task wrote, so a
jump in it is the count of what was left out: of a task that writes much, the first half of the bound goes to the file
as it comes, and of the rest the newest half is held in memory until the task ends. A query reads the files and then
what is in memory; a following one is woken by the write itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import struct
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cluster_agent.data.base import path_part

KEPT_BYTES = 8 << 20
KEPT_RUNS = 20
PIECE_BYTES = 256 << 10
_FRAME = struct.Struct("<BQI")
_ENDED = ".ended"


class LogName(NamedTuple):
    """Whose log it is."""

    namespace: str
    run: str
    step: str
    task: bytes
    attempt: int


@dataclass(frozen=True)
class Piece:
    """Some of a log: `stream` is 1 or 2; `left_out` bytes were dropped before `data`."""

    log: LogName
    stream: int
    data: bytes
    left_out: int = 0


@dataclass
class _Cursor:
    """How far a query has read a log."""

    offset: int = 0  # in the file
    position: int = 0  # of the next byte


@dataclass(eq=False)
class _Watch:
    """A following query: which logs have changed since it last looked."""

    changed: set[LogName] = field(default_factory=set)
    ended: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class TaskLog:
    """The log of one attempt while it runs; a `Sink`."""

    def __init__(self, logs: Logs, name: LogName, path: Path, kept: int) -> None:
        self.name = name
        self._logs = logs
        self._half = kept // 2
        self._path = path
        self._file = -1  # opened by the first write: most tasks say nothing
        self._position = 0
        self._closed = False
        self._tail: deque[tuple[int, int, bytes]] = deque()  # stream, position, bytes
        self._tail_bytes = 0

    def write(self, stream: int, data: bytes) -> None:
        """Add what the task wrote; what comes after its end is nobody's."""
        if self._closed:
            return
        room = self._half - self._position
        if room > 0:
            self._append(stream, self._position, data[:room])
        elif room <= 0:
            room = 0
        if rest := data[room:]:
            self._tail.append((stream, self._position + room, rest))
            self._tail_bytes += len(rest)
            while self._tail_bytes - len(self._tail[0][2]) >= self._half:
                self._tail_bytes -= len(self._tail.popleft()[2])
        self._position += len(data)
        self._logs.changed(self.name)

    def note(self, stream: int, text: str) -> None:
        """Add a line of our own."""
        self.write(stream, text.encode() + b"\n")

    def tail(self, position: int) -> Iterator[tuple[int, int, bytes]]:
        """What is held in memory from `position` on."""
        return (frame for frame in self._tail if frame[1] >= position)

    def close(self) -> None:
        """The task has ended."""
        for frame in self._tail:
            self._append(*frame)
        self._tail.clear()
        if self._file >= 0:
            os.close(self._file)
        self._closed = True
        self._logs.closed(self)

    def _append(self, stream: int, position: int, data: bytes) -> None:
        try:
            if self._file < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                (self._path.parent.parent / _ENDED).unlink(missing_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            os.writev(self._file, [_FRAME.pack(stream, position, len(data)), data])
        except OSError:  # a full disk loses logs, not tasks
            self._half = 0


class Logs:
    """All logs of the node below `root`. A task's are bounded by `kept` bytes."""

    def __init__(self, root: Path, *, kept: int = KEPT_BYTES, kept_runs: int = KEPT_RUNS) -> None:
        self._root = root
        self._kept = kept
        self._kept_runs = kept_runs
        self._open: dict[LogName, TaskLog] = {}
        self._watches: dict[tuple[str, str], set[_Watch]] = {}
        root.mkdir(parents=True, exist_ok=True)

    def open(self, name: LogName) -> TaskLog:
        """The log for an attempt that starts now; a former one of the same attempt is replaced."""
        log = self._open[name] = TaskLog(self, name, self._path(name), self._kept)
        return log

    def changed(self, name: LogName) -> None:
        """There is more to read in a log."""
        for watch in self._watches.get((name.namespace, name.run), ()):
            watch.changed.add(name)
            watch.wake.set()

    def closed(self, log: TaskLog) -> None:
        """A log's file has all of it now."""
        if self._open.get(log.name) is log:
            del self._open[log.name]
        self.changed(log.name)

    async def read(self, namespace: str, run: str, step: str, task: bytes, follow: bool) -> AsyncGenerator[Piece, None]:
        """The logs of a run (of one step, of one task where given); with `follow` until the run ends."""
        watch = _Watch(changed=set(self._names(namespace, run)))
        watches = self._watches.setdefault((namespace, run), set())
        watches.add(watch)
        cursors: dict[LogName, _Cursor] = {}
        try:
            while True:
                watch.wake.clear()
                changed, watch.changed = watch.changed, set()
                for name in sorted(changed):
                    if step in ("", name.step) and task in (b"", name.task):
                        for piece in self._pieces(name, cursors.setdefault(name, _Cursor())):
                            yield piece
                if not follow or (watch.ended and not watch.changed):
                    return
                await watch.wake.wait()
        finally:
            watches.discard(watch)
            if not watches:
                self._watches.pop((namespace, run), None)

    async def end_run(self, namespace: str, run: str) -> None:
        """No more will be written of a run. Its logs stay as long as it is among the newest that ended."""
        for watch in self._watches.get((namespace, run), ()):
            watch.ended = True
            watch.wake.set()
        directory = self._root / path_part(namespace) / path_part(run)
        if directory.is_dir():
            (directory / _ENDED).touch()
            await asyncio.to_thread(self._prune)

    # ---------------------------------------------------------------------------------------------------- inside

    def _path(self, name: LogName) -> Path:
        directory = self._root / path_part(name.namespace) / path_part(name.run) / path_part(name.step)
        return directory / f"{name.task.hex()}.{name.attempt}.log"

    def _names(self, namespace: str, run: str) -> Iterator[LogName]:
        directory = self._root / path_part(namespace) / path_part(run)
        if not directory.is_dir():
            return
        for path in directory.glob("*/*.log"):
            task, attempt, _ = path.name.split(".")
            yield LogName(namespace, run, path.parent.name, bytes.fromhex(task), int(attempt))

    def _pieces(self, name: LogName, cursor: _Cursor) -> Iterator[Piece]:
        gathered: list[bytes] = []
        stream = left_out = size = 0

        def flush() -> Iterator[Piece]:
            if gathered:
                yield Piece(name, stream, b"".join(gathered), left_out)

        for frame_stream, position, data in self._frames(name, cursor):
            missing = position - cursor.position
            cursor.position = position + len(data)
            if missing or frame_stream != stream or size + len(data) > PIECE_BYTES:
                yield from flush()
                gathered, stream, left_out, size = [], frame_stream, missing, 0
            gathered.append(data)
            size += len(data)
        yield from flush()

    def _frames(self, name: LogName, cursor: _Cursor) -> Iterator[tuple[int, int, bytes]]:
        log = self._open.get(name)
        with contextlib.suppress(FileNotFoundError), self._path(name).open("rb") as file:
            file.seek(cursor.offset)
            while len(head := file.read(_FRAME.size)) == _FRAME.size:
                stream, position, length = _FRAME.unpack(head)
                data = file.read(length)
                if len(data) < length:  # the daemon was killed within the write
                    break
                cursor.offset += _FRAME.size + length
                if position >= cursor.position:
                    yield stream, position, data
        if log is not None:
            yield from list(log.tail(cursor.position))

    def _prune(self) -> None:
        ended = sorted(self._root.glob(f"*/*/{_ENDED}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for mark in ended[self._kept_runs :]:
            shutil.rmtree(mark.parent, ignore_errors=True)
