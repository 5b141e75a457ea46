"""Streams as processes have them: two ends of a pipe, each like a call or a context of gRPC.

    End ── write ─▶ network ── arrive ─▶ End ── read

What is written is as it was when it was written, and arrives in order, until the stream breaks or is closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import grpc
import grpc.aio

_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)  # that are in order


class Message(Protocol):
    """Of protobuf: what is sent is as it was when it was sent."""

    def SerializeToString(self) -> bytes: ...


class Carrier(Protocol):
    """The network, as an end of a stream knows it. `refused`: what should not have been."""

    refused: list[str]

    def carry(self, end: End, message: Message) -> None:
        """Take a message along."""

    def close(self, end: End, closing: Closing) -> None:
        """One side closes a stream: what it has sent before arrives before that."""


def broken(details: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> grpc.aio.AioRpcError:
    """What gRPC raises where a stream is broken, or was refused."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@dataclass(eq=False)
class Pipe:
    """A stream. `via`: the relay that it goes by, if any."""

    number: int
    client: str
    server: str
    random: Random
    via: str = ""
    ends: dict[str, End] = field(default_factory=dict)

    @property
    def places(self) -> tuple[str, ...]:
        """All that it needs, in their order."""
        return (self.client, self.via, self.server) if self.via else (self.client, self.server)

    def crosses(self, here: str, there: str) -> bool:
        """Whether it uses the link between two places."""
        places = self.places
        return any({here, there} == set(places[at : at + 2]) for at in range(len(places) - 1))


@dataclass(frozen=True)
class Closing:
    """The last thing on a stream's way: why nothing comes after it."""

    why: str
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE


CLOSED = Closing("closed")


class End:
    """One end of a stream, as a client's call or a server's context has it."""

    def __init__(self, network: Carrier, pipe: Pipe, here: str, there: str) -> None:
        self.here = here
        self.there = there
        self.pipe = pipe
        self._network = network
        self._inbox: deque[Any] = deque()
        self._wake = asyncio.Event()
        self.line: deque[Any] = deque()  # what was sent and has not arrived
        self.closed = ""  # why, once it is
        self._code = grpc.StatusCode.UNAVAILABLE

    async def write(self, message: Message) -> None:
        """Send. On a broken stream a client raises what gRPC does; a server's handler is ended otherwise."""
        if not self.closed:
            self._network.carry(self, message)
        elif self.here == self.pipe.client:
            raise broken(self.closed, self._code)

    async def read(self) -> Any:
        """The next message; EOF where the other end has closed the stream. A client raises where it is broken."""
        while not self._inbox:
            if self.closed:
                if self.closed == "closed" or self.here == self.pipe.server:
                    return grpc.aio.EOF
                raise broken(self.closed, self._code)
            await self._wake.wait()
            self._wake.clear()
        return self._inbox.popleft()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """A server refuses to go on."""
        if not self.closed:
            self._network.close(self, Closing(details, code))
            if code not in _REFUSALS:
                self._network.refused.append(f"{self.there} was refused by {self.here}: {code.name}, {details}")
        raise grpc.aio.AbortError

    def peer(self) -> str:
        """Who is at the other end, as a log shows it."""
        return self.there

    def cancel(self) -> None:
        """Close it from this side; the other hears it, if the link lets it."""
        if not self.closed:
            self._network.close(self, CLOSED)

    def arrive(self, message: Any) -> None:
        """A message is here."""
        if not self.closed:
            self._inbox.append(message)
            self._wake.set()

    def end(self, why: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """Nothing comes any more. What is on its way out still leaves."""
        if not self.closed:
            self.closed = why
            self._code = code
            if why != "closed":
                self._inbox.clear()
            self._wake.set()


@asynccontextmanager
async def sending(end: End, messages: AsyncIterator[Message]) -> AsyncIterator[None]:
    """A client says all of this, for as long as this is entered; then it closes the stream."""

    async def write() -> None:
        with suppress(grpc.aio.AioRpcError):  # who reads sees the end, too
            async for message in messages:
                await end.write(message)
            end.cancel()

    writer = asyncio.ensure_future(write())
    try:
        yield
    finally:
        end.cancel()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
