"""A member's connections over relays: which cluster is reached over which, and opening one.

    dial    TLS with the relay, Dial   ─▶ Through ─ end of TLS ─▶ a socket whose other end is the member that was meant
    answer  TLS with the relay, Answer ─▶ Through ─ end of TLS ─▶ a socket whose other end is the caller

Nothing is encrypted twice: TLS with the relay shows each to the other and then ends, and what follows is the TLS of the
two members, which the relay passes on and can't read.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bdw_fed.v1.federation_pb2 import RelayPlace
from cluster_agent.relay import messages as say
from cluster_agent.relay.secured import Secured
from wire.identity import Identity, Role, member_named, server_name

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 15.0  # longer than the relay gives the called one
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 20), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


@dataclass(frozen=True)
class Relay:
    """A relay: its name, which its certificate carries, and "host:port"."""

    name: str
    address: str


class NotThroughError(ConnectionError):
    """A relay is there, but the way through it is not."""


def relays_of(places: Iterable[RelayPlace]) -> tuple[Relay, ...]:
    """As the hub tells them."""
    return tuple(Relay(place.name, place.address) for place in places)


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel find out within a minute that the other end is gone."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


class Routes:
    """How clusters are reached that this one can't dial, nor they this one. `context` gives our client's TLS."""

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._relays: Mapping[str, tuple[Relay, ...]] = {}
        self._first: dict[str, int] = {}  # by cluster: which of its relays is tried first; one that failed is not

    def know(self, relays: Mapping[str, tuple[Relay, ...]]) -> None:
        """These are all clusters that are reached over relays."""
        self._first = {cluster: first for cluster, first in self._first.items() if relays.get(cluster)}
        self._relays = dict(relays)

    @property
    def relays(self) -> set[Relay]:
        """All that lead anywhere."""
        return {relay for relays in self._relays.values() for relay in relays}

    def leads_to(self, cluster: str) -> bool:
        """Whether a cluster is reached over relays."""
        return bool(self._relays.get(cluster))

    def now(self, cluster: str) -> str:
        """The name of the relay that is tried first for a cluster; empty if it is not reached so."""
        relays = self._relays.get(cluster)
        return relays[self._first.get(cluster, 0) % len(relays)].name if relays else ""

    async def dial(self, to: Identity) -> socket.socket:
        """A socket to a member, over the first relay through which it is reached. OSError."""
        relays = self._relays.get(to.cluster, ())
        first = self._first.get(to.cluster, 0)
        reasons = []
        for number in range(first, first + len(relays)):
            relay = relays[number % len(relays)]
            try:
                sock = await self._through(relay, say.Dial(to.uri))
            except (OSError, ValueError) as error:
                reasons.append(f"{relay.name}: {error or type(error).__name__}")
                continue
            self._first[to.cluster] = number % len(relays)
            return sock
        raise NotThroughError(f"{to} is not reached over any relay ({'; '.join(reasons) or 'there is none'})")

    def leads_to_server(self, name: str) -> bool:
        """Whether the member with this name in its certificate is reached over relays. For threads."""
        member = member_named(name)
        return member is not None and self.leads_to(member.cluster)

    def dial_server(self, name: str) -> socket.socket:
        """A socket to the member with this name in its certificate. For threads, while the loop runs. OSError."""
        member = member_named(name)
        assert member is not None
        return asyncio.run_coroutine_threadsafe(self.dial(member), self._loop).result()

    async def answer(self, relay: Relay, token: bytes) -> socket.socket:
        """The socket of somebody who has called us over a relay. OSError, ValueError."""
        return await self._through(relay, say.Answer(token))

    async def open(self, relay: Relay) -> Secured:
        """A connection to a relay, which is what it should be. OSError."""
        async with asyncio.timeout(_CONNECT_SECONDS):
            secured = Secured(await _connected(relay.address), self._context(), _name(relay))
            try:
                await secured.handshake()
            except BaseException:
                secured.close()
                raise
        return secured

    async def _through(self, relay: Relay, first: say.FromMember) -> socket.socket:
        """Say one thing, be let through, and end TLS."""
        secured = await self.open(relay)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await secured.say(first)
                said = await secured.hear(say.from_relay)
                if isinstance(said, say.Refused):
                    raise NotThroughError(said.why)
                if not isinstance(said, say.Through):
                    raise NotThroughError("it does not speak as a relay does")
                await secured.bare()
            secured.sock.setblocking(True)
        except BaseException:
            secured.close()
            raise
        return secured.sock


def _name(relay: Relay) -> str:
    return server_name(Identity(Role.RELAY, relay.name))


async def _connected(address: str) -> socket.socket:
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    places = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    failed = OSError(f"{address} has no address")
    for family, kind, protocol, _, place in places:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, place)
            keep_alive(sock)
        except OSError as error:
            sock.close()
            failed = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failed
