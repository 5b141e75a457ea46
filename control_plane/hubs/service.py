"""The door for other hubs: what they tell is handed on, what they ask is asked of an agent that is connected here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import hub_pb2 as h
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.hub_pb2_grpc import HubServiceServicer
from control_plane.access.history import AuditHistory
from control_plane.federation.errors import AgentUnreachable
from wire.identity import Role, require

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]


class Hearer(Protocol):
    """What becomes of it."""

    def told_status(self, hub_id: bytes, status: cp.ClusterStatus) -> None: ...
    def told_progress(self, status: m.FragmentStatus) -> None: ...
    def told_relay(self, relay: f.PeerRelay) -> None: ...
    def ask_here(self, cluster: str, query: f.Query) -> AsyncGenerator[f.QueryReply]: ...


async def hear(hearer: Hearer, news: AsyncIterable[h.TellRequest]) -> None:
    """Hand on what another hub tells, to the end."""
    async for request in news:
        match request.WhichOneof("kind"):
            case "status":
                hearer.told_status(request.hub, request.status)
            case "progress":
                hearer.told_progress(request.progress)
            case "relay":
                hearer.told_relay(request.relay)
            case _:
                pass


class HubService(HubServiceServicer):
    """For hubs, and nobody else."""

    def __init__(self, hearer: Hearer, audit: AuditHistory) -> None:
        self._hearer = hearer
        self._audit = audit

    async def Tell(self, request_iterator: AsyncIterator[h.TellRequest], context: Context) -> h.TellResponse:
        """Another hub's news, for as long as it has some."""
        await require(context, Role.HUB)
        await hear(self._hearer, request_iterator)
        return h.TellResponse()

    async def Ask(self, request: h.AskRequest, context: Context) -> AsyncIterator[h.AskResponse]:
        """What an agent that is connected here replies."""
        await require(context, Role.HUB)
        try:
            async with aclosing(self._hearer.ask_here(request.cluster, request.query)) as replies:
                async for reply in replies:
                    yield h.AskResponse(reply=reply)
        except AgentUnreachable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def AskAudit(self, request: h.AskAuditRequest, context: Context) -> h.AskAuditResponse:
        """What our audit log says. The hub that asks has seen to it that its user may know."""
        await require(context, Role.HUB)
        return h.AskAuditResponse(response=await self._audit.read(request.request))
