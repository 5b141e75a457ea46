"""A token is believed if its issuer has signed it for us and it has not run out; and only as to who it is."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bdw_fed.client import SyncClient
from bdw_fed.client.connection import Profile
from bdw_fed.client.errors import Forbidden
from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from bdw_fed.v1.federation_pb2 import AgentHello, SessionRequest
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from control_plane.access.caller import Caller
from control_plane.access.errors import IssuerUnavailable, TokenRefused
from control_plane.access.tokens import Issuer, Tokens
from tests.access.issuer import CLIENT, LocalIssuer, local_issuer
from tests.access.people import answer_to, audited
from tests.fixtures.ports import free_port
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import TOPOLOGY
from wire.identity import Identity, Role, channel_options


@asynccontextmanager
async def users_channel(hub: RunningHub, token: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the users' door, with a token if there is one."""
    authority = hub.members.credentials(Role.HUB, "hub").ca.read_bytes()
    credentials = grpc.ssl_channel_credentials(authority)
    if token:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
    options = channel_options(Identity(Role.HUB, "hub"))
    async with grpc.aio.secure_channel(hub.listen_users, credentials, options=options) as channel:
        yield channel


@asynccontextmanager
async def with_token(hub: RunningHub, token: str) -> AsyncIterator[ControlPlaneServiceStub]:
    async with users_channel(hub, token) as channel:
        yield ControlPlaneServiceStub(channel)


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[LocalIssuer]:
    async with local_issuer(tmp_path) as running:
        yield running


def tokens(issuer: LocalIssuer, *, pause: float = 0.0, kept: float = 3600.0, **more: Any) -> Tokens:
    return Tokens(Issuer(issuer.url, CLIENT, ca=issuer.ca, **more), pause=pause, kept=kept)


async def test_a_good_token_says_who_somebody_is_and_in_which_groups(issuer: LocalIssuer) -> None:
    caller = await tokens(issuer).caller(issuer.token("ann", groups=["lab", "night shift"]))
    assert caller.subjects == ("oidc:ann", "group:lab", "group:night shift")
    assert (await tokens(issuer).caller(issuer.token(groups="lab"))).groups == ("lab",)
    by_mail = tokens(issuer, user_claim="email", groups_claim="teams")
    said = issuer.token(email="ann@example.org", teams=["lab"], groups=["other"])
    assert (await by_mail.caller(said)).subjects == ("oidc:ann@example.org", "group:lab")


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": time.time() - 120}, "has run out"),
        ({"exp": None}, "exp"),
        ({"nbf": time.time() + 86400}, "not yet valid"),
        ({"iat": time.time() + 86400}, "not yet valid"),
        ({"aud": "somebody-else"}, "made for somebody else"),
        ({"aud": [CLIENT, "another"]}, "made for several"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "made for several"),
        ({"iss": "https://elsewhere.example"}, "it is not of"),
        ({"sub": None}, "sub"),
        ({"sub": "a\nb"}, "no name that roles"),
        ({"groups": [1]}, "not a list of names"),
        ({"groups": {"a": 1}}, "not a list of names"),
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(issuer: LocalIssuer, claims: dict[str, Any], words: str) -> None:
    with pytest.raises(TokenRefused, match=words):
        await tokens(issuer).caller(issuer.token(**claims))


async def test_an_address_that_the_issuer_has_not_verified_is_no_name(issuer: LocalIssuer) -> None:
    with pytest.raises(TokenRefused, match="not verified"):
        await tokens(issuer, user_claim="email").caller(issuer.token(email="a@b.example", email_verified=False))


async def test_a_clock_that_is_a_little_off_does_no_harm(issuer: LocalIssuer) -> None:
    now = time.time()
    caller = await tokens(issuer).caller(issuer.token(exp=now - 30, iat=now + 30, nbf=now + 30))
    assert caller.until is not None
    assert caller.until > now


async def test_a_signature_counts_only_if_the_issuer_made_it(issuer: LocalIssuer) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    checked = tokens(issuer)
    with pytest.raises(TokenRefused, match="signature is wrong"):
        await checked.caller(issuer.token(key=stranger))
    with pytest.raises(TokenRefused, match="does not have"):
        await checked.caller(issuer.token(headers={"kid": "another"}))
    good = issuer.token()
    head, body, _ = good.split(".")
    unsigned = jwt.encode({"sub": "ann"}, None, algorithm="none")  # type: ignore[arg-type]
    public = "a public key is no secret, whoever signs with it: " * 2
    for forged, words in (
        (unsigned, "way that counts"),
        (f"{unsigned.split('.')[0]}.{body}.", "way that counts"),
        (jwt.encode({"sub": "ann"}, public, algorithm="HS256", headers={"kid": "first"}), "way that counts"),
        (f"{head}.{body}.", "signature is wrong"),
        ("nonsense", "not a JSON web token"),
        ("", "not a JSON web token"),
        ("x" * 20_000, "more than any token"),
    ):
        with pytest.raises(TokenRefused, match=words):
            await checked.caller(forged)
    assert (await checked.caller(good)).name == "oidc:ann"


async def test_keys_are_fetched_once_and_again_when_the_issuer_has_new_ones(issuer: LocalIssuer) -> None:
    checked = tokens(issuer)
    for _ in range(3):
        await checked.caller(issuer.token())
    assert issuer.fetches == 1
    old = issuer.token()
    issuer.rotate("second")
    assert (await checked.caller(issuer.token())).name == "oidc:ann"
    assert issuer.fetches == 2
    with pytest.raises(TokenRefused, match="not any more"):
        await checked.caller(old)


async def test_made_up_keys_do_not_make_us_flood_the_issuer(issuer: LocalIssuer) -> None:
    checked = tokens(issuer, pause=3600.0)
    for number in range(20):
        with pytest.raises(TokenRefused):
            await checked.caller(issuer.token(headers={"kid": str(number)}))
    assert issuer.fetches == 1
    assert (await checked.caller(issuer.token())).name == "oidc:ann"


async def test_while_the_issuer_is_away_its_known_keys_count_and_of_others_nothing_is_known(
    issuer: LocalIssuer,
) -> None:
    knows, knows_not = tokens(issuer, kept=0.0), tokens(issuer)
    await knows.caller(issuer.token())
    issuer.up = False
    assert (await knows.caller(issuer.token())).name == "oidc:ann"
    with pytest.raises(IssuerUnavailable, match="try again"):
        await knows_not.caller(issuer.token())
    issuer.up = True
    assert (await knows_not.caller(issuer.token())).name == "oidc:ann"


async def test_an_issuer_that_calls_itself_another_or_is_not_certified_is_not_believed(
    issuer: LocalIssuer, tmp_path: Path
) -> None:
    issuer.calls_itself = "https://another.example"
    with pytest.raises(IssuerUnavailable):
        await tokens(issuer).caller(issuer.token())
    issuer.calls_itself = ""
    with pytest.raises(IssuerUnavailable):
        await Tokens(Issuer(issuer.url, CLIENT)).caller(issuer.token())
    with pytest.raises(ValueError, match="https"):
        Issuer("http://plain.example", CLIENT)


async def test_users_with_tokens_are_served_at_a_door_of_their_own_with_the_roles_that_are_bound_to_them(
    hub: RunningHub, issuer: LocalIssuer
) -> None:
    await hub.stop()
    hub.listen_users = f"127.0.0.1:{free_port()}"
    hub.issuer = Issuer(issuer.url, CLIENT, ca=issuer.ca)
    await hub.start()
    look, role = cp.ListRequest(kind="Run", namespace="here"), access_pb2.ROLE_EXPERT
    async with hub.person() as admin:
        await admin.GrantRole(cp.GrantRoleRequest(subject="group:lab", role=role, namespace="here"))
    for token, code, words in (
        (issuer.token("ann", groups=["lab"]), grpc.StatusCode.OK, ""),
        (issuer.token("ann", groups=["other"]), grpc.StatusCode.PERMISSION_DENIED, "you are oidc:ann"),
        (issuer.token("ada"), grpc.StatusCode.PERMISSION_DENIED, "you are oidc:ada"),  # not the certificate's ada
        (issuer.token(exp=1.0), grpc.StatusCode.UNAUTHENTICATED, "log in again"),
        ("", grpc.StatusCode.UNAUTHENTICATED, "BDW_FED_TOKEN"),
    ):
        async with with_token(hub, token) as stub:
            answered, said = await answer_to(stub, "List", look)
            assert (answered, words in said) == (code, True), said
            cancel = cp.CancelRunRequest(run="r", namespace="here")
            refused = code is not grpc.StatusCode.OK
            assert ((await answer_to(stub, "CancelRun", cancel))[0] is code) is refused
            assert token not in hub.audit.read_text() or not token
    assert [line["allowed"] for line in audited(hub)[1:]] == [True, False, False, False, False]
    assert audited(hub)[1]["by"] == "oidc:ann"


async def test_a_stream_ends_before_its_next_word_once_the_token_has_run_out(
    hub: RunningHub, issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.stop()
    hub.listen_users = f"127.0.0.1:{free_port()}"
    hub.issuer = Issuer(issuer.url, CLIENT, ca=issuer.ca)
    await hub.start()
    async with hub.person() as admin, with_token(hub, issuer.token("ann")) as ann, asyncio.timeout(SECONDS):
        await admin.GrantRole(cp.GrantRoleRequest(subject="oidc:ann", role=access_pb2.ROLE_VIEWER))
        now = (await admin.List(cp.ListRequest(kind="Topology"))).store_revision
        watch = ann.Watch(cp.WatchRequest(kind="Topology", store_revision=now))
        await apply(admin, TOPOLOGY)
        assert (await watch.read()).object.name == "pair"  # type: ignore[union-attr]
        clock = SimpleNamespace(time=lambda: time.time() + 7 * 86400)
        monkeypatch.setattr("control_plane.access.gate.time", clock)
        await apply(admin, TOPOLOGY.replace("5ms", "6ms"))
        with pytest.raises(grpc.aio.AioRpcError, match="your token has run out: log in again") as caught:
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_client_logs_in_with_a_token_which_may_be_renewed_while_it_works(
    hub: RunningHub, issuer: LocalIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.stop()
    hub.listen_users = f"127.0.0.1:{free_port()}"
    hub.issuer = Issuer(issuer.url, CLIENT, ca=issuer.ca)
    await hub.start()
    async with hub.person() as admin:
        for name in ("ann", "bob"):
            await admin.GrantRole(cp.GrantRoleRequest(subject=f"oidc:{name}", role=access_pb2.ROLE_VIEWER))
    folder = tmp_path / "login"
    folder.mkdir()
    shutil.copy(hub.members.credentials(Role.HUB, "hub").ca, folder / "ca.pem")
    (folder / "token").write_text(issuer.token("ann") + "\n")

    def look() -> None:
        with SyncClient(Profile(hub.listen_users, folder)) as client:
            assert client.list("Run") == []
            (folder / "token").write_text(issuer.token("ann", exp=1.0))
            with pytest.raises(Forbidden, match="log in again"):
                client.list("Run")
            monkeypatch.setenv("BDW_FED_TOKEN", issuer.token("bob"))
            assert client.list("Run") == []

    await asyncio.to_thread(look)


async def test_at_the_users_door_nobody_is_an_agent(hub: RunningHub, issuer: LocalIssuer) -> None:
    await hub.stop()
    hub.listen_users = f"127.0.0.1:{free_port()}"
    hub.issuer = Issuer(issuer.url, CLIENT, ca=issuer.ca)
    await hub.start()
    async with users_channel(hub, issuer.token()) as channel:
        session = FederationServiceStub(channel).Session()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.write(SessionRequest(hello=AgentHello(cluster="edge", protocol=1, protocol_min=1)))
            await session.read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_caller_without_groups_has_one_name() -> None:
    assert Caller("ada").subjects == ("ada",)
