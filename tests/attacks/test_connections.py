"""Who opens connections and says nothing, or too much, or never listens, costs little and keeps nobody from working."""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from cluster_agent.data.transfer import channel, listener
from tests.access.people import answer_to
from tests.data.network import Network, Peer, key, request
from tests.hub.hub import SECONDS, RunningHub
from tests.node.cluster import wait_until
from wire.digests import bytes_digest
from wire.identity import (
    Identity,
    Role,
    channel_options,
    grpc_channel_credentials,
    server_name,
    ssl_client_context,
)

UNIT = f"/v1/default/run1/{key().unit.hex()}"


@asynccontextmanager
async def half_open(address: str, count: int, first: bytes = b"") -> AsyncIterator[list[asyncio.Task[bytes]]]:
    """Connections on which nothing but `first` is ever said; each task ends when the server closes one."""
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    sockets = []

    async def closed(sock: socket.socket) -> bytes:
        try:
            return await loop.sock_recv(sock, 1)
        except OSError:
            return b""

    try:
        for _ in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            sockets.append(sock)
            await loop.sock_connect(sock, (host, int(port)))
            if first:
                await loop.sock_sendall(sock, first)
        tasks = [asyncio.create_task(closed(sock)) for sock in sockets]
        yield tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        for sock in sockets:
            sock.close()


def affordable(count: int) -> int:
    """As many connections, each with two ends in this process, as it may have."""
    return min(count, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500) // 2)


@pytest.mark.parametrize(
    ("first", "count"),
    [
        pytest.param(b"", 1000, id="nothing"),
        pytest.param(b"", 10_000, id="nothing, ten thousand times", marks=pytest.mark.slow),
        pytest.param(b"\x16\x03\x01", 500, id="half a hello"),
    ],
)
async def test_half_open_connections_to_the_hub_are_closed_and_people_are_served_meanwhile(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, first: bytes, count: int
) -> None:
    await hub.stop()
    monkeypatch.setattr("wire.identity.credentials._HANDSHAKE_MS", 2_000)
    await hub.start()
    async with half_open(hub.address, affordable(count), first) as opened:
        async with hub.person() as person:
            assert (await answer_to(person, "List", cp.ListRequest(kind="Run")))[0] is grpc.StatusCode.OK
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*opened)


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01"], ids=["nothing", "half a hello"])
async def test_half_open_connections_to_a_node_cost_no_thread_and_are_closed(
    network: Network, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(listener, "_HANDSHAKE_SECONDS", 2.0)
    monkeypatch.setattr(listener, "_MOST", 500)
    there = await network.peer("cloud/n1")
    await there.put(b"x")
    context = ssl_client_context(network.credentials(Role.NODE, "cloud/n2"))
    async with half_open(there.address, 1000, first) as opened:
        assert (await request(there, context, "GET", UNIT))[0] == 200
        assert len(there.server._listener._connections) <= 500  # type: ignore[union-attr]
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*opened)


async def stranger(peer: Peer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TLS connection to a node without a certificate, on which nothing was asked yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(peer.credentials.ca)
    host, _, port = peer.address.rpartition(":")
    name = server_name(Identity(Role.NODE, peer.name))
    return await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)


async def test_strangers_who_ask_slowly_leave_most_threads_to_members(network: Network) -> None:
    there = await network.peer("cloud/n1")
    await there.put(b"x")
    context = ssl_client_context(network.credentials(Role.NODE, "cloud/n2"))
    slow = [await stranger(there) for _ in range(3 * listener._MOST_STRANGERS)]
    served = there.server._listener
    assert served is not None
    await wait_until(lambda: len(served._connections) == listener._MOST_STRANGERS)  # the others were closed
    assert (await request(there, context, "GET", UNIT))[0] == 200
    for _, writer in slow:
        writer.transport.abort()
    await wait_until(lambda: served._strangers == 0)
    reader, writer = await stranger(there)
    writer.write(f"GET {UNIT} HTTP/1.1\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n")).split()[1] == b"401"
    writer.transport.abort()


async def test_a_head_that_comes_too_slowly_is_given_up(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_HEAD_SECONDS", 0.2)
    there = await network.peer("cloud/n1")
    reader, writer = await stranger(there)

    async def trickle() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.01)

    trickling = asyncio.create_task(trickle())
    async with asyncio.timeout(SECONDS):
        assert await reader.read() == b""
    trickling.cancel()
    await asyncio.gather(trickling, return_exceptions=True)
    writer.transport.abort()


async def test_a_message_over_the_limit_is_refused_and_the_next_one_is_served(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    large = "x" * (17 << 20)
    async with unlimited(hub, Role.USER, "ada") as way:
        document = cp.Document(yaml=large)
        code, _ = await answer_to(ControlPlaneServiceStub(way), "Apply", cp.ApplyRequest(documents=[document]))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with unlimited(hub, Role.AGENT, "edge") as way:
        session = FederationServiceStub(way).Session()
        await session.write(f.SessionRequest(hello=f.AgentHello(cluster="edge", version=large)))
        assert await session.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await answer_to(person, "List", cp.ListRequest(kind="Run")))[0] is grpc.StatusCode.OK


@asynccontextmanager
async def unlimited(hub: RunningHub, role: Role, name: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel of a client that keeps to no limit of its own."""
    credentials = grpc_channel_credentials(hub.members.credentials(role, name))
    options: list[tuple[str, Any]] = [
        (option, -1 if option.endswith("message_length") else value)
        for option, value in channel_options(Identity(Role.HUB, "hub"))
    ]
    async with grpc.aio.secure_channel(hub.address, credentials, options=options) as way:
        yield way


async def test_a_stream_that_is_never_read_is_bounded_and_ended(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.access.gate._STALLED_SECONDS", 0.5)
    content = random.Random(1).randbytes(32 << 20)
    digest, taken = bytes_digest(content), 0

    def pieces() -> Iterator[cp.PutBlobRequest]:
        for start in range(0, len(content), 1 << 20):
            yield cp.PutBlobRequest(digest=digest, chunk=content[start : start + (1 << 20)])

    def answered(*, chunk: bytes) -> cp.GetBlobResponse:
        nonlocal taken
        taken += len(chunk)
        return answer(chunk=chunk)

    await person.PutBlob(pieces(), timeout=SECONDS)
    answer = cp.GetBlobResponse
    monkeypatch.setattr("control_plane.api.service.cp.GetBlobResponse", answered)
    with capture_logs() as logs:
        reading = person.GetBlob(cp.GetBlobRequest(digest=digest))
        assert (await asyncio.wait_for(reading.read(), SECONDS)).chunk  # type: ignore[union-attr]
        await wait_until(lambda: any(log["event"] == "a stream was ended: it is not read" for log in logs))
    assert taken < len(content) / 2
    assert (await answer_to(person, "List", cp.ListRequest(kind="Run")))[0] is grpc.StatusCode.OK
    with pytest.raises(grpc.aio.AioRpcError):
        while await asyncio.wait_for(reading.read(), SECONDS):
            pass
