"""The node daemon's stream to its cluster's agent: batches out, commands in, and again from the start after a loss.

What is told while the agent is away is not kept: when the stream is up again, `hello` says all that matters as it is
then. Whatever waits goes out in one message, as soon as the one before is taken: first messages, then what is said of
tasks, which is asked for only then. Reconnecting waits with full jitter, so that the nodes of a large cluster don't
come back at once.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
import structlog

from bdw_fed.v1 import node_pb2
from bdw_fed.v1.node_pb2_grpc import NodeServiceStub
from cluster_agent.membership.errors import NotNowError
from cluster_agent.orders.messages import Downward, Upward, decode_downward, encode
from wire.identity import Credentials, Identity, Role, channel_options, grpc_channel_credentials

_log = structlog.get_logger(__name__)
_CERTIFY_SECONDS = 30.0
_GRACE_SECONDS = 10.0
_REQUEST_BYTES = 4 << 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
LOGS_AHEAD = 64  # messages that may wait before log readers do
_NEWS_SECONDS = 0.05  # between two news: told with every task they would be most of what is sent


class AgentLink:
    """The connection to the agent at `address`.

    `hello` gives a stream's first message, `of_tasks` what is to be said of tasks since it was asked; `news` is asked
    for more once in a while when there is any, so that what changes often is told seldom; while `hurried` says so it is
    told before whatever comes of tasks. `handle` takes commands, `ordered` what comes of tasks, `lost` hears that the
    stream has ended. The agent's certificate must be at least of `generation`.
    """

    def __init__(
        self,
        address: str,
        cluster: str,
        credentials: Credentials,
        hello: Callable[[], node_pb2.NodeMessage],
        of_tasks: Callable[[], list[Upward]],
        news: Callable[[], list[node_pb2.NodeMessage]],
        handle: Callable[[node_pb2.NodeCommand], Awaitable[None]],
        ordered: Callable[[Downward], Awaitable[None]],
        lost: Callable[[], None],
        generation: int = 0,
        hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        self._hello = hello
        self._of_tasks = of_tasks
        self._news = news
        self._hurried = hurried
        self._handle = handle
        self._ordered = ordered
        self._lost = lost
        self._address = address
        self._agent = Identity(Role.AGENT, cluster, generation)
        self._credentials = credentials
        self._open()
        self._waiting: deque[node_pb2.NodeMessage] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._nudged = False
        self._news_timer: asyncio.TimerHandle | None = None
        self.connected = False

    def renewed(self) -> None:
        """Our certificate is another: the next stream shows it, this one stays."""
        self._stale = True

    async def certify(self, request: bytes) -> bytes:
        """Our next certificate, which the agent has made. NotNowError."""
        try:
            return (
                await self._stub.Renew(node_pb2.RenewRequest(request=request), timeout=_CERTIFY_SECONDS)
            ).certificate
        except grpc.aio.AioRpcError as error:
            raise NotNowError(f"the agent brings no certificate just now: {error.details()}") from error

    def tell(self, message: node_pb2.NodeMessage) -> None:
        """Send a message; nothing while there is no stream."""
        if self.connected:
            self._waiting.append(message)
            self._nudged = True  # what is told may have changed the rest too
            if len(self._waiting) >= LOGS_AHEAD:
                self._room.clear()
            self._wake.set()

    def wake(self) -> None:
        """There is something to say of tasks."""
        self._wake.set()

    def nudge(self) -> None:
        """There is news. It is asked for at once, or when the last one is old enough."""
        self._nudged = True
        if self._news_timer is None:
            self._wake.set()

    async def room(self) -> None:
        """Return when little waits to be sent; for those who could say much."""
        await self._room.wait()

    async def run(self) -> None:
        """Attach again and again, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            welcomed = await self._attach()
            if self._stale:
                await self._reopen()
            pause = _FIRST_PAUSE if welcomed else min(_LONGEST_PAUSE, pause * 2)
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - spreads load, guards nothing

    async def bundle(self, namespace: str, digest: bytes) -> AsyncIterator[bytes]:
        """The pieces of a bundle's archive. AioRpcError."""
        call = self._stub.FetchBundle(node_pb2.FetchBundleRequest(namespace=namespace, digest=digest))
        async for response in call:
            yield response.chunk

    async def close(self) -> None:
        """End the connection; after `run` was cancelled."""
        if self._news_timer is not None:
            self._news_timer.cancel()
        await self._channel.close()

    def _open(self) -> None:
        self._channel = grpc.aio.secure_channel(
            self._address, grpc_channel_credentials(self._credentials), options=channel_options(self._agent)
        )
        self._stub = NodeServiceStub(self._channel)
        self._stale = False

    async def _reopen(self) -> None:
        """Connect anew, with the certificate that is there now; what is under way on the old connection may end."""
        old = self._channel
        self._open()
        await old.close(_GRACE_SECONDS)

    async def _attach(self) -> bool:
        """One stream from hello to its end; whether the agent has welcomed us."""
        call = self._stub.Attach()
        self._waiting.clear()
        self._waiting.append(self._hello())
        # At once: a result that came between would be heard with the hello, whose units don't have what it made.
        opening = self._request()
        assert opening is not None
        self.connected = True
        writing = asyncio.create_task(self._write(call, opening))
        welcomed = False
        try:
            async for response in call:
                for command in response.commands:
                    welcomed = welcomed or command.HasField("welcome")
                    await self._handle(command)
                if response.orders:
                    for order in decode_downward(response.orders):
                        await self._ordered(order)
            _log.info("the agent ended the stream")
        except grpc.aio.AioRpcError as error:
            refused = error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
            told = _log.warning if refused else _log.info
            told("no stream to the agent", reason=error.details(), code=error.code().name)
        finally:
            self.connected = False
            self._waiting.clear()
            self._room.set()
            writing.cancel()
            call.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            self._lost()
        return welcomed

    async def _write(
        self,
        call: grpc.aio.StreamStreamCall[node_pb2.AttachRequest, node_pb2.AttachResponse],
        opening: node_pb2.AttachRequest,
    ) -> None:
        await call.write(opening)
        self._wake.set()  # there may be more than a message holds
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._nudged and self._news_timer is None:
                self._nudged = False
                self._waiting.extend(self._news())
                self._news_timer = asyncio.get_running_loop().call_later(_NEWS_SECONDS, self._news_due)
            while (request := self._request()) is not None:
                await call.write(request)

    def _request(self) -> node_pb2.AttachRequest | None:
        """The next message; None if there is nothing to say."""
        if self._hurried():
            self._waiting.extend(self._news())
        request = node_pb2.AttachRequest()
        size = 0
        while self._waiting and size < _REQUEST_BYTES:
            message = self._waiting.popleft()
            size += message.ByteSize()
            request.messages.append(message)
        if len(self._waiting) < LOGS_AHEAD:
            self._room.set()
        said = self._of_tasks() if size < _REQUEST_BYTES else []
        if said:
            request.results = encode(said)
        return request if size or said else None

    def _news_due(self) -> None:
        self._news_timer = None
        if self._nudged:
            self._wake.set()
