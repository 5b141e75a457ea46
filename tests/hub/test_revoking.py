"""Revoking a cluster: it is out at once and for good, everybody is told, and a new token makes it a new member."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.fixtures.etcd import EtcdServer
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, Members, RunningHub, apply
from tests.hub.newcomer import Newcomer, certified, token
from wire.identity import Identity, Role
from wire.identity import requests as asking
from wire.identity.revocations import believed


async def revoke(person: ControlPlaneServiceStub, cluster: str) -> int:
    response = await person.RevokeCluster(pb.RevokeClusterRequest(cluster=cluster), timeout=SECONDS)
    return int(response.generation)


async def state_of(person: ControlPlaneServiceStub, cluster: str) -> str:
    status: cp.StatusResponse = await person.Status(cp.StatusRequest(), timeout=SECONDS)
    return next(each.state for each in status.clusters if each.name == cluster)


def told(agent: FakeAgent, members: Members) -> dict[str, int]:
    """The revocations that the agent was told, as far as it believes them."""
    if agent.peers is None:
        return {}
    return believed(agent.peers.revocations, members.authority.pem) or {}


async def test_its_session_ends_and_it_gets_no_other(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with FakeAgent(hub, "edge1") as agent:
        assert await revoke(person, "edge1") == 1
        await agent.until(lambda: agent.ended is not None, "for the end")
        assert await state_of(person, "edge1") == "revoked"
        again = FakeAgent(hub, "edge1")
        with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
            await again.connect()
        await again.disconnect()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "were revoked" in str(caught.value.details())
    assert caught.value.details() in [entry.get("reason") for entry in logs]


async def test_it_stays_out_when_the_hub_is_another_one(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with FakeAgent(hub, "edge1"):
        await revoke(person, "edge1")
    await hub.stop()
    await hub.start()
    again = FakeAgent(hub, "edge1")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await again.connect()
    await again.disconnect()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_another_hub_on_the_same_store_ends_its_session_too(
    hub: RunningHub, person: ControlPlaneServiceStub, empty_server: EtcdServer, members: Members, tmp_path: Path
) -> None:
    other = RunningHub(members, empty_server.etcd.config.endpoint, empty_server.tls, tmp_path / "other", 0.2)
    async with other, FakeAgent(other, "edge1") as cut_off, FakeAgent(other, "edge2") as another:
        await revoke(person, "edge1")
        await cut_off.until(lambda: cut_off.ended is not None, "for the end")
        await another.until(lambda: told(another, members) == {"edge1": 1}, "for the other hub's word")


async def test_no_certificate_is_made_for_it_or_its_nodes(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    async with FakeAgent(hub, "edge1"):
        pass
    await revoke(person, "edge1")
    for node in ("", "n1"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await certified(hub, "edge1", asking.begin(tmp_path / f"of-{node}"), node=node)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_its_tokens_are_worth_nothing_any_more(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    used, unused = [await token(person, "edge1") for _ in range(2)]
    others = await token(person, "edge2")
    member = Newcomer(hub, tmp_path / "edge1")
    await member.joined(used)
    await revoke(person, "edge1")
    for each, newcomer in ((used, Newcomer(hub, member.place)), (unused, Newcomer(hub, tmp_path / "fresh"))):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await newcomer.join(each)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await Newcomer(hub, tmp_path / "edge2").joined(others)


async def test_with_a_new_token_it_is_a_new_member_and_the_old_certificate_stays_revoked(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    old = await Newcomer(hub, tmp_path / "old").joined(await token(person, "edge1"))
    async with FakeAgent(hub, "edge1", shown=old):
        pass
    await revoke(person, "edge1")
    new = await Newcomer(hub, tmp_path / "new").joined(await token(person, "edge1"))
    assert asking.identity_in(new) == Identity(Role.AGENT, "edge1", 1)
    async with FakeAgent(hub, "edge1", shown=new) as agent:
        assert await state_of(person, "edge1") == "ready"
        thief = FakeAgent(hub, "edge1", shown=old)
        with pytest.raises(grpc.aio.AioRpcError):
            await thief.connect()
        await thief.disconnect()
        await agent.beat()
        assert agent.ended is None
    assert await revoke(person, "edge1") == 2


async def test_everybody_else_is_told_by_a_word_that_only_the_authority_can_say(
    hub: RunningHub, person: ControlPlaneServiceStub, members: Members
) -> None:
    async with FakeAgent(hub, "edge2") as connected:
        async with FakeAgent(hub, "edge1"):
            await revoke(person, "edge1")
        await connected.until(lambda: told(connected, members) == {"edge1": 1}, "for the word")
    async with FakeAgent(hub, "cloud") as later:
        await later.until(lambda: told(later, members) == {"edge1": 1}, "for the word")


async def test_nobody_dials_it_at_the_address_that_it_had(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    topology = """
kind: Topology
metadata: {name: two}
spec:
  zones: [{name: a, tier: edge}, {name: b, tier: cloud}]
  clusters:
    - {name: edge1, zone: a, runtime: process, nodes: [{name: n1, cpus: 1}]}
    - {name: cloud, zone: b, runtime: process, nodes: [{name: n1, cpus: 1}]}
  links: [{between: [a, b], bandwidth: 1Gbit, latency: 1ms, dial: both}]
"""
    await apply(person, topology)

    def address(agent: FakeAgent) -> str | None:
        return agent.peers.peers[0].gateway_address if agent.peers and agent.peers.peers else None

    async with FakeAgent(hub, "cloud") as cloud:
        async with FakeAgent(hub, "edge1"):
            await cloud.until(lambda: address(cloud) == "edge1.example:7000", "for the address")
            await revoke(person, "edge1")
        await cloud.until(lambda: address(cloud) == "", "for its end")


async def test_a_cluster_that_nobody_knows_is_not_revoked(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await revoke(person, "edge7")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_who_joins_while_the_cluster_is_revoked_is_not_let_in_by_that(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    """Whatever the order is in which the store hears of the two."""
    for round_ in range(10):
        cluster = f"edge{round_}"
        first, made = await token(person, cluster), await token(person, cluster)
        await Newcomer(hub, tmp_path / f"{cluster}-known").joined(first)
        newcomer = Newcomer(hub, tmp_path / cluster)
        joining, revoking = await asyncio.gather(newcomer.join(made), revoke(person, cluster), return_exceptions=True)
        assert revoking == 1
        if isinstance(joining, pb.JoinResponse):
            shown = asking.install(newcomer.place, joining.certificate, hub.members.authority.pem)
            assert asking.identity_in(shown).generation == 0
