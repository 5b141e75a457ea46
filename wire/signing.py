"""What the hub signs, so that whoever is shown it later, by anybody, can believe it without asking the hub.

    hub: statement ─ sign, with the key of its own certificate ─▶ statement, signature, certificates ─▶ anybody ─ verify

The certificates go along: who verifies knows the federation's authority, and that is enough. What is signed says what
it is meant for, so that no signature made for one thing is one for another.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from wire.identity.credentials import Credentials
from wire.identity.roles import SCHEME, Identity, Role

if TYPE_CHECKING:  # who only passes on what is signed does not pay for cryptography
    from cryptography.hazmat.primitives.asymmetric import ec


class SignatureError(Exception):
    """The hub has not said this; the words say why that is so."""


def sign(credentials: Credentials, meant: bytes, statement: bytes) -> tuple[bytes, list[bytes]]:
    """The signature of the hub whose credentials these are, and its certificates."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_private_key(credentials.key.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{credentials.key} is not an elliptic-curve key")
    certificates = x509.load_pem_x509_certificates(credentials.certificate.read_bytes())
    return key.sign(meant + statement, ec.ECDSA(hashes.SHA256())), [
        each.public_bytes(serialization.Encoding.DER) for each in certificates
    ]


def verify(
    meant: bytes, statement: bytes, signature: bytes, certificates: Sequence[bytes], ca: Path, *, now: float
) -> None:
    """Raises SignatureError unless a hub of the federation with this authority has signed the statement."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key, until = _hub_key(tuple(certificates), ca.read_bytes())
    if until < now:
        raise SignatureError("the certificate of the hub that signed it has run out")
    try:
        key.verify(signature, meant + statement, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise SignatureError("the signature is wrong") from error


@lru_cache(maxsize=16)
def _hub_key(certificates: tuple[bytes, ...], ca: bytes) -> tuple[ec.EllipticCurvePublicKey, float]:
    """The key of the hub whose certificates these are, and until when they are good. SignatureError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

    try:
        leaf, *between = [x509.load_der_x509_certificate(each) for each in certificates]
        store = Store(x509.load_pem_x509_certificates(ca))
        verifier = PolicyBuilder().store(store).build_client_verifier()
        chain = verifier.verify(leaf, between).chain
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        hub = any(Identity.parse(uri).role is Role.HUB for uri in uris if uri.startswith(f"{SCHEME}://"))
    except (ValueError, VerificationError, x509.ExtensionNotFound) as error:
        raise SignatureError("it is not signed by a hub of this federation") from error
    key = leaf.public_key()
    if not hub or not isinstance(key, ec.EllipticCurvePublicKey):
        raise SignatureError("it is not signed by a hub of this federation")
    until = min(each.not_valid_after_utc for each in chain)
    return key, until.replace(tzinfo=datetime.UTC).timestamp()
