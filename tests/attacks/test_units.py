"""A unit is for the clusters of its run, and for whom the hub permits; whoever else asks is refused, and noted."""

from __future__ import annotations

import ssl
import time
from collections.abc import MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from bdw_fed.v1 import node_pb2
from cluster_agent.data.errors import TransferError
from cluster_agent.data.transfer import many
from tests.data.network import Network, Peer, key, request
from wire import permits
from wire.identity import Role, ssl_client_context

UNIT = f"/v1/default/run1/{key().unit.hex()}"


def take_part(peer: Peer, run: str, *clusters: str) -> None:
    """The coordinator says which clusters take part in a run, and in no other."""
    members = node_pb2.RunMembers(namespace="default", run=run, clusters=clusters)
    peer.readers.told(node_pb2.Members(runs=[members], all=True))


def refused(logs: list[MutableMapping[str, Any]]) -> list[str]:
    return [log["reason"] for log in logs if log["event"] == "a caller was refused"]


@pytest.mark.parametrize("content", [b"small", b"large" * 20_000])
async def test_a_node_of_a_cluster_that_takes_no_part_is_refused(network: Network, content: bytes) -> None:
    there = await network.peer("cloud/n1")
    await there.put(content)
    take_part(there, "run1", "cloud", "edge1")
    for name, status in (("edge1/n1", 200), ("cloud/n2", 200), ("edge2/n1", 403)):
        context = ssl_client_context(network.credentials(Role.NODE, name))
        for method in ("GET", "HEAD"):
            with capture_logs() as logs:
                assert (await request(there, context, method, UNIT))[0] == status, name
            assert len(refused(logs)) == int(status == 403)


async def test_nor_is_there_a_way_around_by_asking_for_many(network: Network) -> None:
    there, foreign = await network.peer("cloud/n1"), await network.peer("edge2/n1")
    await there.put(b"theirs")
    there.store.put(key(2)._replace(run="run2"), b"shared")
    there.readers.told(
        node_pb2.Members(
            runs=[
                node_pb2.RunMembers(namespace="default", run="run1", clusters=["cloud", "edge1"]),
                node_pb2.RunMembers(namespace="default", run="run2", clusters=["cloud", "edge2"]),
            ],
            all=True,
        )
    )
    with capture_logs() as logs:
        found = await foreign.client.pull_small([key(), key(2)._replace(run="run2")], there.source())
    assert found[0] is None
    assert found[1] is not None
    assert found[1][1] == b"shared"
    assert refused(logs) == ["edge2 does not take part in the run run1"]


async def test_a_unit_whose_run_was_not_told_of_is_asked_for_again_later(network: Network) -> None:
    """A node that was restarted has units before it knows whom they are for: they are neither given nor called gone."""
    there, here = await network.peer("cloud/n1"), await network.peer("edge1/n1")
    digest = await there.put(b"content")
    there.readers.told(node_pb2.Members(all=True))
    context = ssl_client_context(here.credentials)
    assert (await request(there, context, "GET", UNIT))[0] == 503
    assert await here.client.pull_small([key()], there.source()) == [None]
    take_part(there, "run1", "cloud", "edge1")
    here.arrivals.fetch(key(), digest, 7, [there.source()])
    assert (await here.arrived())[0].error == ""
    there.readers.run_ended("default", "run1")
    assert (await request(there, context, "GET", UNIT))[0] == 503


async def test_a_cluster_that_a_unit_is_not_expected_from_can_neither_send_it_nor_see_how_far_it_is(
    network: Network,
) -> None:
    there, foreign = await network.peer("cloud/n1"), await network.peer("edge2/n1")
    take_part(there, "run1", "cloud", "edge1")
    digest = await foreign.put(b"content")
    there.arrivals.expect(key(), digest, 7, "edge1")
    with pytest.raises(TransferError, match="403"):
        await foreign.client.push(foreign.store.find(key()), there.source())
    context = ssl_client_context(foreign.credentials)
    assert (await request(there, context, "HEAD", UNIT))[0] == 403
    assert there.told == []


async def test_a_user_reads_what_the_hub_permits_and_nothing_else(network: Network) -> None:
    there = await network.peer("cloud/n1")
    await there.put(b"content")
    hub, anna = network.credentials(Role.HUB, "hub"), network.credentials(Role.USER, "anna")
    agent = network.credentials(Role.AGENT, "cloud")
    now = time.time()
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(anna.ca)
    certified = ssl_client_context(anna)
    mine = permits.issue(hub, "anna", "default", "run1", now=now)
    for context, permit, status in (
        (certified, mine, 200),
        (bare, mine, 200),  # who comes with a token has no certificate
        (certified, permits.issue(hub, "bob", "default", "run1", now=now), 403),
        (certified, permits.issue(hub, "anna", "default", "run2", now=now), 403),
        (certified, permits.issue(hub, "anna", "other", "run1", now=now), 403),
        (certified, permits.issue(hub, "anna", "default", "run1", now=now - 7200), 403),
        (certified, permits.issue(agent, "anna", "default", "run1", now=now), 403),
        (certified, permits.issue(anna, "anna", "default", "run1", now=now), 403),
        (certified, b"", 403),
        (bare, b"", 401),
        (bare, permits.issue(anna, "anna", "default", "run1", now=now), 401),
    ):
        headers = {"Authorization": permits.header(permit)} if permit else {}
        with capture_logs() as logs:
            got, _, body = await request(there, context, "GET", UNIT, headers=headers)
        assert (got, body == b"content") == (status, status == 200)
        assert len(refused(logs)) == int(status != 200)
        assert permits.header(permit) not in str(logs)
    headers = {"Authorization": permits.header(mine)}
    body = many.encode_request([key()])
    assert (await request(there, bare, "POST", "/v1/units", headers=headers, data=body))[0] == 401
    assert (await request(there, bare, "PUT", UNIT, headers={**headers, "Content-Range": "bytes 0-0/1"}, data=b"y"))[
        0
    ] == 403
