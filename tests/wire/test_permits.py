"""A permit lets one user read one run for an hour, and only a hub of the federation can write one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bdw_fed.v1.access_pb2 import Permit, SignedPermit
from wire import permits
from wire.identity import Credentials, Identity, Role
from wire.identity.authority import Authority
from wire.permits import PermitError, checked, header, issue

NOW = time.time()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca")


@pytest.fixture
def hub(authority: Authority, tmp_path: Path) -> Credentials:
    return authority.issue(Identity(Role.HUB, "hub"), tmp_path / "hub")


def test_what_the_hub_permits_is_what_a_node_reads(hub: Credentials) -> None:
    shown = header(issue(hub, "oidc:ann", "flights", "delays-1", now=NOW))
    permit = checked(shown, hub.ca, now=NOW + permits.SECONDS)
    assert (permit.user, permit.namespace, permit.run) == ("oidc:ann", "flights", "delays-1")


def test_it_runs_out_and_clocks_may_differ_a_little(hub: Credentials) -> None:
    shown = header(issue(hub, "ann", "n", "r", now=NOW))
    checked(shown, hub.ca, now=NOW - 200)
    with pytest.raises(PermitError, match="run out: ask the hub"):
        checked(shown, hub.ca, now=NOW + permits.SECONDS + 400)
    with pytest.raises(PermitError, match="certificate of the hub"):
        checked(shown, hub.ca, now=NOW + 91 * 86400)


@pytest.mark.parametrize("role", [Role.AGENT, Role.NODE, Role.USER, Role.ETCD])
def test_no_other_member_can_write_one(authority: Authority, tmp_path: Path, hub: Credentials, role: Role) -> None:
    member = authority.issue(Identity(role, "m"), tmp_path / "member")
    with pytest.raises(PermitError, match="not signed by a hub"):
        checked(header(issue(member, "ann", "n", "r", now=NOW)), hub.ca, now=NOW)


def test_nor_the_hub_of_another_federation(hub: Credentials, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other-ca").issue(Identity(Role.HUB, "hub"), tmp_path / "other")
    with pytest.raises(PermitError, match="not signed by a hub"):
        checked(header(issue(other, "ann", "n", "r", now=NOW)), hub.ca, now=NOW)


def test_a_word_that_was_changed_is_no_permit(hub: Credentials, authority: Authority, tmp_path: Path) -> None:
    signed = SignedPermit.FromString(issue(hub, "ann", "mine", "r", now=NOW))
    other = Permit.FromString(signed.permit)
    other.namespace = "theirs"
    signed.permit = other.SerializeToString()
    mallory = SignedPermit.FromString(
        issue(authority.issue(Identity(Role.USER, "m"), tmp_path / "m"), "ann", "theirs", "r", now=NOW)
    )
    mallory.certificates[:] = signed.certificates
    for forged in (signed, mallory):
        with pytest.raises(PermitError, match="signature is wrong"):
            checked(header(forged.SerializeToString()), hub.ca, now=NOW)


@pytest.mark.parametrize("shown", ["", "Bearer x", "Permit ", "Permit ?", "Permit AAAA", "Permit " + "A" * 20_000])
def test_nonsense_permits_nothing(hub: Credentials, shown: str) -> None:
    with pytest.raises(PermitError):
        checked(shown, hub.ca, now=NOW)
