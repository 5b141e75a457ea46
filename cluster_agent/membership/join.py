"""Joining: from a token and the authority's hash to a certificate for a key that was made here.

    address ─▶ its authority, whatever it says ─ is it the one with the hash? ─▶ TLS that trusts this authority alone,
    with the server that was meant ─▶ token and request ─▶ certificate, or a while to wait until somebody accepts

The first connection trusts nobody and is told nothing. The token leaves on the second one, so only to a server that the
authority has certified.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio

from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1.membership_pb2_grpc import JoinServiceStub
from cluster_agent.membership.errors import JoinError, NotNowError
from wire.identity import Credentials, Identity, channel_options
from wire.identity import requests as asking
from wire.identity.authority import authority_hash

_SECONDS = 15.0
_ASK_AGAIN_SECONDS = 2.0
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_REFUSALS = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
)


async def join(
    address: str,
    server: Identity,
    token: str,
    expected_hash: str,
    directory: Path,
    *,
    cluster: str = "",
    node: str = "",
    waiting: Callable[[str, str], None] | None = None,
) -> Credentials:
    """Credentials in `directory`, from the `server` at `address`, whose authority has the expected hash.

    `cluster` is who we mean to be (empty: whom the token is for), `node` which of its nodes. `waiting` is called once
    with the cluster and our key's hash if somebody has to accept us; then this takes as long as that does. Whatever
    goes wrong, calling it again goes on with the same key. JoinError, NotNowError.
    """
    authority = await _authority(address, server, expected_hash)
    request = asking.begin(directory)
    credentials = grpc.ssl_channel_credentials(authority)
    told = False
    async with grpc.aio.secure_channel(address, credentials, options=channel_options(server)) as channel:
        stub = JoinServiceStub(channel)
        asked = pb.JoinRequest(token=token, request=request, cluster=cluster, node=node)
        while True:
            try:
                answer: pb.JoinResponse = await stub.Join(asked, timeout=_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise _explained(error, address) from error
            if answer.certificate:
                break
            if waiting is not None and not told:
                waiting(answer.cluster, asking.request_hash(request))
                told = True
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
    try:
        return asking.install(directory, answer.certificate, authority)
    except asking.BadCertificateError as error:
        raise JoinError(f"{address}: {error}") from error


async def _authority(address: str, server: Identity, expected_hash: str) -> bytes:
    """The authority's certificate (PEM), which has the hash."""
    if not _HASH.fullmatch(expected_hash):
        raise JoinError(f"{expected_hash[:80]!r} is no hash of an authority: expected sha256: and 64 of 0-9, a-f")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise JoinError(f"{address!r} is no address: expected HOST:PORT")
    try:
        shown = await asyncio.to_thread(ssl.get_server_certificate, (host.strip("[]"), int(port)), timeout=_SECONDS)
    except OSError as error:
        raise NotNowError(f"{address} can't be reached ({error}): is it the port where one joins?") from error
    unproven = grpc.ssl_channel_credentials(shown.encode())
    async with grpc.aio.secure_channel(address, unproven, options=channel_options(server)) as channel:
        try:
            answer: pb.AuthorityResponse = await JoinServiceStub(channel).Authority(
                pb.AuthorityRequest(), timeout=_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise _explained(error, address) from error
    try:
        found = authority_hash(answer.certificate)
    except ValueError as error:
        raise JoinError(f"{address} shows no authority: {error}") from error
    if found != expected_hash:
        raise JoinError(
            f"the authority at {address} is {found}, expected was {expected_hash}: it is another federation, "
            "or somebody in between. The token was not sent"
        )
    return answer.certificate


def _explained(error: grpc.aio.AioRpcError, address: str) -> Exception:
    if error.code() in _REFUSALS:
        return JoinError(f"{address} refuses: {error.details()}")
    return NotNowError(f"{address} can't answer just now: {error.details()}")
