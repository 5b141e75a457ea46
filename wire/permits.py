"""Permits: the hub's word, shown to a node, that a user may read the units of a run.

    hub: who may see the run's namespace ─ issue ─▶ client ─ header ─▶ node: checked ─▶ bytes

A node knows nothing of users and their roles, and the hub never touches a unit's bytes. So the hub signs who may read
what until when (see `signing`). Nobody is asked, so outputs can be fetched with the hub away.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from google.protobuf.message import DecodeError

from bdw_fed.v1.access_pb2 import Permit, SignedPermit
from wire.identity.credentials import Credentials
from wire.signing import SignatureError, sign, verify

SECONDS = 3600.0
_LEEWAY_SECONDS = 300.0  # clusters' clocks differ
_SCHEME = "Permit "
_MEANT = b"bdw-fed permit\0"
_LONGEST = 12 << 10


class PermitError(Exception):
    """What was shown permits nothing; the words say why."""


def issue(credentials: Credentials, user: str, namespace: str, run: str, *, now: float) -> bytes:
    """A serialised SignedPermit, by the hub whose credentials these are."""
    permit = Permit(user=user, namespace=namespace, run=run, until=now + SECONDS).SerializeToString()
    signature, certificates = sign(credentials, _MEANT, permit)
    return SignedPermit(permit=permit, signature=signature, certificates=certificates).SerializeToString()


def header(permit: bytes) -> str:
    """The Authorization header that shows a permit."""
    return _SCHEME + base64.b64encode(permit).decode()


def checked(authorization: str, ca: Path, *, now: float) -> Permit:
    """The permit that an Authorization header shows. PermitError."""
    if not authorization.startswith(_SCHEME) or len(authorization) > _LONGEST:
        raise PermitError("a user shows the hub's permit: ask it for the run's outputs")
    try:
        signed = SignedPermit.FromString(base64.b64decode(authorization.removeprefix(_SCHEME), validate=True))
    except (binascii.Error, DecodeError) as error:
        raise PermitError("the permit can't be read") from error
    try:
        verify(_MEANT, signed.permit, signed.signature, signed.certificates, ca, now=now)
    except SignatureError as error:
        raise PermitError(f"the permit is not good: {error}") from error
    permit = Permit.FromString(signed.permit)
    if permit.until + _LEEWAY_SECONDS < now:
        raise PermitError("the permit has run out: ask the hub for the run's outputs again")
    return permit
