"""The connections to etcd: one channel to each endpoint, and the decision what may be tried again, and where.

A call goes to the endpoint that last worked. When that fails in a way that another may do better, the next
endpoint becomes the current one, and the call is repeated there if that is safe: always when the failure proves
that nothing was applied, and otherwise only when the caller says that applying it twice is the same as once.
Every endpoint is asked to answer only while it knows a leader, so that a member that is cut off from the others
is left instead of waited for. Our certificate may be replaced in its files at any time: what begins from then on
shows the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from control_plane.store.etcd.errors import EtcdError, Refused, Unavailable, Uncertain, classify
from wire.identity import Changed, Credentials

_REQUIRE_LEADER = (("hasleader", "true"),)
_MAX_MESSAGE = 64 << 20  # a full page of the largest values, and room
_LOOK_SECONDS = 1.0  # between two looks at the files of our certificate


Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Answer]):
    """A method of etcd by its literal path, and the type of its answers."""

    path: str
    answer: type[Answer]


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM: the authority that etcd's certificates are checked with, and, where etcd asks for one, our own.

    `server_name` is the name to expect in etcd's certificate where it is not the host of the endpoint.
    """

    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def newer(self) -> Callable[[], bool]:
        """What says whether our certificate was renewed since it was last asked. Raises OSError, naming the file."""
        if self.certificate is None or self.key is None:
            return lambda: False
        return Changed(Credentials(self.certificate, self.key, self.ca))

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files. Raises OSError, naming the file."""
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca.read_bytes(),
            private_key=self.key.read_bytes() if self.key else None,
            certificate_chain=self.certificate.read_bytes() if self.certificate else None,
        )


@dataclass(frozen=True, slots=True)
class Config:
    """Where etcd is (`host:port` each; a scheme before it is allowed and ignored), and how long to wait for it.

    `timeout` bounds one attempt, `patience` all attempts of one call together; both in seconds. `settle`: the only
    member is an etcd before 3.5.5, which acknowledges a write before it is in its log; see `settling`.
    """

    endpoints: tuple[str, ...]
    tls: Tls | None = None
    timeout: float = 3.0
    patience: float = 10.0
    settle: bool = False

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("etcd: no endpoint is configured; expected at least one host:port")


class Retry(Enum):
    """When a call may be sent again."""

    ALWAYS = "applied twice is the same as once"
    UNSENT = "only when it was certainly not applied"


def backoff(first: float = 0.02, factor: float = 2.0, most: float = 1.0) -> Iterator[float]:
    """Seconds to wait before each further attempt: growing, bounded, without end."""
    delay = first
    while True:
        yield delay
        delay = min(delay * factor, most)


class _Endpoint:
    """One member of etcd: its channel, opened at first use, and the methods called on it so far."""

    def __init__(self, address: str, tls: Tls | None) -> None:
        self.address = address.split("://", 1)[-1].rstrip("/")
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None
        self._former: list[grpc.aio.Channel] = []
        self._unary: dict[str, Any] = {}
        self._newer: Callable[[], bool] = lambda: False
        self._look_at = 0.0

    def _opened(self) -> grpc.aio.Channel:
        """The channel. Where our files are others than it was opened with, a new one: what is under way stays."""
        now = asyncio.get_running_loop().time()
        if self._channel is not None and now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            if self._newer():
                self._former.append(self._channel)
                self._channel = None
                self._unary.clear()
        if self._channel is None:
            options: list[tuple[str, Any]] = [
                ("grpc.max_receive_message_length", _MAX_MESSAGE),
                ("grpc.enable_http_proxy", 0),
                ("grpc.use_local_subchannel_pool", 1),  # another client's back-off is not ours
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 500),
                ("grpc.min_reconnect_backoff_ms", 1000),  # in truth: how long one attempt to connect may take
                ("grpc.keepalive_time_ms", 10_000),  # etcd hangs up on who pings more often than every 5 s
                ("grpc.keepalive_timeout_ms", 5_000),
                ("grpc.http2.max_pings_without_data", 0),  # a quiet watch must notice a dead connection too
            ]
            if self._tls is None:
                self._channel = grpc.aio.insecure_channel(self.address, options=options)
            else:
                if self._tls.server_name:
                    options.append(("grpc.ssl_target_name_override", self._tls.server_name))
                self._newer = self._tls.newer()
                self._channel = grpc.aio.secure_channel(self.address, self._tls.credentials(), options=options)
        return self._channel

    async def call(self, method: Method[Answer], request: Message, timeout: float) -> Answer:
        """Call once. Raises an EtcdError."""
        channel = self._opened()
        callable_ = self._unary.get(method.path)
        if callable_ is None:
            callable_ = self._unary[method.path] = channel.unary_unary(
                method.path,
                request_serializer=_serialize,
                response_deserializer=method.answer.FromString,
            )
        try:
            return cast(Answer, await callable_(request, timeout=timeout, metadata=_REQUIRE_LEADER))
        except grpc.aio.AioRpcError as error:
            raise classify(error, self.address, method.path) from error

    def stream(self, method: Method[Answer]) -> grpc.aio.StreamStreamCall[Message, Answer]:
        """Begin a stream in both directions."""
        return self._opened().stream_stream(
            method.path, request_serializer=_serialize, response_deserializer=method.answer.FromString
        )(metadata=_REQUIRE_LEADER)

    async def close(self) -> None:
        for channel in (*self._former, self._channel):
            if channel is not None:
                await channel.close()


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


class Stream(Generic[Answer]):
    """A stream of requests and answers with one endpoint, which it reports to the client when it breaks.

    Cancelling a `receive` breaks the stream: gRPC may have taken a message that nobody got. Whoever goes on
    opens another.
    """

    def __init__(self, client: Client, endpoint: _Endpoint, method: Method[Answer]) -> None:
        self._client = client
        self._endpoint = endpoint
        self._method = method
        self._call = endpoint.stream(method)

    async def send(self, request: Message) -> None:
        """Hand over a request. Raises an EtcdError when the stream is broken."""
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise self._broken(classify(error, self._endpoint.address, self._method.path)) from error
        except asyncio.InvalidStateError as error:  # what grpc.aio says of a stream that has ended meanwhile
            raise self._broken(Unavailable(f"etcd at {self._endpoint.address}: the stream has ended")) from error

    async def receive(self) -> Answer:
        """The next answer. Raises an EtcdError when the stream is broken or the server has ended it."""
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._broken(classify(error, self._endpoint.address, self._method.path)) from error
        if answer is grpc.aio.EOF:
            raise self._broken(Unavailable(f"etcd at {self._endpoint.address} ended the stream"))
        return cast(Answer, answer)

    def _broken(self, error: EtcdError) -> EtcdError:
        if not isinstance(error, Refused):
            self._client._leave(self._endpoint)
        return error

    def give_up(self) -> None:
        """End the stream because its server doesn't answer; the next stream and call go to another endpoint."""
        self._client._leave(self._endpoint)
        self._call.cancel()

    def close(self) -> None:
        """End the stream; nothing more is received."""
        self._call.cancel()


class Client:
    """The way to one etcd cluster. Use it as an async context manager, in one event loop."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._endpoints = [_Endpoint(address, config.tls) for address in config.endpoints]
        self._current = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; calls and streams under way end with an error."""
        for endpoint in self._endpoints:
            await endpoint.close()

    async def call(
        self, method: Method[Answer], request: Message, retry: Retry, *, patience: float | None = None
    ) -> Answer:
        """Call `method` until an endpoint answers, for at most `patience` seconds (the configuration's by default).

        Raises Refused when etcd says no, Unavailable when the request certainly was not applied, and Uncertain when
        one of the attempts may have been.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + (self.config.patience if patience is None else patience)
        delays = backoff()
        uncertain: EtcdError | None = None
        tried = 0
        while True:
            endpoint = self._endpoints[self._current]
            try:
                return await endpoint.call(method, request, min(self.config.timeout, max(deadline - clock(), 0.001)))
            except Unavailable as error:
                failure: EtcdError = error
            except Uncertain as error:
                failure = uncertain = error
            self._leave(endpoint)
            if uncertain is not None and retry is not Retry.ALWAYS:
                raise uncertain
            tried += 1
            delay = next(delays) if tried % len(self._endpoints) == 0 else 0.0
            if clock() + delay >= deadline:
                raise uncertain or failure
            await asyncio.sleep(delay)

    def stream(self, method: Method[Answer]) -> Stream[Answer]:
        """Begin a stream with the current endpoint; when it breaks, the next one goes to another endpoint."""
        return Stream(self, self._endpoints[self._current], method)

    def _leave(self, endpoint: _Endpoint) -> None:
        if self._endpoints[self._current] is endpoint:
            self._current = (self._current + 1) % len(self._endpoints)
