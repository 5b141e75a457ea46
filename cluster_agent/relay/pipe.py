"""Bytes from one socket to another and back, on the event loop, until both ends have said all.

What one end does not take is not read from the other: each direction holds at most one piece, so the two slow each
other down by TCP alone. An end that has said all (it has shut its sending side down) is passed on, and the other goes
on answering. A pair through which nothing has passed for long is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

PIECE_BYTES: Final = 128 << 10
IDLE_SECONDS: Final = 300.0

# One for all pairs: it is filled and emptied again within a callback.
_scratch: Final = memoryview(bytearray(PIECE_BYTES))


class Pipe:
    """Two sockets, which are closed when it has ended. `moved` counts bytes: from `a` to `b`, and back."""

    def __init__(self, a: socket.socket, b: socket.socket, *, idle: float = IDLE_SECONDS) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = (a, b)
        self._idle = idle
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._ways = (_Way(self, a, b), _Way(self, b, a))
        for sock in self._sockets:
            sock.setblocking(False)

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes that were passed on, from `a` to `b` and from `b` to `a`."""
        there, back = self._ways
        return there.moved, back.moved

    async def run(self) -> None:
        """Pass on all that comes. OSError if an end breaks, or nothing comes for long."""
        watching = self._loop.create_task(self._watch())
        try:
            for way in self._ways:
                way.start()
            await self._ended
        finally:
            watching.cancel()
            for way in self._ways:
                way.stop()
            for sock in self._sockets:
                sock.close()

    def way_ended(self, error: OSError | None = None) -> None:
        """One direction has ended."""
        if self._ended.done():
            return
        if error is not None:
            self._ended.set_exception(error)
        elif all(way.over for way in self._ways):
            self._ended.set_result(None)

    async def _watch(self) -> None:
        """End it when nothing has passed between two looks."""
        before = (-1, -1)
        while self.moved != before:
            before = self.moved
            await asyncio.sleep(self._idle)
        self.way_ended(TimeoutError(f"nothing has passed for {self._idle:g} s"))


class _Way:
    """One direction."""

    def __init__(self, pipe: Pipe, source: socket.socket, sink: socket.socket) -> None:
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._sink = sink
        self._rest = memoryview(b"")
        self.moved = 0
        self.over = False

    def start(self) -> None:
        """Begin."""
        self._loop.add_reader(self._source, self._readable)

    def stop(self) -> None:
        """Look no more."""
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._sink)

    def _readable(self) -> None:
        try:
            count = self._source.recv_into(_scratch)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if not count:
            with contextlib.suppress(OSError):  # it has gone, which its own direction finds out
                self._sink.shutdown(socket.SHUT_WR)
            self._end()
        elif not self._send(_scratch[:count]):
            self._loop.remove_reader(self._source)

    def _writable(self) -> None:
        if self._send(self._rest):
            self._loop.remove_writer(self._sink)
            self._loop.add_reader(self._source, self._readable)

    def _send(self, piece: memoryview) -> bool:
        """Pass a piece on; whether it has all gone. What has not is kept and sent when there is room."""
        sent = 0
        if piece:
            try:
                sent = self._sink.send(piece)
            except BlockingIOError:
                pass
            except OSError as error:
                self._end(error)
                return False
        self.moved += sent
        if sent == len(piece):
            self._rest = memoryview(b"")
            return True
        if self._rest:
            self._rest = self._rest[sent:]
        else:
            self._rest = memoryview(bytes(piece[sent:]))
            self._loop.add_writer(self._sink, self._writable)
        return False

    def _end(self, error: OSError | None = None) -> None:
        self.over = True
        self._loop.remove_reader(self._source)
        self._pipe.way_ended(error)
