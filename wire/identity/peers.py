"""Who is at the other end of a connection, as its certificate says; and how one is refused who may not be there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from wire.identity.roles import SCHEME, Identity, Role

if TYPE_CHECKING:
    import grpc
    import grpc.aio


class UnknownPeerError(Exception):
    """The other end's certificate carries no identity of the federation."""


def identity_of_names(uris: Iterable[str]) -> Identity:
    """The identity among the names of a certificate. UnknownPeerError if there is none."""
    for uri in uris:
        if uri.startswith(f"{SCHEME}://"):
            return Identity.parse(uri)
    raise UnknownPeerError("the certificate carries no bdw-fed identity")


def identity_of(context: grpc.aio.ServicerContext[Any, Any]) -> Identity:
    """The caller of an RPC. UnknownPeerError if its certificate is none of ours."""
    names: Iterable[bytes] = context.auth_context().get("x509_subject_alternative_name", ())
    return identity_of_names(name.decode("utf-8", "replace") for name in names)


def identity_of_tls(peer_certificate: dict[str, Any] | None) -> Identity:
    """The other end of a TLS connection, from `SSLObject.getpeercert()`. UnknownPeerError if none of ours."""
    names = (peer_certificate or {}).get("subjectAltName", ())
    return identity_of_names(value for kind, value in names if kind == "URI")


async def require(context: grpc.aio.ServicerContext[Any, Any], *roles: Role) -> Identity:
    """The caller, who must have one of `roles`; otherwise the RPC ends with PERMISSION_DENIED."""
    import grpc

    try:
        identity = identity_of(context)
    except (UnknownPeerError, ValueError) as error:
        await refuse(context, grpc.StatusCode.UNAUTHENTICATED, str(error))
    if identity.role not in roles:
        allowed = ", ".join(roles)
        await refuse(context, grpc.StatusCode.PERMISSION_DENIED, f"{identity} may not do this: it is for {allowed}")
    return identity


async def refuse(context: grpc.aio.ServicerContext[Any, Any], code: grpc.StatusCode, reason: str) -> NoReturn:
    """End an RPC that its caller may not make, and log who that was."""
    import structlog

    structlog.get_logger(__name__).warning("a caller was refused", sender=context.peer(), code=code.name, reason=reason)
    await context.abort(code, reason)
