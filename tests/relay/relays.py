"""A relay in the test's own loop, members with certificates, and what they say to each other through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from bdw_fed.v1.membership_pb2 import SignedRevocations
from cluster_agent.relay.core import Limits
from cluster_agent.relay.counts import Counts
from cluster_agent.relay.dialling import Relay, Routes
from cluster_agent.relay.service import RelayConfig, serve
from cluster_agent.relay.standing import Standing
from wire.identity import Credentials, Identity, Role, server_name, ssl_client_context, ssl_server_context
from wire.identity.authority import Authority
from wire.identity.revocations import Revocations, statement

DEADLINE = 20.0


class Running:
    """A relay that can be stopped and started again at the same address."""

    def __init__(self, name: str, credentials: Credentials, limits: Limits, greeting: int, idle: float) -> None:
        self.name = name
        self.counts = Counts()
        self._config = RelayConfig(name, "127.0.0.1:0", credentials, limits, greeting, idle, self.counts)
        self._stop = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self.address = ""

    @property
    def place(self) -> Relay:
        return Relay(self.name, self.address)

    async def start(self) -> None:
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._stop.clear()
        config = replace(self._config, listen=self.address or self._config.listen)
        self._serving = asyncio.create_task(
            serve(config, lambda addresses: started.set_result(addresses["relay"]), self._stop)
        )
        await asyncio.wait([self._serving, started], return_when=asyncio.FIRST_COMPLETED)
        self.address = started.result()

    async def stop(self) -> None:
        if self._serving is not None:
            self._stop.set()
            await self._serving
            self._serving = None

    def now(self, what: str) -> int:
        return self.counts.now()[what]

    def refused(self, why: str) -> int:
        line = f'bdw_fed_relay_refused_total{{reason="{why}"}} '
        return next((int(text[len(line) :]) for text in self.counts.text().splitlines() if text.startswith(line)), 0)


class Member:
    """A member that stands at relays and echoes what it is told, over TLS of its own."""

    def __init__(self, identity: Identity, credentials: Credentials) -> None:
        self.identity = identity
        self.credentials = credentials
        self.routes = Routes(lambda: ssl_client_context(credentials))
        self.standing = Standing(self.routes, lambda caller: caller not in self.unwanted, self._let_in)
        self.unwanted: set[Identity] = set()
        self.came: list[Identity] = []
        self._echoing: set[asyncio.Task[None]] = set()

    def know(self, others: dict[str, tuple[Relay, ...]]) -> None:
        self.routes.know(others)
        self.standing.know(self.routes.relays)

    async def stands_at(self, *relays: Running) -> None:
        await until(lambda: {relay.name for relay in relays} <= self.standing.at)

    async def dial(self, to: Identity) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """TLS with the member that is meant, through a relay."""
        sock = await self.routes.dial(to)
        sock.setblocking(False)
        return await asyncio.open_connection(
            sock=sock, ssl=ssl_client_context(self.credentials), server_hostname=server_name(to)
        )

    async def ask(self, to: Identity, words: bytes) -> bytes:
        """What it echoes."""
        reader, writer = await self.dial(to)
        try:
            writer.write(len(words).to_bytes(4, "big") + words)
            async with asyncio.timeout(DEADLINE):
                return await reader.readexactly(len(words))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _let_in(self, sock: socket.socket) -> None:
        self._echoing.add(asyncio.create_task(self._echo(sock)))

    async def _echo(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=ssl_server_context(self.credentials)
            )
        except (OSError, ssl.SSLError):
            sock.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        certificate = writer.get_extra_info("peercert")
        self.came.append(Identity.parse(next(value for kind, value in certificate["subjectAltName"] if kind == "URI")))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                count = int.from_bytes(await reader.readexactly(4), "big")
                while count:
                    piece = await reader.read(min(count, 1 << 16))
                    if not piece:
                        return
                    writer.write(piece)
                    await writer.drain()
                    count -= len(piece)
        writer.close()

    async def close(self) -> None:
        await self.standing.close()
        for task in self._echoing:
            task.cancel()
        await asyncio.gather(*self._echoing, return_exceptions=True)


class Federation:
    """Relays and members of one authority."""

    def __init__(self, directory: Path, stack: contextlib.AsyncExitStack) -> None:
        self.directory = directory
        self.authority = Authority.create(directory / "ca")
        self._stack = stack

    def credentials(self, role: Role, name: str, generation: int = 0) -> Credentials:
        place = self.directory / role / f"{name.replace('/', '-')}-{generation}"
        return self.authority.issue(Identity(role, name, generation), place)

    def signed(self, **revoked: int) -> SignedRevocations:
        """A list of revocations, as agents have it from the hub."""
        told = statement(Revocations(revoked))
        return SignedRevocations(list=told, signature=self.authority.sign(told))

    async def relay(
        self, name: str = "r1", *, limits: Limits | None = None, greeting: int = 512, idle: float = 60.0
    ) -> Running:
        relay = Running(name, self.credentials(Role.RELAY, name), limits or Limits(), greeting, idle)
        await relay.start()
        self._stack.push_async_callback(relay.stop)
        return relay

    def member(self, role: Role, name: str, generation: int = 0) -> Member:
        member = Member(Identity(role, name), self.credentials(role, name, generation))
        self._stack.push_async_callback(member.close)
        return member

    async def two(self, *relays: Running) -> tuple[Member, Member]:
        """Nodes of two clusters that reach each other over relays."""
        a, b = self.member(Role.NODE, "edge1/n1"), self.member(Role.NODE, "edge2/n1")
        places = tuple(relay.place for relay in relays)
        a.know({"edge2": places})
        b.know({"edge1": places})
        await a.stands_at(*relays)
        await b.stands_at(*relays)
        return a, b


async def until(true: object) -> None:
    """Wait for something that has no event of its own."""
    assert callable(true)
    async with asyncio.timeout(DEADLINE):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def federation(directory: Path) -> AsyncIterator[Federation]:
    async with contextlib.AsyncExitStack() as stack:
        yield Federation(directory, stack)
