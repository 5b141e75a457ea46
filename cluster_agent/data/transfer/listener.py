"""Connections that come in: a thread serves one while it has requests, the event loop waits on all that are idle.

So the number of threads bounds how many are served at a time, not how many are open: a peer may keep its connections
for its next request without costing one. A handshake costs no thread either, so whoever opens connections and says
nothing keeps nobody else from being served. Those are closed after a while, and the oldest of them at once when there
are too many connections. Of the threads, only a part serves callers who have shown no certificate.

    accepted ─▶ handshake, by the loop ─▶ thread: requests ─▶ idle: watched by the loop ─▶ thread: requests ─▶ …
                                    └─▶ closed            └─▶ closed                └─▶ closed after a while
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
_MOST = 4096  # connections
_MOST_STRANGERS = 16  # served at a time of those who have shown no certificate
_PAUSE_SECONDS = 1.0
_LINGER_SECONDS = 0.02  # a thread waits so long for the next request before it gives the connection back


@dataclass(eq=False)
class _Connection:
    sock: socket.socket
    channel: Channel | None = None  # once its first thread has it
    idle: asyncio.TimerHandle | None = None
    serving: bool = False
    stranger: bool = False


class Listener:
    """Listens, with TLS if there is a context. `answer` serves one request in a thread; False ends the connection."""

    def __init__(self, context: ssl.SSLContext | None, executor: Executor, answer: Callable[[Channel], bool]) -> None:
        self._context = context
        self._executor = executor
        self._answer = answer
        self._connections: set[_Connection] = set()
        self._greeting: dict[_Connection, None] = {}  # in their handshake, the oldest first
        self._strangers = 0
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
        if self._sock is None:
            return
        try:
            self._accept_all(self._sock)
        except OSError as error:  # no descriptors are left: it would fail again at once
            _log.error("connections can't be accepted", error=str(error))
            self._loop.remove_reader(self._sock)
            self._loop.call_later(_PAUSE_SECONDS, self._accept_again)

    def _accept_again(self) -> None:
        if self._sock is not None:
            self._loop.add_reader(self._sock, self._accept)

    def _accept_all(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                sock, _ = listening.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.let_in(sock)

    def let_in(self, sock: socket.socket) -> None:
        """Serve a connection that has come, be it another way than by our door. On the event loop."""
        if self._sock is None or not self._has_room():
            sock.close()
            return
        connection = _Connection(sock)
        self._connections.add(connection)
        if self._context is None:
            self._begin(connection)
        else:
            self._greet(connection, self._context)

    def _has_room(self) -> bool:
        """Room for a connection, if need be that of the one whose handshake has begun first."""
        if len(self._connections) < _MOST:
            return True
        oldest = next(iter(self._greeting), None)
        if oldest is None:
            return False
        self._close(oldest)
        return True

    def _greet(self, connection: _Connection, context: ssl.SSLContext) -> None:
        """Begin a handshake."""
        sock = connection.sock
        sock.setblocking(False)
        try:
            connection.sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:  # it is gone already
            self._close(connection)
            return
        self._greeting[connection] = None
        connection.idle = self._loop.call_later(_HANDSHAKE_SECONDS, self._close, connection)
        self._shake(connection)

    def _shake(self, connection: _Connection) -> None:
        """Go on with a handshake as far as it goes now."""
        sock = connection.sock
        assert isinstance(sock, ssl.SSLSocket)
        self._loop.remove_writer(sock)
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self._loop.add_reader(sock, self._shake, connection)
            return
        except ssl.SSLWantWriteError:
            self._loop.add_writer(sock, self._shake, connection)
            return
        except (OSError, ValueError) as error:
            if isinstance(error, ssl.SSLError):  # a certificate that is none of ours
                _log.warning("a connection was refused", sender=address_of(sock), reason=str(error))
            self._close(connection)
            return
        self._unwatch(connection)
        connection.stranger = not sock.getpeercert()
        self._begin(connection)

    def _begin(self, connection: _Connection) -> None:
        """Let a thread serve it, unless too many strangers are being served."""
        if connection.stranger:
            if self._strangers >= _MOST_STRANGERS:
                self._close(connection)
                return
            self._strangers += 1
        connection.serving = True
        if connection.channel is None:
            connection.sock.settimeout(_STALLED_SECONDS)
            connection.channel = Channel(connection.sock)
        self._executor.submit(self._serve, connection, connection.channel)

    def _left(self, connection: _Connection, after: Callable[[_Connection], None]) -> None:
        """Its thread has left it."""
        connection.serving = False
        if connection.stranger:
            self._strangers -= 1
        after(connection)

    def _serve(self, connection: _Connection, channel: Channel) -> None:
        """In a thread: what the connection asks for, until it has nothing to ask."""
        after = self._close
        try:
            while self._answer(channel):
                if not channel.readable(_LINGER_SECONDS):
                    after = self._park
                    break
        except (OSError, CancelledError):
            pass  # it is gone, or was none of ours, or what it wanted is not wanted here any more
        except Exception:
            _log.exception("a request broke")
        finally:
            self._loop.call_soon_threadsafe(self._left, connection, after)

    # ----------------------------------------------------------------------------------------- on the event loop

    def _park(self, connection: _Connection) -> None:
        """Wait for the next request without a thread."""
        if self._sock is None:
            self._close(connection)
            return
        self._loop.add_reader(connection.sock, self._wake, connection)
        connection.idle = self._loop.call_later(_IDLE_SECONDS, self._close, connection)

    def _wake(self, connection: _Connection) -> None:
        self._unwatch(connection)
        self._begin(connection)

    def _unwatch(self, connection: _Connection) -> None:
        if connection.idle is not None:
            connection.idle.cancel()
            connection.idle = None
            self._loop.remove_reader(connection.sock)
            self._loop.remove_writer(connection.sock)
            self._greeting.pop(connection, None)

    def _close(self, connection: _Connection) -> None:
        self._unwatch(connection)
        channel = connection.channel or Channel(connection.sock)
        channel.abort()
        channel.close()
        self._connections.discard(connection)
        self._emptied.set()
