"""The daemon's end of the socket to a worker: frames out and in by callbacks, so that a task costs no asyncio task."""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from cluster_agent.runtimes.process.worker.frames import (
    AT,
    SENDINGS,
    SHARED_BYTES,
    UNSENT,
    UNTIL,
    WORDS_BYTES,
    frame,
    split_frame,
)

NO_LIMIT: Final = (1 << 64) - 1
_RECEIVE_BYTES = 256 << 10


class Pipe:
    """Sends frames, calls `heard` with each that comes, and `ended` once when no more can come."""

    def __init__(
        self, connection: socket.socket, heard: Callable[[Any, bytes], None], ended: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._heard = heard
        self._ended = ended
        self._received = b""
        self._unsent = b""
        self.open = True
        connection.setblocking(False)
        self._loop.add_reader(connection, self._readable)

    def send(self, message: Any, pieces: Sequence[bytes] = ()) -> None:
        """Send a frame; nothing if the other end is gone."""
        self.send_frames((frame(message, pieces),))

    def send_frames(self, frames: Sequence[bytes]) -> None:
        """Send several at once, so that the other end wakes once."""
        if not self.open:
            return
        data = b"".join(frames)
        if self._unsent:
            self._unsent += data
            return
        self._unsent = data
        self._write()
        if self._unsent:
            self._loop.add_writer(self._connection, self._writable)

    def pass_descriptors(self, descriptors: Sequence[int]) -> None:
        """Pass descriptors, with a byte of its own; as the first of all."""
        socket.send_fds(self._connection, [b"\0"], descriptors)

    def close(self) -> None:
        """No more of it."""
        if self.open:
            self.open = False
            self._loop.remove_reader(self._connection)
            self._loop.remove_writer(self._connection)
            self._connection.close()

    def _readable(self) -> None:
        try:
            data = self._connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            self._ended()
            return
        self._received = self._received + data if self._received else data
        start = 0
        while (found := split_frame(self._received, start)) is not None:
            message, raw, start = found
            self._heard(message, raw)
        self._received = self._received[start:]

    def _writable(self) -> None:
        self._write()
        if not self._unsent:
            self._loop.remove_writer(self._connection)

    def _write(self) -> None:
        try:
            sent = self._connection.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:  # the reader sees the end too, and tells
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]


class Shared:
    """Memory that is shared with a worker: see `worker`. Its `descriptor` is passed on, and then closed."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("bdw-fed", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, SHARED_BYTES)
        self._memory = mmap.mmap(self.descriptor, SHARED_BYTES)
        self._whole = memoryview(self._memory)
        self._head = self._whole[:WORDS_BYTES]
        self._words = self._head.cast("Q")
        self._words[UNTIL] = NO_LIMIT

    @property
    def at(self) -> int:
        """The number of the job that the worker has begun last; 0 once this is closed."""
        return 0 if self._memory.closed else self._words[AT]

    def unsent(self) -> bytes:
        """The answers that the worker has not sent; nothing if it is sending them just now."""
        sendings, size = self._words[SENDINGS], self._words[UNSENT]
        if not 0 < size <= SHARED_BYTES - WORDS_BYTES:
            return b""
        data = bytes(self._whole[WORDS_BYTES : WORDS_BYTES + size])
        return data if self._words[SENDINGS] == sendings else b""

    def halt(self) -> None:
        """Let the worker begin no job before it has asked."""
        self._words[UNTIL] = 0

    def release(self) -> None:
        """Let it begin any."""
        self._words[UNTIL] = NO_LIMIT

    def passed(self) -> None:
        """The worker has the descriptor."""
        os.close(self.descriptor)

    def close(self) -> None:
        """No more of it."""
        for view in (self._words, self._head, self._whole):
            view.release()
        self._memory.close()
