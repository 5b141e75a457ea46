"""Two agents' peers: by stream, by the hub's relay, from one to the other; over real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import grpc
import grpc.aio
import pytest

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1.peer_pb2 import ExchangeRequest, Offer, PeerFrame, PeerMessage
from bdw_fed.v1.peer_pb2_grpc import PeerServiceStub
from cluster_agent.coordinator.actions import Publish
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.peer import core as peer_core
from tests.agent.agents import Agent, running
from tests.agent.federation import FakeHub, Members, Served, directory, until
from wire.identity import Identity, Role, channel_options, grpc_channel_credentials


def message(text: str) -> bytes:
    return PeerMessage(namespace="default", run=text, offer=Offer(edge="e")).SerializeToString()


def messages(start: int, end: int) -> list[bytes]:
    return [message(f"{number}") for number in range(start, end)]


def dial(cluster: str, address: str) -> f.PeerDirectory:
    return directory(f.PeerDirectory.Peer(cluster=cluster, gateway_address=address, can_dial=True, reachable=True))


@asynccontextmanager
async def two(
    members: Members, tmp_path: Path, hubs: list[str], *, durability: str = "process"
) -> AsyncIterator[tuple[Agent, Agent]]:
    async with (
        running(members, tmp_path / "a", "a", hubs, durability=durability) as one,
        running(members, tmp_path / "b", "b", hubs, durability=durability) as other,
    ):
        yield one, other


NOWHERE = ["127.0.0.1:1"]


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_messages_cross_a_stream_both_ways_without_a_hub(
    members: Members, tmp_path: Path, durability: str
) -> None:
    async with two(members, tmp_path, NOWHERE, durability=durability) as (a, b):
        a.peers.directory(dial("b", b.peer_door.address))
        a.tell_peer("b", *messages(0, 500))
        await b.heard("a", messages(0, 500))
        b.tell_peer("a", *messages(500, 1000))
        await a.heard("b", messages(500, 1000))
        assert a.peers.is_direct("b")
        assert b.peers.is_direct("a")
        await until(lambda: not b.peers._peer("a").session.unacked)
        assert a.log.received()["peer/b"] == (b.log.log_id, 500)


async def test_only_one_of_two_that_can_dial_each_other_does(members: Members, tmp_path: Path) -> None:
    async with two(members, tmp_path, NOWHERE) as (a, b):
        for agent, other in ((a, b), (b, a)):
            both = dial(other.cluster, other.peer_door.address)
            both.peers[0].can_be_dialled = True
            agent.peers.directory(both)
        a.tell_peer("b", message("x"))
        b.tell_peer("a", message("y"))
        await b.heard("a", [message("x")])
        await a.heard("b", [message("y")])
        assert len(a.peers._peer("b").streams) == 1


async def test_a_stream_is_opened_when_a_fragment_names_the_peer(members: Members, tmp_path: Path) -> None:
    async with two(members, tmp_path, NOWHERE) as (a, b):
        a.peers.directory(dial("b", b.peer_door.address))
        await asyncio.sleep(0)
        assert not a.peers._peers
        a.peers.expect(["a", "b"])
        await until(lambda: a.peers.is_direct("b"))
        assert set(a.peers._peers) == {"b"}


async def test_the_relay_serves_where_nobody_can_dial(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with two(members, tmp_path, [hub_server.address]) as (a, b):
        a.tell_peer("b", *messages(0, 100))
        await b.heard("a", messages(0, 100))
        b.tell_peer("a", *messages(100, 200))
        await a.heard("b", messages(100, 200))
        assert not a.peers.is_direct("b")


async def test_what_the_relay_loses_is_asked_for(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_core, "_HELLO_SECONDS", 0.01)
    monkeypatch.setattr(peer_core, "_DATA_SECONDS", 0.02)
    chance = Random(3)
    hub.drop_relayed = lambda relay: chance.random() < 0.3
    async with two(members, tmp_path, [hub_server.address]) as (a, b):
        for start in range(0, 50, 10):
            a.tell_peer("b", *messages(start, start + 10))
            await until(lambda end=start + 10: len(b.said_by("a")) >= end)  # type: ignore[misc]
        await b.heard("a", messages(0, 50))
        await until(lambda: not a.peers._peer("b").session.unacked)


async def test_a_cut_stream_falls_back_to_the_relay_and_returns(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with two(members, tmp_path, [hub_server.address]) as (a, b):
        a.peers.directory(dial("b", b.peer_door.address))
        a.tell_peer("b", *messages(0, 10))
        await until(lambda: a.peers.is_direct("b") and b.peers.is_direct("a"))
        await b.heard("a", messages(0, 10))
        await until(lambda: "a" in hub.live and "b" in hub.live)

        await b.peer_door.__aexit__()
        await until(lambda: not a.peers.is_direct("b"))
        relayed = hub.relayed
        a.tell_peer("b", *messages(10, 20))
        b.tell_peer("a", message("back"))
        await b.heard("a", messages(0, 20))
        await a.heard("b", [message("back")])
        assert hub.relayed > relayed

        await b.peer_door.__aenter__()
        await until(lambda: a.peers.is_direct("b"))
        relayed = hub.relayed
        a.tell_peer("b", *messages(20, 30))
        await b.heard("a", messages(0, 30))
        assert hub.relayed == relayed


async def test_a_restarted_peer_goes_on_where_it_was(members: Members, tmp_path: Path) -> None:
    """The directory is found in the log, so the hub is not needed for it; nothing is said or heard twice."""
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(running(members, tmp_path / "b", "b", NOWHERE))
        known = dial("b", b.peer_door.address)
        async with running(members, tmp_path / "a", "a", NOWHERE, known=known) as a:
            a.tell_peer("b", *messages(0, 10))
            await b.heard("a", messages(0, 10))
            b.tell_peer("a", *messages(0, 3))
            await a.heard("b", messages(0, 3))
        b.tell_peer("a", *messages(3, 6))
        await until(lambda: b.log.next_seq("peer/a") == 7)
        async with running(members, tmp_path / "a", "a", NOWHERE, known=known) as a:
            await a.heard("b", messages(3, 6))
            a.tell_peer("b", *messages(10, 20))
            await b.heard("a", messages(0, 20))


async def test_a_peer_that_lost_its_state_is_met_as_a_new_one(members: Members, tmp_path: Path) -> None:
    async with running(members, tmp_path / "b", "b", NOWHERE) as b:
        known = dial("b", b.peer_door.address)
        async with running(members, tmp_path / "a", "a", NOWHERE, known=known) as a:
            a.tell_peer("b", *messages(0, 5))
            b.tell_peer("a", *messages(0, 5))
            await b.heard("a", messages(0, 5))
            await a.heard("b", messages(0, 5))
            await until(lambda: not b.peers._peer("a").session.unacked)
        async with running(members, tmp_path / "a-new", "a", NOWHERE, known=known) as a:
            a.tell_peer("b", message("new"))
            await b.heard("a", [*messages(0, 5), message("new")])
            b.tell_peer("a", message("welcome"))
            await a.heard("b", [message("welcome")])


async def test_a_frame_that_names_another_cluster_than_its_certificate_is_refused(
    members: Members, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "b", "b", NOWHERE) as b:
        credentials = members.issue(Role.AGENT, "mallory")
        options = channel_options(Identity(Role.AGENT, "b"))
        async with grpc.aio.secure_channel(
            b.peer_door.address, grpc_channel_credentials(credentials), options=options
        ) as channel:
            call = PeerServiceStub(channel).Exchange()
            frame = PeerFrame(cluster="a", log_id=b"A", hello=True, seq=1)
            with contextlib.suppress(grpc.aio.AioRpcError):  # it may be refused already
                await call.write(ExchangeRequest(frame=frame))
            assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        assert b.core.events == []


async def test_only_agents_may_open_a_peers_stream(members: Members, tmp_path: Path) -> None:
    async with running(members, tmp_path / "b", "b", NOWHERE) as b:
        credentials = members.issue(Role.NODE, "a/n1")
        options = channel_options(Identity(Role.AGENT, "b"))
        async with grpc.aio.secure_channel(
            b.peer_door.address, grpc_channel_credentials(credentials), options=options
        ) as channel:
            call = PeerServiceStub(channel).Exchange()
            assert await call.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_relayed_frame_must_be_its_senders(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "b", "b", [hub_server.address]) as b:
        await until(lambda: "b" in hub.live)
        frame = PeerFrame(cluster="a", log_id=b"A", hello=True, seq=1)
        hub.live["b"].say(relay=f.PeerRelay(from_cluster="mallory", to_cluster="b", frame=frame))
        hub.live["b"].say(query=f.Query(id=1, namespace="default"))
        await hub.live["b"].wait_kind("reply")
        assert not b.peers._peers


async def test_causes_come_before_effects_in_lamport_time(members: Members, tmp_path: Path) -> None:
    async with two(members, tmp_path, NOWHERE) as (a, b):
        for _ in range(50):
            a.bus.publish([Publish(RunKey("default", "r"), "x", "", b"", {})])
        a.peers.directory(dial("b", b.peer_door.address))
        a.tell_peer("b", message("x"))
        await b.heard("a", [message("x")])
        assert b.bus.lamport >= 50
