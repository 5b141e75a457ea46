"""Revoking one node: everybody is told at once, it gets no certificate that way, and its cluster goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, Members, RunningHub, apply
from tests.hub.newcomer import certified
from tests.hub.test_revoking import revoke, state_of, told
from wire.identity import Identity
from wire.identity import requests as asking

TOPOLOGY = """
kind: Topology
metadata: {name: one}
spec:
  zones: [{name: a, tier: edge}]
  clusters: [{name: edge1, zone: a, runtime: process, nodes: [{name: n1, cpus: 1}]}]
"""


async def revoke_node(person: ControlPlaneServiceStub, cluster: str, node: str) -> pb.RevokeNodeResponse:
    answer: pb.RevokeNodeResponse = await person.RevokeNode(
        pb.RevokeNodeRequest(cluster=cluster, node=node), timeout=SECONDS
    )
    return answer


async def refused(asked: Awaitable[Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asked
    return caught.value.code()


def node_in(place: Path, certificate: bytes, members: Members) -> Identity:
    return asking.identity_in(asking.install(place, certificate, members.authority.pem))


async def test_its_agent_and_all_others_are_told_and_stay(
    hub: RunningHub, person: ControlPlaneServiceStub, members: Members
) -> None:
    async with FakeAgent(hub, "edge1") as its_own, FakeAgent(hub, "edge2") as other:
        assert (await revoke_node(person, "edge1", "n1")).generation == 1
        for agent in (its_own, other):
            await agent.until(lambda agent=agent: told(agent, members) == {"edge1/n1": 1}, "for the word")
            assert agent.ended is None
        assert await state_of(person, "edge1") == "ready"
    await hub.stop()
    await hub.start()
    async with FakeAgent(hub, "edge2") as other:
        await other.until(lambda: told(other, members) == {"edge1/n1": 1}, "for the word")


async def test_an_agent_that_does_not_know_it_yet_can_not_have_the_node_certified(
    hub: RunningHub, person: ControlPlaneServiceStub, members: Members, tmp_path: Path
) -> None:
    request = asking.begin(tmp_path / "n1")
    async with FakeAgent(hub, "edge1"):
        await revoke_node(person, "edge1", "n1")
        assert await refused(certified(hub, "edge1", request, "n1")) is grpc.StatusCode.FAILED_PRECONDITION
        certificate = await certified(hub, "edge1", request, "n1", valid_from=1)
        again = node_in(tmp_path / "n1", certificate, members)
        assert (again.generation, again.agent.generation) == (1, 0)
        neighbour = await certified(hub, "edge1", asking.begin(tmp_path / "n2"), "n2")
        assert node_in(tmp_path / "n2", neighbour, members).generation == 0


async def test_with_its_cluster_a_node_that_came_back_is_revoked_again(
    hub: RunningHub, person: ControlPlaneServiceStub, members: Members
) -> None:
    async with FakeAgent(hub, "edge1"), FakeAgent(hub, "edge2") as other:
        for generation in (1, 2, 3):
            assert (await revoke_node(person, "edge1", "n1")).generation == generation
        assert (await revoke_node(person, "edge1", "n2")).generation == 1
        assert await revoke(person, "edge1") == 4
        await other.until(lambda: told(other, members) == {"edge1": 4}, "for the word")
        assert (await revoke_node(person, "edge1", "n2")).generation == 5


async def test_several_at_once_are_all_revoked(
    hub: RunningHub, person: ControlPlaneServiceStub, members: Members
) -> None:
    async with FakeAgent(hub, "edge1") as agent:
        await asyncio.gather(*(revoke_node(person, "edge1", f"n{number}") for number in range(6)))
        wanted = {f"edge1/n{number}": 1 for number in range(6)}
        await agent.until(lambda: told(agent, members) == wanted, "for the word")


async def test_a_node_that_nobody_knows_is_revoked_and_that_is_told_and_a_cluster_that_nobody_knows_is_not_there(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, TOPOLOGY)
    assert (await revoke_node(person, "edge1", "n1")).is_known
    assert not (await revoke_node(person, "edge1", "n7")).is_known
    async with FakeAgent(hub, "edge1") as agent:
        await agent.beat(cp.NodeStatus(name="n7"))
        assert (await revoke_node(person, "edge1", "n7")).is_known
    assert await refused(revoke_node(person, "edge7", "n1")) is grpc.StatusCode.NOT_FOUND
    assert await refused(revoke_node(person, "edge1", "n1/n2")) is grpc.StatusCode.INVALID_ARGUMENT
