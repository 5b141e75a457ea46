"""The door for peers that dial us."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from bdw_fed.v1.peer_pb2 import ExchangeRequest, ExchangeResponse
from bdw_fed.v1.peer_pb2_grpc import PeerServiceServicer
from cluster_agent.peer.client import Streams
from cluster_agent.peer.stream import FrameQueue
from wire.identity import Role, require


class PeerDoor(PeerServiceServicer):
    """Takes streams of agents of other clusters; the certificate must be that of the cluster that the frames name."""

    def __init__(self, cluster: str, streams: Streams) -> None:
        self._cluster = cluster
        self._streams = streams

    async def Exchange(  # type: ignore[override]
        self, request_iterator: Any, context: grpc.aio.ServicerContext[ExchangeRequest, ExchangeResponse]
    ) -> None:
        """One stream, until either end closes it."""
        cluster = (await require(context, Role.AGENT)).cluster
        if cluster == self._cluster:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{cluster} has dialled itself")
        queue = FrameQueue()
        writer = asyncio.create_task(_write(queue, context))
        path = self._streams.opened(cluster, queue, by_us=False)
        try:
            async for request in request_iterator:
                if request.frame.cluster != cluster:
                    await context.abort(
                        grpc.StatusCode.PERMISSION_DENIED,
                        f"a frame says that it is of {request.frame.cluster!r}, the certificate {cluster!r}",
                    )
                await self._streams.heard(cluster, path, request.frame)
        finally:
            self._streams.closed(cluster, path)
            queue.close()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)


async def _write(queue: FrameQueue, context: grpc.aio.ServicerContext[ExchangeRequest, ExchangeResponse]) -> None:
    async for frame in queue:
        await context.write(ExchangeResponse(frame=frame))
