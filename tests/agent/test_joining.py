"""Joining from the other side: the key stays here, the token leaves only to who has the right authority."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1.membership_pb2_grpc import JoinServiceServicer, add_JoinServiceServicer_to_server
from cluster_agent.agent import AgentConfig, serve
from cluster_agent.membership.errors import JoinError, NotNowError
from cluster_agent.membership.join import join
from cluster_agent.membership.node_token import FILE, hash_of, read_token
from tests.agent.federation import FakeHub, Members, Served, within
from wire.identity import Identity, Role, grpc_open_credentials, join_server_options
from wire.identity import requests as asking
from wire.identity.authority import Authority

HUB = Identity(Role.HUB, "hub")


class FakeDoor(JoinServiceServicer):
    """Shows an authority, takes tokens, and certifies after as many questions as it was told."""

    def __init__(self, authority: Authority, shown: bytes) -> None:
        self.authority = authority
        self.shown = shown
        self.waits = 0
        self.tokens: list[str] = []
        self.keys: set[str] = set()

    async def Authority(self, request: Any, context: Any) -> pb.AuthorityResponse:
        return pb.AuthorityResponse(certificate=self.shown)

    async def Join(self, request: pb.JoinRequest, context: Any) -> pb.JoinResponse:
        self.tokens.append(request.token)
        self.keys.add(asking.request_hash(request.request))
        if self.waits:
            self.waits -= 1
            return pb.JoinResponse(cluster="edge1")

        key = asking.requested_key(request.request)
        certificate = self.authority.certify(Identity(Role.AGENT, "edge1"), key, timedelta(hours=1))
        return pb.JoinResponse(certificate=certificate, cluster="edge1")


@asynccontextmanager
async def opened(members: Members, door: FakeDoor, server: Identity = HUB) -> AsyncIterator[str]:
    """The door, behind a certificate of the members' authority; its address."""
    credentials = members.authority.issue(server, members.directory / f"door-{server.role}")
    grpc_server = grpc.aio.server(options=join_server_options())
    add_JoinServiceServicer_to_server(door, grpc_server)
    port = grpc_server.add_secure_port("127.0.0.1:0", grpc_open_credentials(credentials))
    await grpc_server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await grpc_server.stop(None)


@pytest.fixture
def door(members: Members) -> FakeDoor:
    return FakeDoor(members.authority, members.authority.pem)


async def test_a_token_and_a_hash_make_a_member(members: Members, door: FakeDoor, tmp_path: Path) -> None:
    async with opened(members, door) as address:
        credentials = await within(join(address, HUB, "t", members.authority.hash, tmp_path / "edge1"))
    assert asking.identity_in(credentials) == Identity(Role.AGENT, "edge1")
    assert credentials.ca.read_bytes() == members.authority.pem
    assert door.tokens == ["t"]


async def test_an_authority_with_another_hash_gets_no_token(members: Members, door: FakeDoor, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other")
    async with opened(members, door) as address:
        with pytest.raises(JoinError, match="The token was not sent"):
            await within(join(address, HUB, "t", other.hash, tmp_path / "edge1"))
    assert door.tokens == []


async def test_somebody_in_between_who_shows_the_right_authority_gets_no_token(
    members: Members, tmp_path: Path
) -> None:
    """What a certificate says is public; only its key makes a server that is believed."""
    true = Authority.create(tmp_path / "true")
    between = FakeDoor(members.authority, true.pem)
    async with opened(members, between) as address:
        with pytest.raises(NotNowError):
            await within(join(address, HUB, "t", true.hash, tmp_path / "edge1"))
    assert between.tokens == []


async def test_a_member_that_is_not_the_hub_gets_no_token(members: Members, door: FakeDoor, tmp_path: Path) -> None:
    async with opened(members, door, Identity(Role.AGENT, "edge7")) as address:
        with pytest.raises(NotNowError):
            await within(join(address, HUB, "t", members.authority.hash, tmp_path / "edge1"))
    assert door.tokens == []


async def test_who_has_to_be_accepted_is_told_once_and_waits_with_one_key(
    members: Members, door: FakeDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster_agent.membership.join._ASK_AGAIN_SECONDS", 0.01)
    door.waits = 3
    told: list[tuple[str, str]] = []
    async with opened(members, door) as address:
        await within(
            join(address, HUB, "t", members.authority.hash, tmp_path / "edge1", waiting=lambda *what: told.append(what))
        )
    assert told == [("edge1", next(iter(door.keys)))]
    assert len(door.keys) == 1


async def test_who_gives_up_waiting_goes_on_with_the_same_key(members: Members, door: FakeDoor, tmp_path: Path) -> None:
    door.waits = 1
    waiting = asyncio.Event()
    async with opened(members, door) as address:
        arguments = (address, HUB, "t", members.authority.hash, tmp_path / "edge1")
        first = asyncio.create_task(join(*arguments, waiting=lambda *_: waiting.set()))
        await within(waiting.wait())
        first.cancel()
        await within(join(*arguments))
    assert len(door.keys) == 1


@pytest.mark.parametrize(
    ("address", "hash_", "words"),
    [
        ("hub", "sha256:" + "0" * 64, "is no address"),
        ("hub:7442", "0" * 64, "is no hash of an authority"),
        ("hub:7442", "sha256:" + "G" * 64, "is no hash of an authority"),
    ],
)
async def test_what_can_t_be_meant_is_told(address: str, hash_: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(JoinError, match=words):
        await join(address, HUB, "t", hash_, tmp_path / "edge1")


async def test_a_door_that_is_not_there_may_be_there_later(tmp_path: Path) -> None:
    with pytest.raises(NotNowError, match="can't be reached"):
        await within(join("127.0.0.1:1", HUB, "t", "sha256:" + "0" * 64, tmp_path / "edge1"))


# ------------------------------------------------------------------------------------------------- nodes


@asynccontextmanager
async def agent(members: Members, hub: FakeHub, hub_address: str, state: Path) -> AsyncIterator[str]:
    """A real agent of edge1; the address of its door for newcomers."""
    ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    config = AgentConfig(
        cluster="edge1",
        state=state,
        hub=[hub_address],
        credentials=members.issue(Role.AGENT, "edge1"),
        listen_nodes="127.0.0.1:0",
        listen_peers="127.0.0.1:0",
        listen_join="127.0.0.1:0",
        data_root=state,
    )
    serving = asyncio.create_task(serve(config, ready.set_result, stop))
    try:
        yield (await within(ready))["join"]
    finally:
        stop.set()
        await within(serving)


EDGE = Identity(Role.AGENT, "edge1")


async def test_a_node_joins_at_its_agent_which_asks_the_hub(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    hub.authority = members.authority
    async with agent(members, hub, hub_server.address, tmp_path / "agent") as address:
        await within(hub.sessions.get())
        token = read_token(tmp_path / "agent" / FILE)
        assert (tmp_path / "agent" / FILE).stat().st_mode & 0o777 == 0o600
        for name in ("n1", "n2"):
            credentials = await _joined(address, token, tmp_path / name, name)
            assert str(asking.identity_in(credentials)) == f"node edge1/{name}"
    async with agent(members, hub, hub_server.address, tmp_path / "agent"):
        assert read_token(tmp_path / "agent" / FILE) == token


async def _joined(address: str, token: str, place: Path, name: str) -> Any:
    """Joined as soon as the agent has its session with the hub."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await join(address, EDGE, token, hash_of(token, "here"), place, cluster="edge1", node=name)
            except NotNowError:
                await asyncio.sleep(0.01)


async def test_a_node_with_another_token_or_of_another_cluster_is_refused_and_logged(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    hub.authority = members.authority
    hash_ = members.authority.hash
    async with agent(members, hub, hub_server.address, tmp_path / "agent") as address:
        token = read_token(tmp_path / "agent" / FILE)
        for presented, cluster, words in (
            (f"{hash_}.{'0' * 40}", "edge1", "cluster edge1: this is not the node token"),
            ("", "edge1", "cluster edge1: this is not the node token"),
            (token, "edge2", "of cluster edge1, not of edge2"),
        ):
            with capture_logs() as logs, pytest.raises(JoinError, match=words):
                await within(join(address, EDGE, presented, hash_, tmp_path / "n1", cluster=cluster, node="n1"))
            assert [words in entry["reason"] for entry in logs if entry["event"] == "a caller was refused"] == [True]
            assert token not in repr(logs)
    assert hub.certified == []


async def test_without_the_hub_a_node_is_told_to_come_again(members: Members, hub: FakeHub, tmp_path: Path) -> None:
    async with agent(members, hub, "127.0.0.1:1", tmp_path / "agent") as address:
        token = read_token(tmp_path / "agent" / FILE)
        with pytest.raises(NotNowError, match="the hub, which makes certificates, can't be reached"):
            await within(join(address, EDGE, token, members.authority.hash, tmp_path / "n1", node="n1"))


def test_a_file_that_holds_no_node_token_is_named(tmp_path: Path) -> None:
    with pytest.raises(JoinError, match="token: the node token can't be read"):
        read_token(tmp_path / "token")
    (tmp_path / "token").write_text("secret")
    with pytest.raises(JoinError, match="token: this is no node token"):
        read_token(tmp_path / "token")
