"""Units and coordinators' words cross over relays as they cross directly: resumed where they stopped, checked, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1.peer_pb2 import Offer, PeerMessage
from cluster_agent.data.transfer import connections
from cluster_agent.data.transfer.arrival import Arrived
from cluster_agent.data.transfer.arrivals import Arrivals
from cluster_agent.data.transfer.client import Source, TransferClient
from cluster_agent.relay.dialling import Relay, Routes
from cluster_agent.relay.doors import RelayDoors
from cluster_agent.relay.standing import Standing
from tests.agent.agents import running
from tests.agent.federation import Members, directory
from tests.data.network import MIB, Network, Peer, key, pattern
from tests.relay.relays import Federation, Running, until
from wire.identity import Identity, Role, server_name, ssl_client_context

NOWHERE = "127.0.0.1:1"


class Nodes:
    """Two nodes of two clusters; the address at which each serves is told to nobody."""

    def __init__(self, members: Federation) -> None:
        self._network = Network(members.directory / "nodes", members._stack)
        self._network.authority = members.authority
        self._stack = members._stack

    async def node(self, name: str, relays: dict[str, tuple[Relay, ...]]) -> Peer:
        peer = await self._network.peer(name)
        context = ssl_client_context(peer.credentials)
        routes = Routes(lambda: context)
        routes.know(relays)
        standing = Standing(routes, lambda caller: caller.role is Role.NODE, peer.server.let_in)
        standing.know(routes.relays)
        self._stack.push_async_callback(standing.close)
        client = TransferClient(context, routes, backoff=0.01, max_backoff=0.05, attempts=50)
        await self._stack.enter_async_context(client)

        def tell(arrived: Arrived) -> None:
            peer.told.append(arrived)
            peer.changed.set()

        peer.client, peer.arrivals = client, Arrivals(peer.store, client, tell)
        peer.server._answers._arrivals = peer.arrivals
        self._stack.push_async_callback(peer.arrivals.close)
        await until(lambda: standing.at == {relay.name for relay in routes.relays})
        return peer


async def two(members: Federation, *relays: Running) -> tuple[Peer, Peer]:
    places = tuple(relay.place for relay in relays)
    nodes = Nodes(members)
    return await nodes.node("edge1/n1", {"edge2": places}), await nodes.node("edge2/n1", {"edge1": places})


def there(number: int = 1) -> Source:
    return Source(key(number), NOWHERE, server_name(Identity(Role.NODE, "edge1/n1")))


@pytest.mark.parametrize("size", [0, 100, 5 * MIB + 7])
async def test_a_unit_is_pulled_over_a_relay(members: Federation, size: int) -> None:
    relay = await members.relay()
    one, other = await two(members, relay)
    content = pattern(size)
    digest = await one.put(content)
    other.arrivals.fetch(key(), digest, size, [there()])
    (arrived,) = await other.arrived()
    assert not arrived.error
    assert other.content(key()) == content
    assert relay.counts.passed()["edge1", "edge2"] > size


async def test_a_unit_is_pushed_over_a_relay(members: Federation) -> None:
    relay = await members.relay()
    one, other = await two(members, relay)
    content = pattern(3 * MIB)
    digest = await one.put(content)
    other.arrivals.expect(key(), digest, len(content), "edge1")
    await one.client.push(one.store.find(key()), Source(key(), NOWHERE, server_name(Identity(Role.NODE, "edge2/n1"))))
    (arrived,) = await other.arrived()
    assert not arrived.error
    assert other.content(key()) == content


async def test_where_a_relay_leads_nothing_goes_without_tls_though_the_link_is_trusted(members: Federation) -> None:
    relay = await members.relay()
    one, other = await two(members, relay)
    await one.server.trust(frozenset({"edge2"}))
    content = pattern(2 * MIB)
    other.arrivals.fetch(key(), await one.put(content), len(content), [there()])
    (arrived,) = await other.arrived()
    assert not arrived.error
    assert relay.counts.passed()["edge1", "edge2"] > len(content)


@pytest.mark.parametrize("more", ["a second relay", "the same relay started again"])
async def test_a_transfer_whose_relay_dies_goes_on_where_it_stopped(
    members: Federation, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    relays = [await members.relay("r1")]
    if more == "a second relay":
        relays.append(await members.relay("r2"))
    one, other = await two(members, *relays)
    content = pattern(24 * MIB)
    digest = await one.put(content)
    got = asyncio.Event()
    loop = asyncio.get_running_loop()
    sent = 0
    through = asyncio.Event()
    pieces = connections.Answer.pieces

    def slowly(answer: connections.Answer) -> object:
        """Up to the middle; then the relay is killed, and only then it goes on."""
        nonlocal sent
        for piece in pieces(answer):
            sent += len(piece)
            yield piece
            if sent > 8 * MIB and not got.is_set():
                loop.call_soon_threadsafe(got.set)
                asyncio.run_coroutine_threadsafe(through.wait(), loop).result()

    monkeypatch.setattr(connections.Answer, "pieces", slowly)
    other.arrivals.fetch(key(), digest, len(content), [there()])
    await asyncio.wait_for(got.wait(), 20)
    await relays[0].stop()
    if more != "a second relay":
        await relays[0].start()
    through.set()
    (arrived,) = await other.arrived()
    assert not arrived.error
    assert other.content(key()) == content
    assert sent < len(content) + 4 * MIB, "what had come was kept"


# --------------------------------------------------------------------------------------------------- coordinators


def message(number: int) -> bytes:
    return PeerMessage(namespace="default", run=str(number), offer=Offer(edge="e")).SerializeToString()


async def test_the_words_of_two_coordinators_go_over_a_relay_and_over_the_next_when_it_dies(
    members: Federation, tmp_path: Path
) -> None:
    first, second = await members.relay("r1"), await members.relay("r2")
    issuing = _Issuing(members)
    relays = [f.RelayPlace(name=relay.name, address=relay.address) for relay in (first, second)]
    async with (
        running(issuing, tmp_path / "a", "a", [NOWHERE]) as a,
        running(issuing, tmp_path / "b", "b", [NOWHERE]) as b,
        RelayDoors(members.credentials(Role.AGENT, "a"), a.peer_door.address) as doors_of_a,
        RelayDoors(members.credentials(Role.AGENT, "b"), b.peer_door.address) as doors_of_b,
    ):
        for agent, doors, other in ((a, doors_of_a, "b"), (b, doors_of_b, "a")):
            agent.peers._dialling._doors = doors
            agent.peers.directory(directory(f.PeerDirectory.Peer(cluster=other, reachable=True, relays=relays)))
            await until(lambda doors=doors: doors._standing.at == {"r1", "r2"})  # type: ignore[misc]
        a.tell_peer("b", *(message(number) for number in range(300)))
        await b.heard("a", [message(number) for number in range(300)])
        b.tell_peer("a", message(300))
        await a.heard("b", [message(300)])
        assert [(path.cluster, path.path, path.relay) for path in a.peers.paths()] == [("b", "relay", "r1")]

        await first.stop()
        a.tell_peer("b", message(301))
        await b.heard("a", [*(message(number) for number in range(300)), message(301)])
        assert [(path.cluster, path.path, path.relay) for path in a.peers.paths()] == [("b", "relay", "r2")]
        assert second.counts.passed()["a", "b"] > 0


async def test_a_cluster_that_the_topology_does_not_lead_to_over_relays_may_not_call(members: Federation) -> None:
    relay = await members.relay()
    stranger = members.member(Role.AGENT, "c")
    stranger.know({"b": (relay.place,)})
    async with RelayDoors(members.credentials(Role.AGENT, "b"), NOWHERE) as doors:
        doors.know({"a": (relay.place,)})
        await until(lambda: doors._standing.at == {"r1"})
        with pytest.raises(ConnectionError, match="agent c is none that may call here"):
            await stranger.routes.dial(Identity(Role.AGENT, "b"))


class _Issuing(Members):
    """Certificates of the relays' authority."""

    def __init__(self, members: Federation) -> None:
        self.directory = members.directory
        self.authority = members.authority
