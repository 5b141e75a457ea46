"""The gRPC service for agents: who may open a session, and bundles in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1.federation_pb2_grpc import FederationServiceServicer
from control_plane.blobs.base import BlobStore
from control_plane.blobs.errors import BlobError
from control_plane.federation.agents import Agents
from control_plane.federation.session import PROTOCOL
from wire.identity import Role, require

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]


class FederationService(FederationServiceServicer):
    """What agents may ask of the hub."""

    def __init__(self, agents: Agents, blobs: BlobStore) -> None:
        self._agents = agents
        self._blobs = blobs

    async def Session(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]  # noqa: ARG002
        """An agent's session, as long as its stream lives."""
        identity = await require(context, Role.AGENT)
        first = await context.read()
        if not isinstance(first, f.SessionRequest) or not first.HasField("hello"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first frame of a session is a hello")
        hello = first.hello
        if hello.cluster != identity.name:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate is that of {identity}, not of cluster {hello.cluster}",
            )
        if not hello.protocol_min <= PROTOCOL <= hello.protocol:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"this hub speaks protocol {PROTOCOL}, the agent {hello.protocol_min} to {hello.protocol}: "
                "upgrade the older of the two",
            )
        await self._agents.serve(hello, context)

    async def PullBundle(self, request: f.PullBundleRequest, context: Context) -> AsyncIterator[f.PullBundleResponse]:
        """A bundle's archive in pieces."""
        await require(context, Role.AGENT)
        try:
            async with self._blobs.get(request.digest) as chunks:
                async for chunk in chunks:
                    yield f.PullBundleResponse(chunk=chunk)
        except (BlobError, ValueError) as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
