"""Asking for a certificate: the key is made where it is used, and what travels is a request to certify it.

    begin ─▶ next-key.pem, request ─▶ (the authority) ─▶ certificate ─▶ install: cert.pem, then key.pem

The next key waits in its own file until its certificate is there, so whoever asks again after a crash or a lost answer
asks with the same key. A crash between the two renames leaves a certificate whose key still has its first name;
`settle` renames it. The key and the certificate of before are in use until then.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wire.identity.authority import CLOCK_SLACK, key_hash, key_pem
from wire.identity.credentials import NEXT_KEY, Credentials
from wire.identity.files import replace_whole, write_new
from wire.identity.peers import identity_of_names
from wire.identity.roles import Identity

_CURVE = ec.SECP256R1()


class BadRequestError(Exception):
    """A request to certify a key is not one, or who asks does not have the key."""


class BadCertificateError(Exception):
    """What came back is no certificate of the key that was asked about."""


def begin(directory: Path) -> bytes:
    """Make the next key in `directory` (mode 0700), unless it waits there already. Returns the request (DER)."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / NEXT_KEY
    if not path.exists():
        write_new(path, key_pem(ec.generate_private_key(_CURVE)))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bdw-fed")])  # who it is, the authority decides
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(_private(path), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def install(directory: Path, certificate: bytes, authority: bytes) -> Credentials:
    """Take the certificate (PEM) of the next key into use. BadCertificateError if it is not one of this authority."""
    try:
        granted = x509.load_pem_x509_certificate(certificate)
        granted.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except (ValueError, TypeError, InvalidSignature) as error:
        raise BadCertificateError(f"what was sent is no certificate of the federation's authority: {error}") from error
    if granted.public_key() != _private(directory / NEXT_KEY).public_key():
        raise BadCertificateError("the certificate that was sent is of another key than the one that was asked about")
    credentials = Credentials.at(directory)
    if not credentials.ca.exists() or credentials.ca.read_bytes() != authority:
        replace_whole(credentials.ca, authority)
    replace_whole(credentials.certificate, certificate)
    (directory / NEXT_KEY).replace(credentials.key)
    return credentials


def settle(directory: Path) -> None:
    """Make good a crash in the middle of `install`."""
    credentials = Credentials.at(directory)
    waiting = directory / NEXT_KEY
    if waiting.exists() and credentials.certificate.exists():
        granted = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
        if granted.public_key() == _private(waiting).public_key():
            waiting.replace(credentials.key)


def requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """The key that a request (DER) is about, which who made the request has. BadRequestError."""
    try:
        parsed = x509.load_der_x509_csr(request)
        key = parsed.public_key()
    except (ValueError, TypeError) as error:
        raise BadRequestError(f"this is no PKCS#10 request: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequestError("the key of the request is not one of the curve P-256")
    if not parsed.is_signature_valid:
        raise BadRequestError("the request is not signed with its own key")
    return key


def request_hash(request: bytes) -> str:
    """sha256:HEX of the key that a request is about, by which people compare it."""
    return key_hash(requested_key(request))


def seconds_since_issued(credentials: Credentials) -> float:
    """How long ago the certificate was issued, by this machine's clock; never negative."""
    certificate = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
    issued = certificate.not_valid_before_utc + CLOCK_SLACK
    return max(0.0, (datetime.datetime.now(datetime.UTC) - issued).total_seconds())


def seconds_valid(credentials: Credentials) -> float:
    """How long the certificate is valid, from when it was issued to its end."""
    certificate = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
    return (certificate.not_valid_after_utc - certificate.not_valid_before_utc - CLOCK_SLACK).total_seconds()


def ends_at(credentials: Credentials) -> datetime.datetime:
    """When the certificate ends."""
    return x509.load_pem_x509_certificate(credentials.certificate.read_bytes()).not_valid_after_utc


def identity_in(credentials: Credentials) -> Identity:
    """Whose the certificate is. UnknownPeerError if it is none of a member."""
    certificate = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return identity_of_names(names.get_values_for_type(x509.UniformResourceIdentifier))


def has_expired(credentials: Credentials) -> bool:
    """Whether the certificate is worth nothing any more, by this machine's clock."""
    return ends_at(credentials) <= datetime.datetime.now(datetime.UTC)


def _private(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} is not an elliptic-curve key")
    return key
