"""Who is at the other end of a connection, as its certificate says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from wire.identity.roles import SCHEME, Identity, Role

if TYPE_CHECKING:
    import grpc.aio


class UnknownPeerError(Exception):
    """The other end's certificate carries no identity of the federation."""


def _first(uris: Iterable[str]) -> Identity:
    for uri in uris:
        if uri.startswith(f"{SCHEME}://"):
            return Identity.parse(uri)
    raise UnknownPeerError("the certificate carries no bdw-fed identity")


def identity_of(context: grpc.aio.ServicerContext[Any, Any]) -> Identity:
    """The caller of an RPC. UnknownPeerError if its certificate is none of ours."""
    names: Iterable[bytes] = context.auth_context().get("x509_subject_alternative_name", ())
    return _first(name.decode("utf-8", "replace") for name in names)


def identity_of_tls(peer_certificate: dict[str, Any] | None) -> Identity:
    """The other end of a TLS connection, from `SSLObject.getpeercert()`. UnknownPeerError if none of ours."""
    names = (peer_certificate or {}).get("subjectAltName", ())
    return _first(value for kind, value in names if kind == "URI")


async def require(context: grpc.aio.ServicerContext[Any, Any], *roles: Role) -> Identity:
    """The caller, who must have one of `roles`; otherwise the RPC ends with PERMISSION_DENIED."""
    import grpc

    try:
        identity = identity_of(context)
    except (UnknownPeerError, ValueError) as error:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
    if identity.role not in roles:
        allowed = ", ".join(roles)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{identity} may not do this: it is for {allowed}")
    return identity
