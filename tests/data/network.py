"""Nodes' data sides with certificates of one authority, for tests of what goes between them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bdw_fed.v1 import node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.data.transfer.arrival import Arrived
from cluster_agent.data.transfer.arrivals import Arrivals
from cluster_agent.data.transfer.client import Source, TransferClient
from cluster_agent.data.transfer.readers import Readers
from cluster_agent.data.transfer.server import DataServer
from wire.identity import Credentials, Identity, Role, server_name, ssl_client_context, ssl_server_context
from wire.identity.authority import Authority
from wire.identity.revocations import Revocations

MIB = 1 << 20
DEADLINE = 20.0


def key(number: int = 1) -> UnitKey:
    return UnitKey("default", "run1", number.to_bytes(16, "big"))


def pattern(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@dataclass
class Peer:
    """One node's data side: store, server, client and arrivals."""

    name: str
    store: DiskStore
    client: TransferClient
    arrivals: Arrivals
    server: DataServer
    readers: Readers
    credentials: Credentials
    address: str = ""
    told: list[Arrived] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def source(self, number: int = 1, address: str = "") -> Source:
        return Source(key(number), address or self.address, server_name(Identity(Role.NODE, self.name)))

    async def put(self, content: bytes, number: int = 1) -> bytes:
        path = self.store.partial / "put"
        path.write_bytes(content)
        return (await self.store.commit(path, key(number))).digest

    def content(self, of: UnitKey) -> bytes:
        found = self.store.find(of)
        return found.data if found.data is not None else found.file.read_bytes()

    async def arrived(self, count: int = 1) -> list[Arrived]:
        async with asyncio.timeout(DEADLINE):
            while len(self.told) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.told


class Network:
    """Peers with certificates of one authority."""

    def __init__(self, directory: Path, stack: contextlib.AsyncExitStack) -> None:
        self.directory = directory
        self._stack = stack
        self.authority = Authority.create(directory / "ca")
        self.revocations = Revocations()

    def credentials(self, role: Role, name: str, generation: int = 0) -> Credentials:
        place = self.directory / role / f"{name.replace('/', '-')}-{generation}"
        return self.authority.issue(Identity(role, name, generation), place)

    async def peer(self, name: str, generation: int = 0) -> Peer:
        credentials = self.credentials(Role.NODE, name, generation)
        store = DiskStore(self.directory / "stores" / f"{name.replace('/', '-')}-{generation}")
        client = await self._stack.enter_async_context(
            TransferClient(ssl_client_context(credentials), None, self.revocations, backoff=0.01, max_backoff=0.05)
        )
        told: list[Arrived] = []
        changed = asyncio.Event()

        def tell(arrived: Arrived) -> None:
            told.append(arrived)
            changed.set()

        arrivals = Arrivals(store, client, tell)
        readers = Readers(name.partition("/")[0], credentials.ca)
        everybody = node_pb2.RunMembers(namespace="default", run="run1", clusters=["edge1", "edge2", "cloud"])
        readers.told(node_pb2.Members(runs=[everybody], all=True))
        server = DataServer(store, arrivals, ssl_server_context(credentials), readers, self.revocations)
        port = await server.start("127.0.0.1", 0)
        self._stack.push_async_callback(store.close)
        self._stack.push_async_callback(arrivals.close)
        self._stack.push_async_callback(server.stop)
        address = f"127.0.0.1:{port}"
        return Peer(name, store, client, arrivals, server, readers, credentials, address, told, changed)


async def request(
    peer: Peer, context: ssl.SSLContext, method: str, path: str, **options: Any
) -> tuple[int, Mapping[str, str], bytes]:
    name = server_name(Identity(Role.NODE, peer.name))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.request(method, f"https://{peer.address}{path}", server_hostname=name, **options) as response,
    ):
        return response.status, response.headers.copy(), await response.read()
