"""The gRPC service for agents: who may open a session, bundles in pieces, and the next certificate, of relays too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1.federation_pb2_grpc import FederationServiceServicer
from control_plane.blobs.base import BlobStore
from control_plane.blobs.errors import BlobError
from control_plane.federation.agents import Agents
from control_plane.membership.errors import BadWish, JoinRefused, MembershipError
from control_plane.membership.joining import Joining
from control_plane.membership.members import Members
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError
from wire.identity import Identity, Role, refuse, require
from wire.versions import SESSION, Versions

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

_HELLO_SECONDS = 10.0


class FederationService(FederationServiceServicer):
    """What agents may ask of the hub."""

    def __init__(self, agents: Agents, blobs: BlobStore, members: Members, joining: Joining) -> None:
        self._agents = agents
        self._blobs = blobs
        self._members = members
        self._joining = joining

    async def Session(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]  # noqa: ARG002
        """An agent's session, as long as its stream lives."""
        first = await _first_frame(context)
        identity = await self._member(context)
        if not isinstance(first, f.SessionRequest) or not first.HasField("hello"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first frame of a session is a hello")
        hello = first.hello
        if hello.cluster != identity.name:
            await refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate is that of {identity}, not of cluster {hello.cluster[:80]}",
            )
        theirs = Versions(hello.protocol_min, hello.protocol)
        version = SESSION.common(theirs)
        if version is None:
            await refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                f"this hub speaks version {SESSION} of sessions, the agent of {hello.cluster} {theirs}: "
                "upgrade the older of the two",
            )
        await self._agents.serve(hello, identity, context, version)

    async def PullBundle(self, request: f.PullBundleRequest, context: Context) -> AsyncIterator[f.PullBundleResponse]:
        """A bundle's archive in pieces."""
        await self._member(context)
        try:
            async with self._blobs.get(request.digest) as chunks:
                async for chunk in chunks:
                    yield f.PullBundleResponse(chunk=chunk)
        except (BlobError, ValueError) as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))

    async def Certify(self, request: pb.CertifyRequest, context: Context) -> pb.CertifyResponse:
        """The next certificate of an agent or a relay, or one of a node of the agent's cluster."""
        identity = await self._member(context, Role.AGENT, Role.RELAY)
        try:
            return await self._joining.certify(identity, request)
        except JoinRefused as error:
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, str(error))
        except BadWish as error:
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except MembershipError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except (EtcdError, StoreError) as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the store is away: try again ({error})")

    async def _caller(self, context: Context, *roles: Role) -> Identity:
        return await require(context, *roles)

    async def _member(self, context: Context, *roles: Role) -> Identity:
        """The caller, an agent unless it is said otherwise, whose certificate is not revoked."""
        identity = await self._caller(context, *(roles or (Role.AGENT,)))
        if refusal := self._members.revocations.refusal(identity):
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, refusal)
        return identity


async def _first_frame(context: Context) -> object:
    """What the caller begins with, None if nothing comes. Who is refused while it still writes may never read why."""
    try:
        async with asyncio.timeout(_HELLO_SECONDS):
            return await context.read()
    except TimeoutError:
        return None
