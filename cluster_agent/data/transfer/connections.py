"""Requests to data servers by threads, over connections that are kept for the next request.

An `Exchange` is what one thread does with one server: it takes an idle connection or opens one, asks, reads the answer,
and gives the connection back if it is still good for another request. A connection that was idle may have been closed
by the server meanwhile, so a request that gets no answer at all on such a one is asked once more on a fresh one.

For much to pull the exchange asks first whether the server would rather send without TLS (see `plain`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import GoneError
from cluster_agent.data.transfer.channel import BrokenError, Channel, head
from cluster_agent.relay.dialling import Routes
from wire.identity import member_named
from wire.identity import server_name as name_of
from wire.identity.revocations import Revocations

UPLOAD_OFFSET: Final = "Upload-Offset"
_CONNECT_SECONDS = 10.0
_STALLED_SECONDS = 30.0
_IDLE_SECONDS = 60.0
_PLAIN_BYTES = 1 << 20  # below this, asking costs more than TLS
_PASS_SECONDS = 30.0  # half of what a token is good for
_REFUSED_SECONDS = 600.0  # for so long a server's plain port that failed is not tried again
_OK = (200, 201, 202, 206)
_WORDS_BYTES = 16 << 10  # of why something is refused

T = TypeVar("T")
Body = bytes | tuple[Path, int, int]
"""Bytes, or a file with offset and count."""


@dataclass(frozen=True)
class Source:
    """Where a unit can be had: "host:port", and the name that the server's certificate must carry."""

    key: UnitKey
    address: str
    server_name: str


class RefusedError(Exception):
    """The server answered, and trying again will not change its answer."""


class Connections:
    """Idle connections by where they lead, and what servers said about plain transfers. Used by threads.

    Servers to which `routes` lead are reached over a relay, and never asked to send without TLS.
    """

    def __init__(
        self, context: ssl.SSLContext, routes: Routes | None = None, revocations: Revocations | None = None
    ) -> None:
        self._context = context
        self._routes = routes
        self._revocations = revocations or Revocations()
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[tuple[Channel, float]]] = {}
        self._plain: dict[tuple[str, str], tuple[str, str, float]] = {}
        self._closed = False

    def meant(self, server_name: str) -> str:
        """The name to expect of a server now: its certificate of when we were told of it may be revoked since."""
        member = member_named(server_name)
        if member is None or not self._revocations.refusal(member):
            return server_name
        return name_of(replace(member, generation=self._revocations.valid_from(member.name)))

    def take(self, address: str, server_name: str) -> Channel | None:
        """An idle connection; None if there is none."""
        with self._lock:
            idle = self._idle.get((address, server_name))
            return idle.pop()[0] if idle else None

    def open(self, address: str, server_name: str) -> Channel:
        """A new connection; with TLS if there is a server name. OSError."""
        if self._routes is not None and self._routes.leads_to_server(server_name):
            sock = self._routes.dial_server(server_name)
        else:
            host, _, port = address.rpartition(":")
            sock = socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(_CONNECT_SECONDS)
            if server_name:
                sock = self._context.wrap_socket(sock, server_hostname=server_name)
            sock.settimeout(_STALLED_SECONDS)
        except BaseException:
            sock.close()
            raise
        return Channel(sock)

    def give_back(self, address: str, server_name: str, channel: Channel) -> None:
        """The connection is idle. Those that have been for long are closed."""
        now = time.monotonic()
        closed = []
        with self._lock:
            if self._closed:
                closed.append(channel)
            else:
                self._idle.setdefault((address, server_name), []).append((channel, now))
            for where, idle in list(self._idle.items()):
                while idle and idle[0][1] < now - _IDLE_SECONDS:
                    closed.append(idle.pop(0)[0])
                if not idle:
                    del self._idle[where]
        for each in closed:
            each.close()

    def plain(self, source: Source) -> tuple[str, str] | None:
        """Address and token for a server that offers plain transfers; ("", "") if it does not, None if not known."""
        if self._routes is not None and self._routes.leads_to_server(source.server_name):
            return "", ""
        with self._lock:
            where = source.address, self.meant(source.server_name)
            address, token, until = self._plain.get(where, ("", "", 0.0))
        return (address, token) if until > time.monotonic() else None

    def remember_plain(self, source: Source, address: str, token: str, seconds: float = _PASS_SECONDS) -> None:
        """What a server said, for a while."""
        with self._lock:
            until = time.monotonic() + seconds
            self._plain[source.address, self.meant(source.server_name)] = (address, token, until)

    def close(self) -> None:
        """Close what is idle, now and from now on."""
        with self._lock:
            self._closed = True
            channels = [channel for idle in self._idle.values() for channel, _ in idle]
            self._idle.clear()
        for channel in channels:
            channel.close()


class Answer:
    """What a server answered: HTTP's status, headers by lower-case names, and a body that is to be read."""

    def __init__(self, channel: Channel, status: int, headers: dict[str, str], bodiless: bool) -> None:
        told = headers.get("content-length", "")
        self._channel = channel
        self.status = status
        self.headers = headers
        self.last = headers.get("connection", "").lower() == "close"  # the server ends the connection
        self.left = 0 if bodiless else int(told) if told.isdecimal() else -1
        if self.left < 0:
            raise BrokenError("the answer does not say how long it is")

    def pieces(self) -> Iterator[memoryview]:
        """The body, in pieces that are overwritten by the next one. BrokenError."""
        for piece in self._channel.pieces(self.left):
            self.left -= len(piece)
            yield piece

    def body(self, most: int) -> bytes:
        """The body. BrokenError if it is longer than `most` bytes."""
        if self.left > most:
            raise BrokenError(f"the answer has {self.left} bytes, more than was asked for")
        count, self.left = self.left, 0
        return self._channel.receive(count)


class Exchange:
    """What one thread does with one server. `abort` ends it from outside."""

    def __init__(self, connections: Connections, source: Source, plain: int = 0) -> None:
        self.source = source
        self.aborted = False
        self._connections = connections
        self._much = plain >= _PLAIN_BYTES
        self._channel: Channel | None = None
        self._lock = threading.Lock()
        self._answer: Answer | None = None
        self._where = (source.address, connections.meant(source.server_name))
        self._token = ""

    @property
    def path(self) -> str:
        """The unit's."""
        key = self.source.key
        return f"/v1/{key.namespace}/{key.run}/{key.unit.hex()}"

    def run(self, work: Callable[[Exchange], T]) -> T:
        """Do `work`, and keep the connection if it ended well. OSError, GoneError, RefusedError, or what it raises."""
        good = False
        try:
            if self._much:
                self._go_plain()
            done = work(self)
            good = self._is_idle
            return done
        except OSError:
            if self._token:  # perhaps only TLS gets through
                self._connections.remember_plain(self.source, "", "", _REFUSED_SECONDS)
            raise
        finally:
            self._leave(good)

    def abort(self) -> None:
        """Break the connection; the thread ends with OSError."""
        with self._lock:
            self.aborted = True
            if self._channel is not None:
                self._channel.abort()

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: Body = b"") -> Answer:
        """One request; the answer before it must have been read. GoneError on 404, RefusedError, OSError."""
        length = len(body) if isinstance(body, bytes) else body[2]
        told = {"Host": self._where[0], "Content-Length": str(length), **(headers or {})}
        if self._token:
            told["Authorization"] = f"Bearer {self._token}"
        started = head(f"{method} {path} HTTP/1.1", told)
        used = self._connect()
        try:
            first, answered = self._send(started, body)
        except OSError:
            if not used or self.aborted:
                raise
            self._leave(False)
            self._connect(fresh=True)
            first, answered = self._send(started, body)
        assert self._channel is not None
        _, _, rest = first.partition(" ")
        status, _, reason = rest.partition(" ")
        if not status.isdecimal():
            raise BrokenError("the answer is not HTTP's")
        self._answer = Answer(self._channel, int(status), answered, method == "HEAD")
        self._judge(self._answer, reason)
        return self._answer

    def _send(self, started: bytes, body: Body) -> tuple[str, dict[str, str]]:
        channel = self._channel
        assert channel is not None
        if isinstance(body, bytes):
            channel.send(started + body)
            told = channel.receive_head()
        else:
            channel.send(started)
            with contextlib.suppress(ConnectionError):  # it may have answered before it had all
                _send_file(channel, *body)
            told = channel.receive_head()
        if told is None:
            raise BrokenError("the server closed the connection")
        return told

    def _judge(self, answer: Answer, reason: str) -> None:
        if answer.status in _OK:
            return
        where = self._where[0]
        if answer.left <= _WORDS_BYTES:  # so that the connection is good for another request
            reason = answer.body(_WORDS_BYTES).decode("utf-8", "replace") or reason
        if answer.status == 404:
            raise GoneError(f"{where} has the unit no more")
        if answer.status >= 500 or answer.status in (409, 429):
            raise OSError(f"answered {answer.status}")
        if answer.status == 401 and self._token:
            self._token = ""
            self._connections.remember_plain(self.source, "", "", 0.0)  # so the next one asks for another
            raise OSError("the token is not good any more")
        raise RefusedError(f"{where} refused: {answer.status} {reason}")

    def _go_plain(self) -> None:
        """From now on without TLS, if the server offers it."""
        offered = self._connections.plain(self.source)
        if offered is None:
            try:
                port, _, token = self.ask("POST", "/v1/plain").body(200).decode().partition(" ")
                host = self.source.address.rpartition(":")[0]
                offered = (f"{host}:{int(port)}", token)
            except (GoneError, RefusedError):
                offered = ("", "")
            self._connections.remember_plain(self.source, *offered)
            self._leave(self._is_idle)
        if offered[0]:
            self._where = (offered[0], "")
            self._token = offered[1]

    def _connect(self, *, fresh: bool = False) -> bool:
        """Have a connection; whether it was used before."""
        if self._channel is not None:
            return False
        channel = None if fresh else self._connections.take(*self._where)
        used = channel is not None
        if channel is None:
            channel = self._connections.open(*self._where)
        with self._lock:
            self._channel = channel
            if self.aborted:
                channel.abort()
        return used

    @property
    def _is_idle(self) -> bool:
        """The connection is good for another request."""
        return self._answer is not None and not self._answer.left and not self._answer.last

    def _leave(self, good: bool) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
        self._answer = None
        if channel is None:
            return
        if good and not self.aborted:
            self._connections.give_back(*self._where, channel)
        else:
            channel.close()


def _send_file(channel: Channel, path: Path, offset: int, count: int) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not channel.send_file(file, offset, count):
            raise OSError(f"{path} became shorter")
    finally:
        os.close(file)
