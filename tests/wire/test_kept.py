"""A certificate that is seen to by who has the authority is there, whole and in its time, whatever was found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate

from wire.identity import Credentials, Identity, Role
from wire.identity.authority import Authority
from wire.identity.credentials import belong_together
from wire.identity.kept import DAY, Kept

ETCD = Identity(Role.ETCD, "etcd")


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(Authority.create(tmp_path / "ca"), ETCD, tmp_path / "etcd", life=90 * DAY, grace=7 * DAY)


def ends(kept: Kept) -> datetime:
    certificate = Credentials.load(kept.directory).certificate
    return load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc


def test_it_is_made_where_there_is_none_and_left_alone_while_it_is_good(kept: Kept) -> None:
    assert kept.see_to()
    assert ends(kept) - datetime.now(UTC) > timedelta(days=96)
    assert not kept.see_to()


@pytest.mark.parametrize(
    ("days", "is_good"),
    [(-1, False), (0, True), (59, True), (61, False), (98, False)],
    ids=["from the future", "new", "before its time", "two thirds of its life over", "ended"],
)
def test_its_time_is_up_when_two_thirds_of_its_life_are_over(kept: Kept, days: float, is_good: bool) -> None:
    kept.see_to()
    assert kept.is_good(datetime.now(UTC) + timedelta(days=days)) is is_good


def test_one_that_was_made_for_less_is_replaced_in_time_all_the_same(kept: Kept) -> None:
    kept.authority.issue(ETCD, kept.directory, days=3)
    assert kept.is_good(datetime.now(UTC) + timedelta(days=1.9))
    assert not kept.is_good(datetime.now(UTC) + timedelta(days=2.1))


def test_a_crash_in_the_middle_of_a_renewal_is_made_good(kept: Kept, tmp_path: Path) -> None:
    kept.see_to()
    other = kept.authority.issue(ETCD, tmp_path / "other")
    files = Credentials.at(kept.directory)
    other.key.replace(files.key)  # the key is replaced first
    assert kept.see_to()
    assert belong_together(files)


def test_one_of_another_authority_or_that_is_none_is_replaced(kept: Kept, tmp_path: Path) -> None:
    Authority.create(tmp_path / "another").issue(ETCD, kept.directory)
    assert kept.see_to()
    Credentials.at(kept.directory).certificate.write_bytes(b"not one")
    assert kept.see_to()
    assert not kept.see_to()
