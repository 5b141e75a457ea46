"""Renewal: in time, for a new key, and nobody who is connected notices."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate

from bdw_fed.v1.node_pb2 import RenewRequest
from cluster_agent.agent import AgentConfig, serve
from cluster_agent.membership.errors import NotNowError
from cluster_agent.membership.renewal import Renewal
from tests.agent.agents import running
from tests.agent.federation import FakeHub, FakeNode, Members, Served, until, within
from wire.identity import Credentials, Identity, Role
from wire.identity import requests as asking


def serial(credentials: Credentials) -> int:
    return load_pem_x509_certificate(credentials.certificate.read_bytes()).serial_number


def key(credentials: Credentials) -> bytes:
    return credentials.key.read_bytes()


class Issuer:
    """Certifies an agent, or can't just now."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self.away = 0
        self.asked: list[str] = []

    async def __call__(self, request: bytes) -> bytes:
        self.asked.append(asking.request_hash(request))
        if self.away:
            self.away -= 1
            raise NotNowError("nobody is there")
        edge = Identity(Role.AGENT, "edge1")
        return self.members.authority.certify(edge, asking.requested_key(request), timedelta(hours=1))


async def test_a_certificate_is_renewed_for_a_new_key_when_it_is_time(members: Members) -> None:
    credentials = members.issue(Role.AGENT, "edge1")
    before = serial(credentials), key(credentials)
    renewed = asyncio.Event()
    renewal = Renewal(credentials, Issuer(members), renewed.set)
    renewing = asyncio.create_task(renewal.run())
    renewal.told(0.001)
    await within(renewed.wait())
    renewing.cancel()
    assert serial(credentials) != before[0]
    assert key(credentials) != before[1]


async def test_nothing_is_renewed_before_its_time_or_by_a_hub_that_renews_nothing(members: Members) -> None:
    issuer = Issuer(members)
    renewal = Renewal(members.issue(Role.AGENT, "edge1"), issuer)
    renewing = asyncio.create_task(renewal.run())
    for seconds in (0.0, 3600.0, 0.0):
        renewal.told(seconds)
        for _ in range(5):
            await asyncio.sleep(0)
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    assert issuer.asked == []


async def test_it_is_tried_until_it_succeeds_with_one_and_the_same_key(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster_agent.link.backoff.Backoff.next", lambda _: 0.0)
    credentials = members.issue(Role.AGENT, "edge1")
    issuer = Issuer(members)
    issuer.away = 3
    renewed = asyncio.Event()
    renewal = Renewal(credentials, issuer, renewed.set)
    renewing = asyncio.create_task(renewal.run())
    renewal.told(0.001)
    await within(renewed.wait())
    renewing.cancel()
    assert len(issuer.asked) >= 4
    assert len(set(issuer.asked[:4])) == 1


async def test_an_agent_is_renewed_without_dropping_its_session_or_its_nodes(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    hub.authority, hub.renew_after = members.authority, 1.0
    credentials = members.issue(Role.AGENT, "edge1")
    ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    config = AgentConfig(
        cluster="edge1",
        state=tmp_path / "agent",
        hub=[hub_server.address],
        credentials=credentials,
        listen_nodes="127.0.0.1:0",
        listen_peers="127.0.0.1:0",
        data_root=tmp_path,
    )
    serving = asyncio.create_task(serve(config, ready.set_result, stop))
    addresses = await within(ready)
    session = await within(hub.sessions.get())
    node_credentials = members.issue(Role.NODE, "edge1/n1")
    async with FakeNode(addresses["nodes"], "edge1", "n1", node_credentials) as node:
        await node.command("welcome")
        seen = {serial(credentials)}
        while len(seen) < 4:  # three renewals
            await until(lambda: serial(credentials) not in seen)
            seen.add(serial(credentials))
        assert hub.live["edge1"] is session
        assert hub.sessions.empty()
        assert not node.call.done()
        async with FakeNode(addresses["nodes"], "edge1", "n2", members.issue(Role.NODE, "edge1/n2")) as later:
            await later.command("welcome")  # a new connection, to the certificate of now
    stop.set()
    await within(serving)


async def test_a_node_is_renewed_by_the_hub_through_its_agent(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    hub.authority = members.authority
    credentials = members.issue(Role.NODE, "edge1/n1")
    async with running(members, tmp_path / "edge1", "edge1", [hub_server.address]) as agent:
        await within(hub.sessions.get())
        await until(lambda: agent.link.calls._stub)
        async with FakeNode(agent.node_door, "edge1", "n1", credentials) as node:
            request = asking.begin(credentials.key.parent)
            answer = await within(node.stub.Renew(RenewRequest(request=request)))
            asking.install(credentials.key.parent, answer.certificate, credentials.ca.read_bytes())
        assert str(asking.identity_in(credentials)) == "node edge1/n1"
        assert [str(each) for each in hub.certified] == ["node edge1/n1"]
