"""A child's standard output and error as pipes that the daemon reads, attributed to whatever task runs just now.

A worker's streams live as long as it does, its tasks come one after another: the owner sets `sink` when a task begins,
and calls `drain` when the worker has said that it ended, which hands over what is still in the pipes. An owner that
can't know what runs just now sets `before` and `after`, which are called around what is read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from cluster_agent.runtimes.base import Sink

_READ_BYTES = 64 << 10
_READS_A_TURN = 8


class LastWords:
    """A sink that keeps the end of what is written, for messages about failures."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._kept = {1: b"", 2: b""}

    def write(self, stream: int, data: bytes) -> None:
        """Keep the last bytes of each stream."""
        self._kept[stream] = (self._kept[stream] + data[-self._limit :])[-self._limit :]

    def text(self, stream: int) -> str:
        """The kept end of a stream."""
        return self._kept[stream].decode("utf-8", "ignore" if len(self._kept[stream]) == self._limit else "replace")


class Tee:
    """A sink that writes to two."""

    def __init__(self, first: Sink, second: Sink) -> None:
        self._sinks = (first, second)

    def write(self, stream: int, data: bytes) -> None:
        """Write to both."""
        for sink in self._sinks:
            sink.write(stream, data)


class Streams:
    """The reading ends of two pipes. `child_ends` are given away once."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, int] = {}  # descriptor -> stream
        self.child_ends: list[int] = []
        for stream in (1, 2):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reader, False)
            self._open[reader] = stream
            self.child_ends.append(writer)
            self._loop.add_reader(reader, self._ready, reader)

    def drain(self) -> None:
        """Hand over all that has been written up to now."""
        for descriptor in list(self._open):
            while self._read(descriptor):
                pass

    def close(self) -> None:
        """Stop reading."""
        for descriptor in list(self._open):
            self._end(descriptor)

    def _ready(self, descriptor: int) -> None:
        self.before()
        for _ in range(_READS_A_TURN):
            if not self._read(descriptor):
                break
        self.after()

    def _read(self, descriptor: int) -> bool:
        """Read once; False if there is no more just now."""
        if descriptor not in self._open:
            return False
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._end(descriptor)
            return False
        self.sink.write(self._open[descriptor], data)
        return len(data) == _READ_BYTES

    def _end(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        del self._open[descriptor]
        os.close(descriptor)
