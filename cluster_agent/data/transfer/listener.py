"""Connections that come in: a thread serves one while it has requests, the event loop waits on all that are idle.

So the number of threads bounds how many are served at a time, not how many are open: a peer may keep its connections
for its next request without costing one.

    accepted ─▶ thread: handshake, requests ─▶ idle: watched by the loop ─▶ thread: requests ─▶ …
                                          └─▶ closed                 └─▶ closed after a while
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor
from dataclasses import dataclass

import structlog

from cluster_agent.data.transfer.channel import Channel, address_of

_log = structlog.get_logger(__name__)
_BACKLOG = 512
_HANDSHAKE_SECONDS = 10.0
_STALLED_SECONDS = 30.0  # without a byte sent or received
_IDLE_SECONDS = 75.0
_LINGER_SECONDS = 0.02  # a thread waits so long for the next request before it gives the connection back


@dataclass(eq=False)
class _Connection:
    sock: socket.socket
    channel: Channel | None = None  # once its first thread has it
    idle: asyncio.TimerHandle | None = None
    serving: bool = True


class Listener:
    """Listens, with TLS if there is a context. `answer` serves one request in a thread; False ends the connection."""

    def __init__(self, context: ssl.SSLContext | None, executor: Executor, answer: Callable[[Channel], bool]) -> None:
        self._context = context
        self._executor = executor
        self._answer = answer
        self._connections: set[_Connection] = set()
        self._emptied = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None

    def start(self, host: str, port: int) -> int:
        """Listen; returns the port. OSError if it is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._accept)
        bound: int = self._sock.getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening, end all connections, and wait for their threads."""
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None
        for connection in list(self._connections):
            if connection.serving:
                (connection.channel or Channel(connection.sock)).abort()
            else:
                self._close(connection)
        while self._connections:
            self._emptied.clear()
            await self._emptied.wait()

    def _accept(self) -> None:
        assert self._sock is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                sock, _ = self._sock.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.let_in(sock)

    def let_in(self, sock: socket.socket) -> None:
        """Serve a connection that has come, be it another way than by our door. On the event loop."""
        if self._sock is None:
            sock.close()
            return
        connection = _Connection(sock)
        self._connections.add(connection)
        self._executor.submit(self._serve, connection)

    def _serve(self, connection: _Connection) -> None:
        """In a thread: what the connection asks for, until it has nothing to ask."""
        after = self._close
        try:
            channel = connection.channel or self._open(connection)
            while self._answer(channel):
                if not channel.readable(_LINGER_SECONDS):
                    after = self._park
                    break
        except (OSError, CancelledError):
            pass  # it is gone, or was none of ours, or what it wanted is not wanted here any more
        except Exception:
            _log.exception("a request broke")
        finally:
            self._loop.call_soon_threadsafe(after, connection)

    def _open(self, connection: _Connection) -> Channel:
        sock = connection.sock
        if self._context is not None:
            sock.settimeout(_HANDSHAKE_SECONDS)
            sender = address_of(sock)
            try:
                sock = connection.sock = self._context.wrap_socket(sock, server_side=True)
            except ssl.SSLError as error:  # no certificate, or none of ours
                _log.warning("a connection was refused", sender=sender, reason=str(error))
                raise
        sock.settimeout(_STALLED_SECONDS)
        connection.channel = Channel(sock)
        return connection.channel

    # ----------------------------------------------------------------------------------------- on the event loop

    def _park(self, connection: _Connection) -> None:
        """Wait for the next request without a thread."""
        if self._sock is None:
            self._close(connection)
            return
        connection.serving = False
        self._loop.add_reader(connection.sock, self._wake, connection)
        connection.idle = self._loop.call_later(_IDLE_SECONDS, self._close, connection)

    def _wake(self, connection: _Connection) -> None:
        self._unwatch(connection)
        connection.serving = True
        self._executor.submit(self._serve, connection)

    def _unwatch(self, connection: _Connection) -> None:
        if connection.idle is not None:
            connection.idle.cancel()
            connection.idle = None
            self._loop.remove_reader(connection.sock)

    def _close(self, connection: _Connection) -> None:
        self._unwatch(connection)
        channel = connection.channel or Channel(connection.sock)
        channel.abort()
        channel.close()
        self._connections.discard(connection)
        self._emptied.set()
