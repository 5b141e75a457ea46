"""Connections are used again, cost no thread while they are idle, and a broken one is not the caller's trouble."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from cluster_agent.data.transfer import listener
from cluster_agent.data.transfer.connections import Exchange
from tests.data.counting import CountingProxy
from tests.data.network import DEADLINE, MIB, Network, key, pattern
from tests.node.cluster import wait_until


def fetch_head(exchange: Exchange) -> int:
    return exchange.ask("HEAD", exchange.path).status


async def test_idle_connections_cost_no_thread_and_are_used_again(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_LINGER_SECONDS", 0.0)
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    await there.put(b"x")
    opened = []
    real = here.client._connections.open
    monkeypatch.setattr(here.client._connections, "open", lambda *where: opened.append(where) or real(*where))
    for _ in range(5):
        assert await here.client._in_thread(there.source(), fetch_head) == 200
        await wait_until(lambda: not any(one.serving for one in there.server._listener._connections))
    assert len(opened) == 1


async def test_a_connection_that_the_server_closed_meanwhile_is_opened_anew(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    await there.put(b"x")
    async with CountingProxy(there.address) as proxy:
        source = there.source(address=proxy.address)
        assert await here.client._in_thread(source, fetch_head) == 200
        await proxy.cut()
        assert await here.client._in_thread(source, fetch_head) == 200


async def test_a_cancelled_pull_ends_its_thread_at_once(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    digest = await there.put(pattern(4 * MIB))
    proxy = CountingProxy(there.address, MIB, lambda: proxy.freeze())
    async with proxy:
        here.arrivals.fetch(key(), digest, 4 * MIB, [there.source(address=proxy.address)])
        await wait_until(lambda: proxy.acted)
        here.arrivals.forget(key())
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*here.arrivals._closing)
    assert list(here.store.partial.iterdir()) == []


async def test_a_slow_line_gets_more_streams(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster_agent.data.transfer import client, partial

    monkeypatch.setattr(partial, "CHUNK_BYTES", MIB)
    monkeypatch.setattr(client, "_LOOK_SECONDS", 0.01)
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    content = pattern(24 * MIB)
    digest = await there.put(content)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(there.server._listener._connections))
            await asyncio.sleep(0.001)

    watching = asyncio.create_task(watch())
    proxy = CountingProxy(there.address, MIB, lambda: asyncio.sleep(0))
    monkeypatch.setattr(client, "_SLOW", 1e12)
    async with proxy:
        here.arrivals.fetch(key(), digest, len(content), [there.source(address=proxy.address)])
        assert (await here.arrived())[0].error == ""
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert 1 < most <= client.RANGES_AT_ONCE
    assert here.content(key()) == content


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/9\r\n\r\n", b"400"),
        (b"DELETE /v1/a/b/c HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /v1/units HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"POST /v1/units HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", b"400"),
        (b"POST /v1/units HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n", b""),
    ],
)
async def test_what_is_no_request_is_refused(network: Network, request_bytes: bytes, status: bytes) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    from wire.identity import Identity, Role, server_name, ssl_client_context

    name = server_name(Identity(Role.NODE, there.name))
    host, _, port = there.address.rpartition(":")
    context = ssl_client_context(here.credentials)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
    writer.write(request_bytes)
    with contextlib.suppress(ConnectionError):
        assert (await reader.read(100)).partition(b" ")[2][:3] == status
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
