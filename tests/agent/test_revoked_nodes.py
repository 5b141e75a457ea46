"""A node that is revoked is lost to its agent at once and for good, also while the hub is away; its neighbours stay."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from bdw_fed.v1 import node_pb2 as n
from cluster_agent.coordinator.messages import NodeJoined, NodeLost
from cluster_agent.membership.errors import JoinError
from cluster_agent.membership.node_token import FILE, read_token
from cluster_agent.membership.revoked import REVOKED
from tests.agent.agents import Agent, running
from tests.agent.federation import FakeHub, FakeNode, Members, Served, until, within
from tests.agent.test_joining import EDGE, _joined, agent
from tests.agent.test_peers import NOWHERE
from tests.agent.test_revoked import revoking
from wire.identity import Role
from wire.identity import requests as asking

N1 = {"a/n1": 1}


async def refused(asked: Awaitable[Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await within(asked)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    return str(caught.value.details())


def nodes_of(a: Agent) -> dict[str, tuple[bool, bool]]:
    """By node whether it is ready and whether it is revoked."""
    return {each.name: (each.ready, each.revoked) for each in a.nodes.statuses()}


async def test_its_stream_ends_and_its_work_is_lost_and_its_neighbours_serve_it_no_more(
    members: Members, tmp_path: Path
) -> None:
    async with (
        running(members, tmp_path / "a", "a", NOWHERE) as a,
        FakeNode(a.node_door, "a", "n1", members.issue(Role.NODE, "a/n1")) as stolen,
        FakeNode(a.node_door, "a", "n2", members.issue(Role.NODE, "a/n2")) as neighbour,
    ):
        await stolen.command("welcome")
        await neighbour.command("welcome")
        a.peers.told("b", members.signed(**N1))  # by a peer
        await stolen.closed()
        again = (await neighbour.command("welcome", 2)).welcome
        assert [(each.name, each.valid_from) for each in again.revocations] == [("a/n1", 1)]
        await until(lambda: [event.node for event in a.core.events if isinstance(event, NodeLost)] == ["n1"])
        assert nodes_of(a) == {"n1": (False, True), "n2": (True, False)}
        assert not neighbour.call.done()


async def test_it_gets_no_stream_no_bundle_and_no_certificate_from_an_agent_that_was_started_again(
    members: Members, tmp_path: Path
) -> None:
    shown = members.issue(Role.NODE, "a/n1")
    async with running(members, tmp_path / "a", "a", NOWHERE) as a:
        a.peers.directory(revoking(members.signed(**N1)))
        await until(lambda: a.log.meta(REVOKED))
    async with running(members, tmp_path / "a", "a", NOWHERE) as a:
        async with FakeNode(a.node_door, "a", "n1", shown) as stolen:
            await stolen.closed()
            assert await stolen.call.code() is grpc.StatusCode.UNAUTHENTICATED
            words = await refused(stolen.stub.Renew(n.RenewRequest(request=asking.begin(tmp_path / "n1"))))
            assert "node a/n1 were revoked: it has to join again" in words
            bundle = stolen.stub.FetchBundle(n.FetchBundleRequest(namespace="default", digest=b"x"))
            await refused(anext(aiter(bundle)))
        assert nodes_of(a) == {"n1": (False, True)}
        assert not [event for event in a.core.events if isinstance(event, NodeJoined)]


async def test_with_its_next_certificate_it_is_a_node_again_and_the_one_before_is_not(
    members: Members, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "a", "a", NOWHERE) as a:
        a.peers.directory(revoking(members.signed(**N1)))
        async with FakeNode(a.node_door, "a", "n1", members.issue(Role.NODE, "a/n1", 1)) as back:
            await back.command("welcome")
            assert nodes_of(a) == {"n1": (True, False)}
            async with FakeNode(a.node_door, "a", "n1", members.issue(Role.NODE, "a/n1")) as thief:
                await thief.closed()
            assert nodes_of(a) == {"n1": (True, False)}
        await until(lambda: nodes_of(a) == {"n1": (False, False)})


async def test_it_is_let_in_with_the_token_that_its_agent_has_since_and_under_no_name_with_the_one_before(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    hub.authority = members.authority
    file = tmp_path / "agent" / FILE
    async with agent(members, hub, hub_server.address, tmp_path / "agent") as address:
        session = await within(hub.sessions.get())
        before = read_token(file)
        await _joined(address, before, tmp_path / "n1", "n1")
        session.say(peers=revoking(members.signed(**{"edge1/n1": 1})))
        await until(lambda: read_token(file) != before)
        for name in ("n1", "n9"):
            with pytest.raises(JoinError, match="from before a node of the cluster was revoked"):
                await _joined(address, before, tmp_path / name, name)
        back = asking.identity_in(await _joined(address, read_token(file), tmp_path / "n1", "n1"))
        assert (back.generation, back.agent) == (1, EDGE)
