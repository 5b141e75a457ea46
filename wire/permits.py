"""Permits: the hub's word, shown to a node, that a user may read the units of a run.

    hub: who may see the run's namespace ─ issue ─▶ client ─ header ─▶ node: checked ─▶ bytes

A node knows nothing of users and their roles, and the hub never touches a unit's bytes. So the hub signs who may read
what until when, with the key of its own certificate, which goes along; the node checks that the federation's authority
has certified a hub, and that this hub has signed. Nobody is asked, so outputs can be fetched with the hub away.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from bdw_fed.v1.access_pb2 import Permit, SignedPermit
from wire.identity.credentials import Credentials
from wire.identity.roles import SCHEME, Identity, Role

if TYPE_CHECKING:  # who only shows a permit does not pay for cryptography
    from cryptography.hazmat.primitives.asymmetric import ec

SECONDS = 3600.0
_LEEWAY_SECONDS = 300.0  # clusters' clocks differ
_SCHEME = "Permit "
_MEANT = b"bdw-fed permit\0"  # so that no signature made for something else is one of these
_LONGEST = 12 << 10


class PermitError(Exception):
    """What was shown permits nothing; the words say why."""


def issue(credentials: Credentials, user: str, namespace: str, run: str, *, now: float) -> bytes:
    """A serialised SignedPermit, by the hub whose credentials these are."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_private_key(credentials.key.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{credentials.key} is not an elliptic-curve key")
    permit = Permit(user=user, namespace=namespace, run=run, until=now + SECONDS).SerializeToString()
    certificates = x509.load_pem_x509_certificates(credentials.certificate.read_bytes())
    signed = SignedPermit(
        permit=permit,
        signature=key.sign(_MEANT + permit, ec.ECDSA(hashes.SHA256())),
        certificates=[each.public_bytes(serialization.Encoding.DER) for each in certificates],
    )
    return signed.SerializeToString()


def header(permit: bytes) -> str:
    """The Authorization header that shows a permit."""
    return _SCHEME + base64.b64encode(permit).decode()


def checked(authorization: str, ca: Path, *, now: float) -> Permit:
    """The permit that an Authorization header shows. PermitError."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    if not authorization.startswith(_SCHEME) or len(authorization) > _LONGEST:
        raise PermitError("a user shows the hub's permit: ask it for the run's outputs")
    try:
        signed = SignedPermit.FromString(base64.b64decode(authorization.removeprefix(_SCHEME), validate=True))
    except (binascii.Error, DecodeError) as error:
        raise PermitError("the permit can't be read") from error
    key, until = _hub_key(tuple(signed.certificates), ca.read_bytes())
    if until < now:
        raise PermitError("the certificate of the hub that signed the permit has run out")
    try:
        key.verify(signed.signature, _MEANT + signed.permit, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise PermitError("the permit's signature is wrong") from error
    permit = Permit.FromString(signed.permit)
    if permit.until + _LEEWAY_SECONDS < now:
        raise PermitError("the permit has run out: ask the hub for the run's outputs again")
    return permit


@lru_cache(maxsize=16)
def _hub_key(certificates: tuple[bytes, ...], ca: bytes) -> tuple[ec.EllipticCurvePublicKey, float]:
    """The key of the hub whose certificates these are, and until when they are good. PermitError."""
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
        raise PermitError("the permit is not signed by a hub of this federation") from error
    key = leaf.public_key()
    if not hub or not isinstance(key, ec.EllipticCurvePublicKey):
        raise PermitError("the permit is not signed by a hub of this federation")
    until = min(each.not_valid_after_utc for each in chain)
    return key, until.replace(tzinfo=datetime.UTC).timestamp()
