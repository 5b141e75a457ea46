"""Joining the hub: a token lets in one key as one cluster, in time, and nobody else; whoever is refused is logged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography.x509 import load_pem_x509_certificate
from structlog.testing import capture_logs

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1 import store_pb2 as s
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from control_plane.kinds import Kinds
from control_plane.membership import tokens
from control_plane.store.etcd.client import Client, Config
from control_plane.store.repository import Store
from tests.fixtures.etcd import EtcdServer
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, Members, RunningHub
from tests.hub.newcomer import Newcomer, certified, knocking, token
from wire.identity import Credentials, Identity, Role
from wire.identity import requests as asking


@pytest.fixture
async def kinds(empty_server: EtcdServer) -> AsyncIterator[Kinds]:
    """The store, behind the hub's back."""
    async with Client(Config((empty_server.etcd.config.endpoint,), empty_server.tls)) as client:
        yield Kinds(Store(client))


@contextmanager
def refused(code: grpc.StatusCode, reason: str, event: str = "a join was refused") -> Iterator[None]:
    """What is done in here is refused with these words, and logged with them and where it came from."""
    with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is code
    assert reason in str(caught.value.details())
    logged = [entry for entry in logs if entry["event"] == event]
    assert [entry["reason"] for entry in logged] == [caught.value.details()]
    assert "127.0.0.1" in logged[0]["sender"]


@asynccontextmanager
async def attached(hub: RunningHub, cluster: str, shown: Credentials | None = None) -> AsyncIterator[FakeAgent]:
    async with FakeAgent(hub, cluster, shown=shown) as agent:
        yield agent


DENIED = grpc.StatusCode.PERMISSION_DENIED
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


async def test_with_a_token_a_cluster_gets_a_certificate_and_is_served(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    shown = await Newcomer(hub, tmp_path / "edge1").joined(await token(person, "edge1"))
    assert asking.identity_in(shown) == Identity(Role.AGENT, "edge1")
    async with attached(hub, "edge1", shown) as agent:
        assert agent.welcome is not None
        assert agent.welcome.renew_after == pytest.approx(hub.certificate_life * 2 / 3)


async def test_a_certificate_is_good_for_its_life_and_the_grace_beyond(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    shown = await Newcomer(hub, tmp_path / "edge1").joined(await token(person, "edge1"))
    certificate = load_pem_x509_certificate(shown.certificate.read_bytes())
    valid = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert valid.total_seconds() == hub.certificate_life + hub.certificate_grace + 300  # and for clocks behind ours


async def test_a_used_token_lets_nobody_else_in(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    made = await token(person, "edge1")
    await Newcomer(hub, tmp_path / "edge1").joined(made)
    with refused(DENIED, "used already"):
        await Newcomer(hub, tmp_path / "thief").join(made)


async def test_of_many_who_come_at_once_with_one_token_one_gets_in(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    made = await token(person, "edge1")
    came = [Newcomer(hub, tmp_path / str(number)).join(made) for number in range(12)]
    answers = await asyncio.gather(*came, return_exceptions=True)
    got = [answer for answer in answers if isinstance(answer, pb.JoinResponse)]
    assert [bool(answer.certificate) for answer in got] == [True]
    assert {each.code() for each in answers if isinstance(each, grpc.aio.AioRpcError)} == {DENIED}


async def test_a_lost_answer_is_given_again_to_the_same_key(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    made = await token(person, "edge1")
    newcomer = Newcomer(hub, tmp_path / "edge1")
    await newcomer.join(made)
    await hub.stop()
    await hub.start()
    assert asking.identity_in(await newcomer.joined(made)).name == "edge1"


async def test_an_expired_token_lets_nobody_in(
    hub: RunningHub, person: ControlPlaneServiceStub, kinds: Kinds, tmp_path: Path
) -> None:
    made = await token(person, "edge1")
    stored = await kinds.tokens.get(kinds.tokens.key(made.partition(".")[0]))
    assert stored is not None
    stored.value.expires_at = stored.value.created_at
    await kinds.tokens.update(stored.key, stored.value, stored.revision)
    with refused(DENIED, "expired"):
        await Newcomer(hub, tmp_path / "edge1").join(made)


async def test_a_token_for_another_cluster_lets_nobody_in(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    made = await token(person, "edge1")
    newcomer = Newcomer(hub, tmp_path / "edge2")
    with refused(DENIED, "for cluster edge1, not for edge2"):
        await newcomer.join(made, cluster="edge2")
    assert asking.identity_in(await newcomer.joined(made)).name == "edge1"  # it was not used up by that


@pytest.mark.parametrize(
    "guess", ["", "x", "../../agents/edge1", "\0", "0123456789." + "0" * 40, "A" * 60_000, "0123456789.\n" + "0" * 39]
)
async def test_a_token_that_was_never_made_lets_nobody_in(hub: RunningHub, guess: str, tmp_path: Path) -> None:
    reason = "is not known" if guess.endswith("." + "0" * 40) else "this is no token"
    with refused(DENIED, reason):
        await Newcomer(hub, tmp_path / "edge1").join(guess)


async def test_a_wrong_secret_is_told_nothing_about_its_token(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    made = await token(person, "edge1")
    await Newcomer(hub, tmp_path / "edge1").joined(made)
    wrong = made[:-1] + ("0" if made[-1] != "0" else "1")
    with refused(DENIED, "is not known"):
        await Newcomer(hub, tmp_path / "thief").join(wrong, cluster="edge2")


async def test_a_deleted_token_lets_nobody_in(hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path) -> None:
    made = await token(person, "edge1")
    await person.DeleteToken(pb.DeleteTokenRequest(id=made.partition(".")[0]), timeout=SECONDS)
    with refused(DENIED, "is not known"):
        await Newcomer(hub, tmp_path / "edge1").join(made)


async def test_what_is_no_request_uses_no_token_up(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    made = await token(person, "edge1")
    newcomer = Newcomer(hub, tmp_path / "edge1")
    good, newcomer.request = newcomer.request, b"\x30\x00"
    with refused(DENIED, "no PKCS#10 request"):
        await newcomer.join(made)
    newcomer.request = good
    await newcomer.joined(made)


async def test_secrets_of_tokens_are_neither_stored_nor_listed_nor_logged(
    hub: RunningHub, person: ControlPlaneServiceStub, kinds: Kinds, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        made = await token(person, "edge1")
        await Newcomer(hub, tmp_path / "edge1").joined(made)
        with pytest.raises(grpc.aio.AioRpcError):
            await Newcomer(hub, tmp_path / "thief").join(made)
    secret = made.partition(".")[2]
    listed = await person.ListTokens(pb.ListTokensRequest(), timeout=SECONDS)
    stored = await kinds.tokens.list()
    for text in (repr(logs), repr(listed), repr(stored)):
        assert "edge1" in text
        assert secret not in text
    record = stored.items[0].value
    assert secret.encode() not in record.SerializeToString()
    assert bytes.fromhex(secret) not in record.SerializeToString()


async def test_where_the_token_asks_for_it_an_operator_lets_the_cluster_in(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    made = await token(person, "edge1", needs_acceptance=True)
    newcomer = Newcomer(hub, tmp_path / "edge1")
    assert not (await newcomer.join(made)).certificate
    waiting = (await person.ListTokens(pb.ListTokensRequest(), timeout=SECONDS)).tokens
    assert [(each.state, each.key) for each in waiting] == [("waiting", newcomer.key)]
    await person.AcceptCluster(pb.AcceptClusterRequest(cluster="edge1"), timeout=SECONDS)
    assert asking.identity_in(await newcomer.joined(made)).name == "edge1"


async def test_who_waits_is_not_mixed_up_with_who_waits_too(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    first, second = [await token(person, "edge1", needs_acceptance=True) for _ in range(2)]
    meant, other = Newcomer(hub, tmp_path / "meant"), Newcomer(hub, tmp_path / "other")
    await meant.join(first)
    await other.join(second)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await person.AcceptCluster(pb.AcceptClusterRequest(cluster="edge1"), timeout=SECONDS)
    assert "several keys of edge1 wait" in str(caught.value.details())
    await person.AcceptCluster(pb.AcceptClusterRequest(cluster="edge1", key=meant.key), timeout=SECONDS)
    assert (await meant.join(first)).certificate
    assert not (await other.join(second)).certificate


async def test_nobody_is_accepted_who_does_not_wait(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await token(person, "edge1", needs_acceptance=True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await person.AcceptCluster(pb.AcceptClusterRequest(cluster="edge1"), timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_the_door_for_newcomers_leads_nowhere_else(hub: RunningHub) -> None:
    async with knocking(hub) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ControlPlaneServiceStub(channel).Status(cp.StatusRequest(), timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        session = FederationServiceStub(channel).Session()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.read()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"time_to_live": 0.0}, "lives for more than nothing"),
        ({"time_to_live": float("nan")}, "lives for more than nothing"),
        ({"time_to_live": 1e9}, "at most 30 days"),
        ({"cluster": "../agents"}, "is not a name"),
        ({"cluster": "edge1/n1"}, "is not a name"),
        ({"cluster": "a\0b"}, "is not a name"),
    ],
)
async def test_a_token_that_can_t_be_meant_is_not_made(
    hub: RunningHub, person: ControlPlaneServiceStub, more: dict[str, object], words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await token(person, str(more.pop("cluster", "edge1")), **more)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in str(caught.value.details())


async def test_a_hub_without_the_authority_says_what_it_needs(
    empty_server: EtcdServer, members: Members, tmp_path: Path
) -> None:
    hub = RunningHub(members, empty_server.etcd.config.endpoint, empty_server.tls, tmp_path / "hub")
    hub.authority = None
    async with hub, hub.person() as person:
        async with FakeAgent(hub, "edge1") as agent:
            assert agent.welcome is not None
            assert agent.welcome.renew_after == 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await token(person, "edge1")
        assert "--authority" in str(caught.value.details())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await person.RevokeCluster(pb.RevokeClusterRequest(cluster="edge1"), timeout=SECONDS)
        assert "--authority" in str(caught.value.details())


# ------------------------------------------------------------------------------------------------- renewing


async def test_an_agent_gets_its_next_certificate_for_a_new_key(hub: RunningHub, tmp_path: Path) -> None:
    newcomer = Newcomer(hub, tmp_path / "edge1")
    certificate = await certified(hub, "edge1", newcomer.request)
    shown = asking.install(newcomer.place, certificate, hub.members.authority.pem)
    assert asking.identity_in(shown) == Identity(Role.AGENT, "edge1")
    async with attached(hub, "edge1", shown):
        pass


async def test_a_node_is_certified_as_one_of_the_agent_s_cluster(hub: RunningHub, tmp_path: Path) -> None:
    newcomer = Newcomer(hub, tmp_path / "n1")
    certificate = await certified(hub, "edge1", newcomer.request, node="n1")
    shown = asking.install(newcomer.place, certificate, hub.members.authority.pem)
    assert asking.identity_in(shown) == Identity(Role.NODE, "edge1/n1")


@pytest.mark.parametrize("node", ["../edge2/n1", "a/b", "a\0b", "A", "-"])
async def test_no_node_has_a_name_that_is_none(hub: RunningHub, node: str, tmp_path: Path) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "is not a name", "a caller was refused"):
        await certified(hub, "edge1", asking.begin(tmp_path / "n1"), node=node)


@pytest.mark.parametrize(("role", "name"), [(Role.USER, "ada"), (Role.NODE, "edge1/n1"), (Role.HUB, "hub")])
async def test_nobody_but_an_agent_has_certificates_made(
    hub: RunningHub, role: Role, name: str, tmp_path: Path
) -> None:
    shown = hub.members.credentials(role, name)
    with refused(DENIED, "may not do this", "a caller was refused"):
        await certified(hub, "edge1", asking.begin(tmp_path / "x"), shown=shown)


async def test_the_certificate_of_another_cluster_opens_no_session(hub: RunningHub) -> None:
    with capture_logs() as logs:
        agent = FakeAgent(hub, "edge1")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agent.connect(as_cluster="edge2")
        await agent.disconnect()
    assert caught.value.code() is DENIED
    assert [entry["reason"] for entry in logs if entry["event"] == "a caller was refused"] == [caught.value.details()]


# ------------------------------------------------------------------------------------------------- tokens alone


def record(**more: object) -> s.TokenRecord:
    known = {"id": "00", "cluster": "edge1", "digest": tokens.digest("00", "secret"), "expires_at": 100.0}
    return s.TokenRecord(**{**known, **more})  # type: ignore[arg-type]


def test_a_key_that_came_in_time_may_come_again_later() -> None:
    used = tokens.present(record(), "secret", "", b"key", "here", 99.0)
    assert tokens.present(used, "secret", "edge1", b"key", "there", 500.0) is used
    assert tokens.admits(used)


def test_what_becomes_of_a_token_can_be_told() -> None:
    states = [tokens.shown(record(), now).state for now in (99.0, 100.0)]
    used = tokens.present(record(needs_acceptance=True), "secret", "", b"key", "here", 99.0)
    states.append(tokens.shown(used, 500.0).state)
    used.accepted_by = "ada"
    states.append(tokens.shown(used, 500.0).state)
    assert states == ["unused", "expired", "waiting", "used"]
    assert not tokens.is_forgotten(record(), 100.0 + tokens.KEPT_SECONDS - 1)
    assert tokens.is_forgotten(record(), 100.0 + tokens.KEPT_SECONDS)
