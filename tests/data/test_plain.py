"""Without TLS goes only what the topology lets, for who has shown who it is, and not for longer than a minute."""

from __future__ import annotations

import asyncio
import socket

import pytest

from cluster_agent.data.transfer import plain
from cluster_agent.data.transfer.plain import Passes
from tests.data.network import MIB, Network, Peer, key, pattern
from wire.identity import Identity, Role
from wire.identity.peers import UnknownPeerError

CONTENT = pattern(3 * MIB)
EDGE = frozenset(["edge1"])


def plain_port(peer: Peer) -> int:
    return peer.server._plain_port


async def test_a_trusted_cluster_pulls_without_tls_and_the_bytes_are_checked(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    await there.server.trust(EDGE)
    opened: list[tuple[str, str]] = []
    real = here.client._connections.open

    def opening(address: str, server_name: str) -> object:
        opened.append((address, server_name))
        return real(address, server_name)

    monkeypatch.setattr(here.client._connections, "open", opening)
    digest = await there.put(CONTENT)
    here.arrivals.fetch(key(), digest, len(CONTENT), [there.source()])
    assert (await here.arrived())[0].error == ""
    assert here.content(key()) == CONTENT
    assert (f"127.0.0.1:{plain_port(there)}", "") in opened


async def test_others_get_it_with_tls(network: Network) -> None:
    here, there = await network.peer("edge2/n1"), await network.peer("cloud/n1")
    await there.server.trust(EDGE)
    digest = await there.put(CONTENT)
    here.arrivals.fetch(key(), digest, len(CONTENT), [there.source()])
    assert (await here.arrived())[0].error == ""
    assert here.client._connections.plain(there.source()) == ("", "")


@pytest.mark.parametrize("token", ["", "guessed", "Bearer ", "Bearer guessed"])
async def test_nobody_gets_anything_without_a_token(network: Network, token: str) -> None:
    there = await network.peer("cloud/n1")
    await there.server.trust(EDGE)
    await there.put(CONTENT)
    head = f"GET /v1/default/run1/{key().unit.hex()} HTTP/1.1\r\nAuthorization: {token}\r\n\r\n"
    assert (await ask(plain_port(there), head)).startswith(b"HTTP/1.1 401 ")
    assert (await ask(plain_port(there), "POST /v1/plain HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 401 ")


async def ask(port: int, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    answer = await reader.read(100)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_when_the_link_is_trusted_no_more_the_port_is_closed(network: Network) -> None:
    there = await network.peer("cloud/n1")
    assert there.server._plain is None
    await there.server.trust(EDGE)
    port = plain_port(there)
    await there.server.trust(frozenset())
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_the_port_is_the_one_that_was_asked_for_each_time_it_is_opened(network: Network) -> None:
    """So that a door for it can be made beforehand."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = await network.peer("cloud/n1")
    there.server._plain_wanted = port
    for _ in range(2):
        await there.server.trust(EDGE)
        assert (await ask(port, "POST /v1/plain HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
        await there.server.trust(frozenset())


@pytest.mark.parametrize("reachable", [True, False])
async def test_a_pull_goes_on_when_token_or_port_are_not_good(network: Network, reachable: bool) -> None:
    """With another token, or with TLS where a firewall has the port."""
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    await there.server.trust(EDGE)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = plain_port(there) if reachable else closed.getsockname()[1]
        here.client._connections.remember_plain(there.source(), f"127.0.0.1:{port}", "of another time")
        digest = await there.put(CONTENT)
        here.arrivals.fetch(key(), digest, len(CONTENT), [there.source()])
        assert (await here.arrived())[0].error == ""
    offered = here.client._connections.plain(there.source())
    assert offered is not None
    assert bool(offered[0]) == reachable


def test_a_token_is_for_nodes_of_trusted_clusters_and_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Passes()
    node = Identity(Role.NODE, "edge1/n1")
    assert passes.issue(node) == ""
    passes.trusted = EDGE
    for other in (Identity(Role.NODE, "edge2/n1"), Identity(Role.USER, "edge1")):
        assert passes.issue(other) == ""
    token = passes.issue(node)
    assert len(token) >= 43
    assert passes.issue(node) != token
    assert passes.holder(f"Bearer {token}") == node
    now = plain.time.monotonic()
    monkeypatch.setattr(plain.time, "monotonic", lambda: now + 61)
    with pytest.raises(UnknownPeerError):
        passes.holder(f"Bearer {token}")
    again = passes.issue(node)
    assert len(passes._holders) == 1
    passes.trusted = frozenset()
    with pytest.raises(UnknownPeerError):
        passes.holder(f"Bearer {again}")
