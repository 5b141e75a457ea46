"""How calls travel: one interface, once over asyncio and once blocking.

The client's methods are written once, as coroutines over a `Transport`. `AsyncTransport` is grpc.aio. The coroutines of
`BlockingTransport` never suspend, so `run_now` can drive a whole method without an event loop: a command that asks one
thing pays neither for asyncio nor for a thread.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

import grpc

from bdw_fed.client.connection import Profile
from bdw_fed.client.errors import from_rpc_error
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from wire.identity.credentials import channel_options, grpc_channel_credentials
from wire.identity.roles import Identity, Role

T = TypeVar("T")


class Transport(Protocol):
    """What the client's methods need of the world. Failed calls raise a ClientError."""

    profile: Profile

    async def call(self, method: str, request: Any, timeout: float | None) -> Any:
        """One request, one response."""

    def stream(self, method: str, request: Any, timeout: float | None = None) -> AsyncIterator[Any]:
        """One request, a stream of responses. Close the iterator to end the call."""

    async def upload(self, method: str, requests: Iterable[Any]) -> Any:
        """A stream of requests, one response."""

    async def blocking(self, function: Callable[[], T]) -> T:
        """Run something that blocks without blocking others."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    async def close(self) -> None:
        """Give the connection back."""


class _Bearer(grpc.AuthMetadataPlugin):
    """Shows the token with each call, as it is then: whoever renews it writes the file anew."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def __call__(
        self,
        context: grpc.AuthMetadataContext,  # noqa: ARG002
        callback: grpc.AuthMetadataPluginCallback,
    ) -> None:
        try:
            callback((("authorization", f"Bearer {self._profile.token()}"),), None)
        except OSError as error:
            callback((), error)


def _credentials(profile: Profile) -> grpc.ChannelCredentials:
    if not profile.token():
        return grpc_channel_credentials(profile.load_credentials())
    return grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(profile.authority().read_bytes()),
        grpc.metadata_call_credentials(_Bearer(profile)),
    )


def _channel_arguments(profile: Profile) -> dict[str, Any]:
    return {
        "target": profile.hub,
        "credentials": _credentials(profile),
        "options": channel_options(Identity(Role.AGENT, profile.agent) if profile.agent else Identity(Role.HUB, "hub")),
    }


class BlockingTransport:
    """Calls that block the thread; its coroutines never suspend."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._channel = grpc.secure_channel(**_channel_arguments(profile))
        self._stub: Any = ControlPlaneServiceStub(self._channel)

    async def call(self, method: str, request: Any, timeout: float | None) -> Any:
        """See Transport."""
        try:
            return getattr(self._stub, method)(request, timeout=timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.profile.hub) from error

    async def stream(self, method: str, request: Any, timeout: float | None = None) -> AsyncIterator[Any]:
        """See Transport."""
        call = getattr(self._stub, method)(request, timeout=timeout)
        try:
            for response in call:
                yield response
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.profile.hub) from error
        finally:
            call.cancel()

    async def upload(self, method: str, requests: Iterable[Any]) -> Any:
        """See Transport."""
        try:
            return getattr(self._stub, method)(iter(requests))
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.profile.hub) from error

    async def blocking(self, function: Callable[[], T]) -> T:
        """See Transport."""
        return function()

    async def sleep(self, seconds: float) -> None:
        """See Transport."""
        time.sleep(seconds)  # noqa: ASYNC251 - never inside an event loop

    async def close(self) -> None:
        """See Transport."""
        self._channel.close()


class AsyncTransport:
    """Calls over grpc.aio, in the running event loop."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._channel: Any = None
        self._stub: Any = None

    def _connected(self) -> Any:
        if self._stub is None:
            from grpc import aio

            self._channel = aio.secure_channel(**_channel_arguments(self.profile))
            self._stub = ControlPlaneServiceStub(self._channel)
        return self._stub

    async def call(self, method: str, request: Any, timeout: float | None) -> Any:
        """See Transport."""
        try:
            return await getattr(self._connected(), method)(request, timeout=timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.profile.hub) from error

    async def stream(self, method: str, request: Any, timeout: float | None = None) -> AsyncIterator[Any]:
        """See Transport."""
        call = getattr(self._connected(), method)(request, timeout=timeout)
        try:
            async for response in call:
                yield response
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.profile.hub) from error
        finally:
            call.cancel()

    async def upload(self, method: str, requests: Iterable[Any]) -> Any:
        """See Transport."""
        try:
            return await getattr(self._connected(), method)(requests)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.profile.hub) from error

    async def blocking(self, function: Callable[[], T]) -> T:
        """See Transport."""
        import asyncio

        return await asyncio.to_thread(function)

    async def sleep(self, seconds: float) -> None:
        """See Transport."""
        import asyncio

        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """See Transport."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = self._stub = None


def run_now(awaitable: Awaitable[T]) -> T:
    """Drive a coroutine over a BlockingTransport to its end.

    >>> async def answer() -> int:
    ...     return 42
    >>> run_now(answer())
    42
    """
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result
    if isinstance(awaitable, Coroutine):
        awaitable.close()
    raise RuntimeError("a blocking call tried to suspend; this is a bug in bdw_fed.client")
