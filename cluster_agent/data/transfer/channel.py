"""A connection between two data servers' threads: HTTP/1.1 heads and bodies over a blocking socket, TLS or plain.

Blocking sockets in threads, because an event loop's TLS copies every byte several times and does so on the loop; here
encryption, hashing and disk run without the interpreter's lock, on buffers that are used again. Where there is no TLS
a file goes out by sendfile. `abort` may be called from any thread; the thread in a call sees a broken connection.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
from collections.abc import Iterator, Mapping

BUFFER_BYTES = 256 << 10  # stays in a core's cache between being received, hashed and written
_HEAD_BYTES = 16 << 10
_HEAD_SECONDS = 30.0
_SENDFILE_BYTES = 8 << 20
_FINISH_SECONDS = 1.0
_FINISH_BYTES = 64 << 20


class BrokenError(ConnectionError):
    """The other end went away, or does not speak as expected."""


class Channel:
    """One connection. Used by one thread at a time; `close` it."""

    def __init__(self, sock: socket.socket | ssl.SSLSocket) -> None:
        self._sock = sock
        self._rest = b""  # received and not asked for yet

    def fileno(self) -> int:
        """The descriptor, to wait for."""
        return self._sock.fileno()

    @property
    def is_tls(self) -> bool:
        """Whether what is sent is encrypted."""
        return isinstance(self._sock, ssl.SSLSocket)

    @property
    def certificate(self) -> Mapping[str, object] | None:
        """What the other end has shown, as `ssl` gives it; None if it has shown none."""
        return self._sock.getpeercert() if isinstance(self._sock, ssl.SSLSocket) else None

    @property
    def sender(self) -> str:
        """The other end's address."""
        return address_of(self._sock)

    def readable(self, seconds: float) -> bool:
        """Whether something can be received within so long."""
        if self._rest or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
            return True
        return self._wait(select.POLLIN, seconds)

    def receive_head(self) -> tuple[str, dict[str, str]] | None:
        """The first line and the headers by their names in lower case; None if the other end has closed."""
        received = self._rest
        deadline = time.monotonic() + _HEAD_SECONDS
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > _HEAD_BYTES:
                raise BrokenError("the head is too long")
            if time.monotonic() > deadline:  # however little comes, it would come for ever
                raise BrokenError("the head takes too long")
            more = self._sock.recv(_HEAD_BYTES)
            if not more:
                if received:
                    raise BrokenError("the connection ended within a head")
                return None
            received += more
        self._rest = received[end + 4 :]
        first, *lines = received[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return first, headers

    def receive(self, count: int) -> bytes:
        """Exactly so many bytes of a body. BrokenError."""
        received = bytearray(count)
        filled = 0
        for piece in self.pieces(count):
            received[filled : filled + len(piece)] = piece
            filled += len(piece)
        return bytes(received)

    def pieces(self, count: int) -> Iterator[memoryview]:
        """So many bytes of a body, in pieces that are overwritten by the next one. BrokenError."""
        buffer = memoryview(bytearray(min(count, BUFFER_BYTES)))
        while count:
            wanted = min(count, len(buffer))
            filled = min(len(self._rest), wanted)
            if filled:
                buffer[:filled], self._rest = self._rest[:filled], self._rest[filled:]
            while filled < wanted:
                got = self._sock.recv_into(buffer[filled:wanted])
                if not got:
                    if filled:
                        yield buffer[:filled]
                    raise BrokenError("the connection ended within a body")
                filled += got
            yield buffer[:filled]
            count -= filled

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        view = memoryview(data)
        for start in range(0, len(view), BUFFER_BYTES):  # each piece has the socket's timeout for itself
            self._sock.sendall(view[start : start + BUFFER_BYTES])

    def send_file(self, file: int, start: int, count: int) -> bool:
        """Send bytes of an open file; whether it had them all. The other end is left with too few if not."""
        if isinstance(self._sock, ssl.SSLSocket):
            buffer = memoryview(bytearray(min(count, BUFFER_BYTES)))
            while count:
                got = os.preadv(file, [buffer[: min(count, BUFFER_BYTES)]], start)
                if not got:
                    return False
                self._sock.sendall(buffer[:got])
                start, count = start + got, count - got
            return True
        while count:
            try:
                sent = os.sendfile(self.fileno(), file, start, min(count, _SENDFILE_BYTES))
            except BlockingIOError:  # a socket with a timeout does not block by itself
                if not self._wait(select.POLLOUT, self._sock.gettimeout()):
                    raise TimeoutError("the other end does not take what is sent") from None
                continue
            if not sent:
                return False
            start, count = start + sent, count - sent
        return True

    def abort(self) -> None:
        """Break the connection."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # not SSLSocket's, which the other thread is using

    def finish(self) -> None:
        """Let the other end read what was sent last, although it may still be sending: a reset would destroy it."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
            self._sock.settimeout(_FINISH_SECONDS)
            left = _FINISH_BYTES
            while left > 0 and (got := len(socket.socket.recv(self._sock, BUFFER_BYTES))):
                left -= got

    def close(self) -> None:
        """Free the socket."""
        with contextlib.suppress(OSError):
            self._sock.close()

    def _wait(self, event: int, seconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self._sock, event)
        return bool(poll.poll(None if seconds is None else seconds * 1000))


def head(first: str, headers: Mapping[str, str]) -> bytes:
    """A head as it is sent."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{first}\r\n{lines}\r\n".encode("latin-1")


def address_of(sock: socket.socket) -> str:
    """Who is at the other end of a connection, HOST:PORT; empty if it has gone."""
    try:
        host, port = sock.getpeername()[:2]
    except OSError:
        return ""
    return f"{host}:{port}"
