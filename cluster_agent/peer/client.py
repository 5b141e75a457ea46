"""Opening the stream to a peer that we can dial, again and again while it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import grpc
import grpc.aio
import structlog

from bdw_fed.v1.membership_pb2 import SignedRevocations
from bdw_fed.v1.peer_pb2 import ExchangeRequest, ExchangeResponse, PeerFrame
from bdw_fed.v1.peer_pb2_grpc import PeerServiceStub
from cluster_agent.link.backoff import Backoff
from cluster_agent.peer.stream import FrameQueue
from wire.identity import Credentials, Identity, channel_options, grpc_channel_credentials

_log = structlog.get_logger(__name__)
Exchange = Callable[[AsyncIterator[ExchangeRequest]], AsyncIterable[ExchangeResponse]]
"""The peer's service: what we say, and what it says."""


class Streams(Protocol):
    """Who is told of streams and what they bring."""

    def knows(self, cluster: str) -> bool:
        """Whether it is a peer of ours."""

    def opened(self, cluster: str, queue: FrameQueue, *, by_us: bool) -> int:
        """A stream is there."""

    def closed(self, cluster: str, path: int) -> None:
        """It ended."""

    async def heard(self, cluster: str, path: int, frame: PeerFrame) -> None:
        """A frame came."""

    def told(self, cluster: str, revocations: SignedRevocations) -> None:
        """The cluster has passed a list of revocations on."""

    def refusal(self, identity: Identity) -> str:
        """Why this member may not open a stream; empty = it may."""

    def unspoken(self, frame: PeerFrame) -> str:
        """Why a frame is not understood: no version is spoken by both. Empty = it is."""


async def dial(streams: Streams, peer: Identity, address: str, credentials: Credentials) -> None:
    """Keep a stream to the agent that is `peer` at `address` ("host:port") open, until cancelled."""
    await keep(streams, peer.cluster, address, lambda: _connected(peer, address, credentials))


async def keep(
    streams: Streams, cluster: str, address: str, connected: Callable[[], AbstractAsyncContextManager[Exchange]]
) -> None:
    """The same, over connections that `connected` opens."""
    backoff = Backoff()
    while True:
        try:
            async with connected() as exchange:
                await _talk(streams, cluster, exchange, backoff)
        except grpc.aio.AioRpcError as error:
            say = _log.warning if error.code() is grpc.StatusCode.FAILED_PRECONDITION else _log.info
            say("no stream to a peer", peer=cluster, address=address, code=error.code().name, reason=error.details())
        except asyncio.InvalidStateError:
            _log.info("a stream to a peer broke", peer=cluster, address=address)
        except OSError as error:  # our own credentials are being replaced
            _log.warning("credentials can't be read", error=str(error))
        await backoff.wait()


@asynccontextmanager
async def _connected(peer: Identity, address: str, credentials: Credentials) -> AsyncIterator[Exchange]:
    options = channel_options(peer)
    async with grpc.aio.secure_channel(address, grpc_channel_credentials(credentials), options=options) as channel:
        yield PeerServiceStub(channel).Exchange


async def _talk(streams: Streams, cluster: str, exchange: Exchange, backoff: Backoff) -> None:
    queue = FrameQueue()
    path = streams.opened(cluster, queue, by_us=True)
    try:
        async for response in exchange(_requests(queue)):
            if response.HasField("revocations"):
                streams.told(cluster, response.revocations)
            if response.frame.cluster == cluster:
                if unspoken := streams.unspoken(response.frame):
                    _log.warning("a peer is not spoken to", peer=cluster, reason=unspoken)
                    return
                backoff.reset()
                await streams.heard(cluster, path, response.frame)
    finally:
        queue.close()
        streams.closed(cluster, path)


async def _requests(queue: FrameQueue) -> AsyncIterator[ExchangeRequest]:
    async for said in queue:
        if isinstance(said, SignedRevocations):
            yield ExchangeRequest(revocations=said)
        else:
            yield ExchangeRequest(frame=said)
