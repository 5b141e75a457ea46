"""Who has a certificate and a role gets the next certificate, for a new key and as nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from cryptography.x509 import load_pem_x509_certificate

from bdw_fed.client import SyncClient
from bdw_fed.client.connection import Profile
from bdw_fed.client.errors import Forbidden
from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from control_plane.access.tokens import Issuer
from tests.access.issuer import CLIENT, LocalIssuer
from tests.access.people import answer_to, audited
from tests.access.test_tokens import issuer, with_token
from tests.fixtures.ports import free_port
from tests.hub.hub import RunningHub
from wire.identity import Credentials, Identity, Role
from wire.identity import requests as asking

__all__ = ["issuer"]


def login(hub: RunningHub, place: Path) -> Profile:
    """A directory of eve's own."""
    hub.members.authority.issue(Identity(Role.USER, "eve"), place)
    return Profile(hub.address, place, "here")


def serial(place: Path) -> int:
    return load_pem_x509_certificate((place / "cert.pem").read_bytes()).serial_number


async def test_a_user_has_the_certificate_renewed_and_goes_on_with_it(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    profile = login(hub, tmp_path)
    before, key = serial(tmp_path), (tmp_path / "key.pem").read_bytes()
    await person.GrantRole(cp.GrantRoleRequest(subject="eve", role=access_pb2.ROLE_VIEWER, namespace="here"))

    def renew() -> float:
        with SyncClient(profile) as client:
            ends = client.renew_certificate().timestamp()
            client.list("Run")  # on the connection that is open
        with SyncClient(profile) as client:
            client.list("Run")
        return ends

    ends = await asyncio.to_thread(renew)
    credentials = Credentials.load(tmp_path)
    assert asking.identity_in(credentials) == Identity(Role.USER, "eve")
    assert serial(tmp_path) != before
    assert (tmp_path / "key.pem").read_bytes() != key
    assert asking.ends_at(credentials).timestamp() == ends
    assert asking.seconds_valid(credentials) == hub.certificate_life + hub.certificate_grace
    (line,) = [each for each in audited(hub) if each["call"] == "RenewCertificate"]
    assert (line["by"], line["namespace"], line["allowed"]) == ("eve", "here", True)


async def test_who_has_no_role_any_more_gets_no_other_and_goes_on_with_the_same_key_once_they_have(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path
) -> None:
    profile = login(hub, tmp_path)
    before = serial(tmp_path)

    def refused() -> None:
        with SyncClient(profile) as client, pytest.raises(Forbidden, match="RenewCertificate needs viewer"):
            client.renew_certificate()

    await asyncio.to_thread(refused)
    assert serial(tmp_path) == before
    waiting = (tmp_path / "next-key.pem").read_bytes()
    await person.GrantRole(cp.GrantRoleRequest(subject="eve", role=access_pb2.ROLE_VIEWER))

    def renew() -> None:
        with SyncClient(profile) as client:
            client.renew_certificate()

    await asyncio.to_thread(renew)
    assert (tmp_path / "key.pem").read_bytes() == waiting


async def test_a_token_gets_nobody_a_certificate(hub: RunningHub, issuer: LocalIssuer, tmp_path: Path) -> None:
    await hub.stop()
    hub.listen_users = f"127.0.0.1:{free_port()}"
    hub.issuer = Issuer(issuer.url, CLIENT, ca=issuer.ca)
    await hub.start()
    async with hub.person() as admin:
        await admin.GrantRole(cp.GrantRoleRequest(subject="oidc:eve", role=access_pb2.ROLE_ADMIN))
    async with with_token(hub, issuer.token("eve")) as eve:
        request = pb.RenewCertificateRequest(request=asking.begin(tmp_path))
        code, words = await answer_to(eve, "RenewCertificate", request)
        assert (code, "no certificate to renew" in words) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_what_is_no_request_is_refused_and_so_is_a_hub_without_the_authority(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    code, words = await answer_to(person, "RenewCertificate", pb.RenewCertificateRequest(request=b"nothing"))
    assert (code, "no PKCS#10 request" in words) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    await hub.stop()
    hub.authority = None
    await hub.start()
    async with hub.person() as again:
        code, words = await answer_to(again, "RenewCertificate")
        assert (code, "--authority DIR" in words) == (grpc.StatusCode.FAILED_PRECONDITION, True)
