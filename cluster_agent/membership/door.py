"""The door for nodes that have no certificate yet: their agent knows them by a token of its own, and asks the hub.

    node: key, node token ─▶ agent ─ as the agent ─▶ hub ─▶ certificate of that node of this cluster

The token holds for as many nodes as come, until one of them is revoked: see `node_token`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog

from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1.membership_pb2_grpc import JoinServiceServicer
from cluster_agent.membership.errors import JoinError, NotNowError
from cluster_agent.membership.node_token import NodeToken
from wire.identity import Credentials, refuse

_log = structlog.get_logger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]


class NodeJoinDoor(JoinServiceServicer):
    """Lets nodes of the cluster join. `certify` has the hub certify a request for a node."""

    def __init__(
        self,
        cluster: str,
        token: NodeToken,
        credentials: Credentials,
        certify: Callable[[bytes, str], Awaitable[bytes]],
    ) -> None:
        self._cluster = cluster
        self._token = token
        self._credentials = credentials
        self._certify = certify

    async def Authority(self, request: pb.AuthorityRequest, context: _Context) -> pb.AuthorityResponse:  # noqa: ARG002
        """The authority's certificate."""
        return pb.AuthorityResponse(certificate=self._credentials.ca.read_bytes())

    async def Join(self, request: pb.JoinRequest, context: _Context) -> pb.JoinResponse:
        """A certificate for a node's key."""
        try:
            self._token.check(request.token)
        except JoinError as error:
            await refuse(context, grpc.StatusCode.PERMISSION_DENIED, f"cluster {self._cluster}: {error}")
        if request.cluster not in ("", self._cluster):
            await refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                f"this is the agent of cluster {self._cluster}, not of {request.cluster[:80]}",
            )
        if not request.node:
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "a node that joins says its name")
        try:
            certificate = await self._certify(request.request, request.node)
        except NotNowError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except JoinError as error:
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        _log.info("a node has joined", node=request.node, sender=context.peer())
        return pb.JoinResponse(certificate=certificate, cluster=self._cluster)
