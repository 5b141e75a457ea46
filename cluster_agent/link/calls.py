"""What is asked of the hub beside the session, as long as there is one: bundles, and certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from bdw_fed.v1.federation_pb2 import PullBundleRequest
from bdw_fed.v1.membership_pb2 import CertifyRequest
from cluster_agent.bundles import BundleError
from cluster_agent.membership.errors import JoinError, NotNowError

if TYPE_CHECKING:
    from bdw_fed.v1.federation_pb2_grpc import FederationServiceAsyncStub

_BUNDLE_WAIT = 30.0
_CERTIFY_SECONDS = 15.0


class HubCalls:
    """The hub's service, whenever the link is `up`."""

    def __init__(self) -> None:
        self._stub: FederationServiceAsyncStub | None = None
        self._up = asyncio.Event()

    def up(self, stub: FederationServiceAsyncStub) -> None:
        """The hub is there."""
        self._stub = stub
        self._up.set()

    def down(self) -> None:
        """It is not."""
        self._stub = None
        self._up.clear()

    async def pull_bundle(self, namespace: str, digest: bytes) -> AsyncIterator[bytes]:
        """The archive of a bundle in pieces. BundleError if the hub does not have it or can't be asked."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_BUNDLE_WAIT):
                await self._up.wait()
        stub = self._stub
        if stub is None:
            raise BundleError(f"bundle {digest.hex()} is not here, and the hub can't be reached")
        try:
            async for part in stub.PullBundle(PullBundleRequest(namespace=namespace, digest=digest)):
                yield part.chunk
        except grpc.aio.AioRpcError as error:
            raise BundleError(
                f"bundle {digest.hex()}: {error.details()}", missing=error.code() is grpc.StatusCode.NOT_FOUND
            ) from error

    async def certify(self, request: bytes, node: str = "", valid_from: int = 0) -> bytes:
        """A certificate for a request: our own next one, or that of a node. JoinError, NotNowError.

        `valid_from`: the lowest generation of the node's certificates that is valid, as far as we know.
        """
        stub = self._stub
        if stub is None:
            raise NotNowError("the hub, which makes certificates, can't be reached")
        try:
            asked = CertifyRequest(request=request, node=node, valid_from=valid_from)
            return (await stub.Certify(asked, timeout=_CERTIFY_SECONDS)).certificate
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise JoinError(str(error.details())) from error
            raise NotNowError(f"the hub makes no certificate just now: {error.details()}") from error
