"""TLS on a socket of the event loop, which can be ended so that both ends go on without it.

asyncio's own streams can't do that: what they have read beyond the end of TLS is lost. Here TLS is given one record at
a time, and not a byte more is taken off the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from cluster_agent.relay.messages import HEAD, FromMember, FromRelay, frame, length
from wire.identity import Identity, identity_of_tls

_RECORD_HEAD = 5  # bytes: its type, a version, and how many follow
_RECORDS = range(20, 25)
T = TypeVar("T")


class Secured:
    """One connection: a server's, or with the `name` that the other end must prove, a client's.

    What is raised when the other end has gone or breaks the rules is an OSError or a ValueError.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str = "") -> None:
        self.sock = sock
        self.member: Identity | None = None  # at the other end, once it has shown its certificate
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=not name, server_hostname=name or None)
        self._sending = asyncio.Lock()
        self._ours = True

    async def handshake(self) -> Identity:
        """Who is at the other end. UnknownPeerError if its certificate names nobody of ours."""
        await self._until_done(self._tls.do_handshake)
        self.member = identity_of_tls(self._tls.getpeercert())
        return self.member

    async def hear(self, decode: Callable[[bytes], T]) -> T:
        """The next word of the other end."""
        head = await self._read(HEAD.size)
        return decode(await self._read(length(head)))

    async def say(self, message: FromMember | FromRelay) -> None:
        """A word to the other end."""
        self._tls.write(frame(message))
        await self._flush()

    async def bare(self) -> None:
        """End TLS. What follows on the socket is not ours."""
        await self._until_done(self._tls.unwrap)

    def handed_over(self) -> Secured:
        """The same connection, which from now on another closes."""
        self._ours = False
        other = copy.copy(self)
        other._ours = True
        return other

    def close(self) -> None:
        """Free the socket, at once, unless it was handed over."""
        if self._ours:
            self.sock.close()

    async def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await self._until_done(functools.partial(self._tls.read, count - len(data)))
            if not piece:
                raise ConnectionResetError("the other end has closed the connection")
            data += piece
        return data

    async def _until_done(self, step: Callable[[], T]) -> T:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._take_record()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self._flush()  # the alert, which says what was wrong
                raise
            else:
                await self._flush()
                return done

    async def _take_record(self) -> None:
        head = await self._take(_RECORD_HEAD)
        self._incoming.write(head)
        if head[0] in _RECORDS:  # if it is none, TLS says so
            self._incoming.write(await self._take(int.from_bytes(head[3:])))

    async def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await self._loop.sock_recv(self.sock, count - len(data))
            if not piece:
                raise ConnectionResetError("the other end has closed the connection")
            data += piece
        return data

    async def _flush(self) -> None:
        async with self._sending:
            if self._outgoing.pending:
                await self._loop.sock_sendall(self.sock, self._outgoing.read())
