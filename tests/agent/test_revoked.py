"""Revocations at the agent: who is revoked has no stream and no unit of ours, and the word spreads without the hub."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1.membership_pb2 import SignedRevocations
from bdw_fed.v1.peer_pb2 import ExchangeRequest, PeerFrame, PeerMessage
from bdw_fed.v1.peer_pb2_grpc import PeerServiceStub
from cluster_agent.coordinator.intake import Intake
from cluster_agent.membership.revoked import REVOKED, Revoked
from tests.agent.agents import Agent, running
from tests.agent.federation import FakeHub, FakeNode, Members, Served, until, within
from tests.agent.test_peers import NOWHERE, dial, message, two
from wire.identity import Credentials, Identity, Role, channel_options, grpc_channel_credentials
from wire.versions import PEERS

HELLO = ExchangeRequest(frame=PeerFrame(cluster="b", log_id=b"b", hello=True, protocol=1))


def named(cluster: str) -> list[f.PeerDirectory.Peer]:
    return [f.PeerDirectory.Peer(cluster=cluster)]


def revoking(signed: SignedRevocations, *directory: f.PeerDirectory.Peer) -> f.PeerDirectory:
    return f.PeerDirectory(peers=directory, revocations=signed)


async def refused(agent: Agent, shown: Credentials) -> str:
    """What is said to a peer that shows this and opens a stream."""
    options = channel_options(Identity(Role.AGENT, agent.cluster))
    async with grpc.aio.secure_channel(
        agent.peer_door.address, grpc_channel_credentials(shown), options=options
    ) as channel:
        call = PeerServiceStub(channel).Exchange()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call.read())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        return str(caught.value.details())


async def test_a_stream_of_a_peer_that_is_revoked_ends_and_it_gets_no_other(members: Members, tmp_path: Path) -> None:
    async with running(members, tmp_path / "a", "a", NOWHERE) as a:
        shown = members.issue(Role.AGENT, "b")
        options = channel_options(Identity(Role.AGENT, "a"))
        async with grpc.aio.secure_channel(
            a.peer_door.address, grpc_channel_credentials(shown), options=options
        ) as channel:
            call = PeerServiceStub(channel).Exchange()
            await call.write(HELLO)
            await until(lambda: a.peers.is_direct("b"))
            a.peers.directory(revoking(members.signed(b=1)))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while await within(call.read()) is not grpc.aio.EOF:
                    pass
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await until(lambda: not a.peers.is_direct("b"))
        with capture_logs() as logs:
            reason = await refused(a, shown)
        assert "were revoked" in reason
        assert reason in [entry.get("reason") for entry in logs if entry["event"] == "a caller was refused"]


async def test_a_peer_that_we_dialled_is_left_when_it_is_revoked_and_not_dialled_with_success_again(
    members: Members, tmp_path: Path
) -> None:
    async with two(members, tmp_path, NOWHERE) as (a, b):
        a.peers.directory(dial("b", b.peer_door.address))
        a.tell_peer("b", message("x"))
        await b.heard("a", [message("x")])
        a.peers.directory(revoking(members.signed(b=1), *dial("b", b.peer_door.address).peers))
        await until(lambda: not b.peers.is_direct("a"))
        a.tell_peer("b", message("y"))
        await until(lambda: a.peers._dialling._dialled.get("b"))
        for _ in range(20):  # it has let go of the stream; now it tries in vain
            await asyncio.sleep(0.01)
            assert not a.peers.is_direct("b")
        assert b.said_by("a") == [message("x")]


async def test_with_its_next_generation_it_is_dialled_and_served_again(members: Members, tmp_path: Path) -> None:
    fresh = members.issue(Role.AGENT, "b", 1)
    async with (
        running(members, tmp_path / "a", "a", NOWHERE) as a,
        running(members, tmp_path / "b", "b", NOWHERE, shown=fresh) as b,
    ):
        a.peers.directory(revoking(members.signed(b=1), *dial("b", b.peer_door.address).peers))
        a.tell_peer("b", message("x"))
        await b.heard("a", [message("x")])


async def test_it_is_neither_heard_nor_told_by_way_of_a_hub_that_does_not_know_yet(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    frame = PeerFrame(cluster="b", log_id=b"B", hello=True, seq=1, protocol=PEERS.newest)
    async with running(members, tmp_path / "a", "a", [hub_server.address]) as a:
        session = await within(hub.sessions.get())
        a.peers.directory(revoking(members.signed(b=1), *named("b")))
        a.tell_peer("b", message("to it"))
        told = await session.wait_kind("relay")
        assert (told.relay.to_cluster, told.relay.to_generation) == ("b", 1)
        for generation, said in enumerate([message("old"), message("new")]):
            with_it = PeerFrame()
            with_it.CopyFrom(frame)
            with_it.messages.append(PeerMessage.FromString(said))
            relay = f.PeerRelay(from_cluster="b", to_cluster="a", frame=with_it, from_generation=generation)
            session.say(relay=relay)
        await a.heard("b", [message("new")])


async def test_the_word_goes_from_peer_to_peer_without_a_hub(members: Members, tmp_path: Path) -> None:
    async with (
        running(members, tmp_path / "a", "a", NOWHERE) as a,
        running(members, tmp_path / "b", "b", NOWHERE) as b,
        running(members, tmp_path / "c", "c", NOWHERE) as c,
    ):
        b.peers.directory(f.PeerDirectory(peers=[*dial("a", a.peer_door.address).peers, *named("c")]))
        b.peers.expect(["a"])
        await until(lambda: a.peers.is_direct("b"))
        a.peers.directory(
            revoking(members.signed(x=2), f.PeerDirectory.Peer(cluster="b"))
        )  # on a stream that is there: dialled by the other side
        await until(lambda: b.peers._revoked.revocations.valid_from("x") == 2)
        c.peers.directory(dial("b", b.peer_door.address))
        c.peers.expect(["b"])  # on a stream that is opened later, by who does not know
        await until(lambda: c.peers._revoked.revocations.valid_from("x") == 2)
        assert await refused(c, members.issue(Role.AGENT, "x", 1))


async def test_what_the_authority_has_not_signed_is_not_believed_whoever_says_it(
    members: Members, tmp_path: Path
) -> None:
    forged = members.signed(c=1)
    forged.list = members.signed(c=9).list
    async with two(members, tmp_path, NOWHERE) as (a, b):
        a.peers.directory(dial("b", b.peer_door.address))
        a.peers.expect(["b"])
        await until(lambda: b.peers.is_direct("a"))
        with capture_logs() as logs:
            for queue in a.peers._peer("b").streams.values():
                queue.revoke(forged)
            await until(lambda: [each for each in logs if "not the authority's" in each["event"]])
        assert b.peers._revoked.revocations.known() == {}
        assert b.peers.is_direct("a")


async def test_it_is_known_after_a_restart_without_hub_and_peers(members: Members, tmp_path: Path) -> None:
    async with running(members, tmp_path / "a", "a", NOWHERE) as a:
        a.peers.directory(revoking(members.signed(b=1)))
        await until(lambda: a.log.meta(REVOKED))
    async with running(members, tmp_path / "a", "a", NOWHERE) as a:
        assert "were revoked" in await refused(a, members.issue(Role.AGENT, "b"))


async def test_the_hub_s_word_reaches_the_nodes(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "a", "a", [hub_server.address]) as a:
        session = await within(hub.sessions.get())
        async with FakeNode(a.node_door, "a", "n1", members.issue(Role.NODE, "a/n1")) as node:
            assert not (await node.command("welcome")).welcome.revocations
            session.say(peers=revoking(members.signed(b=3)))
            again = (await node.command("welcome", 2)).welcome
            assert [(each.name, each.valid_from) for each in again.revocations] == [("b", 3)]
        async with FakeNode(a.node_door, "a", "n2", members.issue(Role.NODE, "a/n2")) as later:
            first = (await later.command("welcome")).welcome
            assert [(each.name, each.valid_from) for each in first.revocations] == [("b", 3)]


async def test_a_cluster_that_joined_again_takes_none_of_its_old_nodes(members: Members, tmp_path: Path) -> None:
    async with running(members, tmp_path / "a", "a", NOWHERE, shown=members.issue(Role.AGENT, "a", 1)) as a:
        async with FakeNode(a.node_door, "a", "n1", members.issue(Role.NODE, "a/n1")) as old:
            await old.closed()
            assert old.call.done()
            assert await old.call.code() is grpc.StatusCode.UNAUTHENTICATED
        async with FakeNode(a.node_door, "a", "n1", members.issue(Role.NODE, "a/n1", 1)) as new:
            await new.command("welcome")


def test_an_old_list_changes_nothing(members: Members) -> None:
    revoked = Revoked(members.issue(Role.AGENT, "a"), Intake(), None)
    told: list[set[str]] = []
    revoked.listeners.append(told.append)
    revoked.take(members.signed(b=2, c=1), "hub")
    revoked.take(members.signed(b=1), "peer")
    revoked.take(SignedRevocations(), "peer")
    assert told == [{"b", "c"}]
    assert revoked.revocations.known() == {"b": 2, "c": 1}
    assert revoked.signed.list == members.signed(b=2, c=1).list
