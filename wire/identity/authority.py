"""The certificate authority of a federation, kept in a directory that only its owner can read.

Who has its key makes members. It certifies keys of two kinds: those that it makes itself together with the certificate
(`issue`), and those that were made elsewhere and are asked about (`certify`, see `requests`).
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wire.identity.credentials import Credentials
from wire.identity.files import replace_whole, write_new
from wire.identity.roles import Identity, server_names

CLOCK_SLACK = datetime.timedelta(minutes=5)
"""Certificates are valid so long before they are made: clusters' clocks differ."""

_AUTHORITY_DAYS = 3650
_SIGNED = b"bdw-fed statement of the authority\x00"  # what it signs besides certificates can't be taken for one


class Authority:
    """Issues certificates. The key stays in `directory` (mode 0700), in files `ca.pem` and `ca-key.pem`."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, directory: Path, name: str = "bdw-fed") -> Authority:
        """Make a new authority in `directory`. FileExistsError if there is one."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
        life = datetime.timedelta(days=_AUTHORITY_DAYS)
        certificate = (
            _builder(subject, subject, key.public_key(), life)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        write_new(directory / "ca-key.pem", key_pem(key))
        write_new(directory / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
        return cls(certificate, key)

    @classmethod
    def open(cls, directory: Path) -> Authority:
        """The authority that `create` made. FileNotFoundError if there is none."""
        certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((directory / "ca-key.pem").read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{directory / 'ca-key.pem'} is not an elliptic-curve key")
        if key.public_key() != certificate.public_key():
            raise ValueError(f"{directory / 'ca-key.pem'} is not the key of ca.pem beside it")
        return cls(certificate, key)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def hash(self) -> str:
        """What names it to who does not know it yet: see `authority_hash`."""
        return key_hash(self._key.public_key())

    def issue(self, identity: Identity, directory: Path, *, days: float = 90, loopback: bool = True) -> Credentials:
        """Make a key and a certificate for `identity` in `directory` (mode 0700), for both ends of a connection.

        `loopback` adds localhost and its addresses to the names, for programs (etcd) that check those.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        life = datetime.timedelta(days=days)
        credentials = Credentials.at(directory)
        replace_whole(credentials.key, key_pem(key))
        replace_whole(credentials.certificate, self.certify(identity, key.public_key(), life, loopback=loopback))
        replace_whole(credentials.ca, self.pem)
        return credentials

    def certify(
        self,
        identity: Identity,
        key: ec.EllipticCurvePublicKey,
        life: datetime.timedelta,
        *,
        loopback: bool = False,
    ) -> bytes:
        """A certificate (PEM) that whoever has the private half of `key` is `identity`, for `life` from now."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
        names += [x509.DNSName(name) for name in server_names(identity)]
        if loopback:
            names.append(x509.DNSName("localhost"))
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(identity)[:64])])
        certificate = (
            _builder(subject, self._certificate.subject, key, life)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, statement: bytes) -> bytes:
        """A signature that `is_signed` believes."""
        return self._key.sign(_SIGNED + statement, ec.ECDSA(hashes.SHA256()))


def is_signed(statement: bytes, signature: bytes, authority: bytes) -> bool:
    """Whether the authority with this certificate (PEM) has signed the statement."""
    key = x509.load_pem_x509_certificate(authority).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(signature, _SIGNED + statement, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def authority_hash(authority: bytes) -> str:
    """What names an authority in few words: sha256:HEX of its public key. ValueError if `authority` is no PEM."""
    key = x509.load_pem_x509_certificate(authority).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("the authority's key is not an elliptic-curve key")
    return key_hash(key)


def key_hash(key: ec.EllipticCurvePublicKey) -> str:
    """sha256:HEX of a public key."""
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(info).hexdigest()}"


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as its file has it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + life)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
