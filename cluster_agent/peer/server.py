"""The door for peers that dial us."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from bdw_fed.v1.membership_pb2 import SignedRevocations
from bdw_fed.v1.peer_pb2 import ExchangeRequest, ExchangeResponse
from bdw_fed.v1.peer_pb2_grpc import PeerServiceServicer
from cluster_agent.peer.client import Streams
from cluster_agent.peer.stream import FrameQueue
from wire.identity import Identity, Role, refuse, require

_Context = grpc.aio.ServicerContext[ExchangeRequest, ExchangeResponse]


class PeerDoor(PeerServiceServicer):
    """Takes streams of agents of other clusters.

    The certificate must be that of the cluster that the frames name, and some topology must have it and us.
    """

    def __init__(self, cluster: str, streams: Streams) -> None:
        self._cluster = cluster
        self._streams = streams

    async def Exchange(self, request_iterator: Any, context: _Context) -> None:  # type: ignore[override]
        """One stream, until either end closes it, or the other cluster is revoked."""
        identity = await self._caller(context)
        cluster = identity.cluster
        if refusal := self._streams.refusal(identity):
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, refusal)
        if cluster == self._cluster:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{cluster} has dialled itself")
        await self._judge(cluster, context)
        queue = FrameQueue()
        path = self._streams.opened(cluster, queue, by_us=False)
        reader = asyncio.create_task(self._read(cluster, path, request_iterator, context))
        writer = asyncio.create_task(_write(queue, context))
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.closed(cluster, path)
            queue.close()
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
        if refusal := self._streams.refusal(identity):
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, refusal)
        if not reader.cancelled():
            reader.result()

    async def _caller(self, context: _Context) -> Identity:
        return await require(context, Role.AGENT)

    async def _read(self, cluster: str, path: int, requests: Any, context: _Context) -> None:
        async for request in requests:
            if request.HasField("revocations"):
                self._streams.told(cluster, request.revocations)
                continue
            if request.frame.cluster != cluster:
                await refuse(
                    context,
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"a frame says that it is of {request.frame.cluster[:80]!r}, the certificate {cluster!r}",
                )
            if unspoken := self._streams.unspoken(request.frame):
                await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, unspoken)
            await self._judge(cluster, context)
            await self._streams.heard(cluster, path, request.frame)

    async def _judge(self, cluster: str, context: _Context) -> None:
        if not self._streams.knows(cluster):
            await refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                f"{self._cluster} knows of no topology that has both of us: none has, or the hub has yet to say so",
            )


async def _write(queue: FrameQueue, context: _Context) -> None:
    async for said in queue:
        if isinstance(said, SignedRevocations):
            await context.write(ExchangeResponse(revocations=said))
        else:
            await context.write(ExchangeResponse(frame=said))
