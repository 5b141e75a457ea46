"""gRPC over relays, which opens and accepts its connections itself: a local socket to dial, and the agent's own door.

    channel ─▶ local socket ─ pipe ─▶ relay ─ pipe ─▶ the other agent's port on its own machine

The local sockets have no files, which would be left behind, and take nobody but this user. Whoever came in all the same
would meet the other agent's demand for a certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Callable, Coroutine, Mapping

import structlog

from bdw_fed.v1.membership_pb2 import SignedRevocations
from cluster_agent.relay.dialling import Relay, Routes
from cluster_agent.relay.pipe import Pipe
from cluster_agent.relay.standing import Standing
from wire.identity import Credentials, Identity, Role, ssl_client_context

_log = structlog.get_logger(__name__)
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
_BACKLOG = 16
_PEER = struct.Struct("3i")  # process, user and group at the other end of a local socket


class RelayDoors:
    """The agent's ways out and in. `own` is where its peers' door listens, `refusal` says why somebody may not come.

    Use as an async context manager.
    """

    def __init__(self, credentials: Credentials, own: str, refusal: Callable[[Identity], str] = lambda _: "") -> None:
        self._refusal = refusal
        self._routes = Routes(lambda: ssl_client_context(credentials))
        self._standing = Standing(self._routes, self._may_call, self._let_in)
        host, _, port = own.rpartition(":")
        self._own = (_ANY.get(host.strip("[]"), host.strip("[]")), int(port))
        self._prefix = f"bdw-fed-{secrets.token_hex(8)}"
        self._loop = asyncio.get_running_loop()
        self._listening: dict[str, tuple[socket.socket, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def address(self, cluster: str) -> str:
        """Where to dial the agent of a cluster: for gRPC."""
        name = f"{self._prefix}-{cluster}"
        if cluster not in self._listening:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.bind(f"\0{name}")
            sock.listen(_BACKLOG)
            self._listening[cluster] = sock, self._loop.create_task(self._accept(sock, cluster))
        return f"unix-abstract:{name}"

    def know(self, relays: Mapping[str, tuple[Relay, ...]]) -> None:
        """These are all clusters that are reached over relays."""
        self._routes.know(relays)
        self._standing.know(self._routes.relays)

    def revoke(self, signed: SignedRevocations) -> None:
        """Tell the relays which certificates are revoked."""
        self._standing.revoke(signed)

    def over(self, cluster: str) -> str:
        """The name of the relay over which a cluster is reached; empty if it needs none."""
        return self._routes.now(cluster)

    async def __aenter__(self) -> RelayDoors:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._standing.close()
        listening = list(self._listening.values())
        ending = [*self._tasks, *(accepting for _, accepting in listening)]
        for each in ending:
            each.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for sock, _ in listening:
            sock.close()

    def _may_call(self, caller: Identity) -> bool:
        known = caller.role is Role.AGENT and self._routes.leads_to(caller.cluster)
        return known and not self._refusal(caller)

    def _let_in(self, caller: socket.socket) -> None:
        self._own_task(self._enter(caller))

    def _own_task(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket, cluster: str) -> None:
        while True:
            sock, _ = await self._loop.sock_accept(listening)
            _, user, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            if user == os.getuid():
                self._own_task(self._leave(sock, cluster))
            else:
                sock.close()

    async def _leave(self, sock: socket.socket, cluster: str) -> None:
        with sock:
            try:
                out = await self._routes.dial(Identity(Role.AGENT, cluster))
            except OSError as error:
                _log.info("a peer is not reached over a relay", peer=cluster, error=str(error))
                return
            with out:
                await _pass(sock, out)

    async def _enter(self, caller: socket.socket) -> None:
        with caller, socket.socket(socket.AF_INET6 if ":" in self._own[0] else socket.AF_INET) as sock:
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                await self._loop.sock_connect(sock, self._own)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await _pass(caller, sock)


async def _pass(a: socket.socket, b: socket.socket) -> None:
    with contextlib.suppress(OSError):
        await Pipe(a, b).run()
