"""Certified keys: they stay where they were made, and a renewal that is cut short anywhere leaves a pair that fits."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from wire.identity import Credentials, Identity, Role
from wire.identity import requests as asking
from wire.identity.authority import Authority, authority_hash
from wire.identity.credentials import NEXT_KEY
from wire.identity.requests import BadCertificateError, BadRequestError

EDGE = Identity(Role.AGENT, "edge1", 3)
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca")


def granted(authority: Authority, request: bytes) -> bytes:
    return authority.certify(EDGE, asking.requested_key(request), HOUR)


def fits(credentials: Credentials) -> bool:
    key = load_pem_private_key(credentials.key.read_bytes(), password=None)
    certificate = load_pem_x509_certificate(credentials.certificate.read_bytes())
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_key().public_bytes(*spki) == key.public_key().public_bytes(*spki)


def test_the_key_is_its_owner_s_alone_and_in_no_request(authority: Authority, tmp_path: Path) -> None:
    request = asking.begin(tmp_path / "edge1")
    credentials = asking.install(tmp_path / "edge1", granted(authority, request), authority.pem)
    assert asking.identity_in(Credentials.load(tmp_path / "edge1")) == EDGE
    assert fits(credentials)
    assert stat.S_IMODE(credentials.key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "edge1").stat().st_mode) == 0o700


def test_asking_again_is_asking_with_the_same_key(authority: Authority, tmp_path: Path) -> None:
    first, second = asking.begin(tmp_path / "edge1"), asking.begin(tmp_path / "edge1")
    assert asking.request_hash(first) == asking.request_hash(second)
    asking.install(tmp_path / "edge1", granted(authority, first), authority.pem)
    assert asking.request_hash(asking.begin(tmp_path / "edge1")) != asking.request_hash(first)


def test_a_crash_between_the_two_renames_is_made_good(authority: Authority, tmp_path: Path) -> None:
    place = tmp_path / "edge1"
    asking.install(place, granted(authority, asking.begin(place)), authority.pem)
    certificate = granted(authority, asking.begin(place))
    Credentials.at(place).certificate.write_bytes(certificate)  # and here it ended
    assert not fits(Credentials.at(place))
    assert fits(Credentials.load(place))
    assert not (place / NEXT_KEY).exists()


def test_the_pair_of_before_is_used_until_the_answer_is_there(authority: Authority, tmp_path: Path) -> None:
    place = tmp_path / "edge1"
    asking.install(place, granted(authority, asking.begin(place)), authority.pem)
    asking.begin(place)
    assert fits(Credentials.load(place))


def test_an_answer_about_another_key_is_not_taken(authority: Authority, tmp_path: Path) -> None:
    asking.begin(tmp_path / "edge1")
    other = granted(authority, asking.begin(tmp_path / "other"))
    with pytest.raises(BadCertificateError, match="of another key"):
        asking.install(tmp_path / "edge1", other, authority.pem)
    assert not Credentials.at(tmp_path / "edge1").certificate.exists()


def test_an_answer_of_another_authority_is_not_taken(authority: Authority, tmp_path: Path) -> None:
    foreign = Authority.create(tmp_path / "foreign")
    certificate = granted(foreign, asking.begin(tmp_path / "edge1"))
    with pytest.raises(BadCertificateError, match="no certificate of the federation's authority"):
        asking.install(tmp_path / "edge1", certificate, authority.pem)


@pytest.mark.parametrize("request_", [b"", b"\x00" * 200, b"-----BEGIN CERTIFICATE REQUEST-----"])
def test_what_is_no_request_is_refused(request_: bytes) -> None:
    with pytest.raises(BadRequestError, match="no PKCS#10 request"):
        asking.requested_key(request_)


def test_a_request_about_somebody_else_s_key_is_refused(tmp_path: Path) -> None:
    request = bytearray(asking.begin(tmp_path / "edge1"))
    request[-1] ^= 1  # the signature is another's
    with pytest.raises(BadRequestError):
        asking.requested_key(bytes(request))


def test_an_authority_is_named_by_its_key(authority: Authority, tmp_path: Path) -> None:
    assert authority_hash(authority.pem) == authority.hash
    assert authority.hash != Authority.create(tmp_path / "foreign").hash
    assert authority.hash.startswith("sha256:")


def test_a_key_that_is_not_the_authority_s_is_told(authority: Authority, tmp_path: Path) -> None:
    Authority.create(tmp_path / "foreign")
    (tmp_path / "ca" / "ca-key.pem").write_bytes((tmp_path / "foreign" / "ca-key.pem").read_bytes())
    with pytest.raises(ValueError, match=r"not the key of ca\.pem"):
        Authority.open(tmp_path / "ca")
