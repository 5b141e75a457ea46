"""What carries words between processes: streams over links that are slow, lossy, cut, or dead in one direction.

    dial ─▶ Pipe: one End here, one End at the door of the other ── write ─▶ link ─▶ read

A stream behaves as one of gRPC over TCP: in order, nothing lost, until it breaks; what was on its way is gone then. A
direction that is blocked holds its words back, and each end gives the stream up once its keepalive has waited too long.
On a lossy link words are lost, doubled and overtaken all the same, which is worse than TCP is; since then only a
later word can show that one is missing, such a stream breaks soon after the loss.

What is drawn for a stream depends on its number between the two processes only, so that a fault more or less elsewhere
leaves it as it was.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import grpc
import grpc.aio

from simulator.trials.loop import Process, VirtualLoop

_LEAST_SECONDS, _MOST_SECONDS = 0.0005, 0.004  # that a word takes, besides the link's latency
_KEEPALIVE = (8.0, 16.0)  # seconds until an end gives up a silent stream
_AFTER_LOSS = (0.05, 3.0)
_CONNECT_SECONDS = 10.0  # until a dial into nowhere gives up


class Message(Protocol):
    """Of protobuf: what is sent is as it was when it was sent."""

    def SerializeToString(self) -> bytes: ...


@dataclass
class Link:
    """One direction between two processes, as it is now."""

    latency: float = 0.002
    blocked_until: float = 0.0
    slow: float = 1.0
    loss: float = 0.0
    double: float = 0.0
    overtake: float = 0.0


def broken(details: str) -> grpc.aio.AioRpcError:
    """What gRPC raises where a stream is broken."""
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@dataclass(eq=False)
class Pipe:
    """A stream."""

    number: int
    client: str
    server: str
    random: Random
    ends: dict[str, End] = field(default_factory=dict)


class End:
    """One end of a stream, as a client's call or a server's context has it."""

    def __init__(self, network: Network, pipe: Pipe, here: str, there: str) -> None:
        self.here = here
        self.there = there
        self.pipe = pipe
        self._network = network
        self._inbox: deque[Any] = deque()
        self._wake = asyncio.Event()
        self.line: deque[Any] = deque()  # what was sent and has not arrived; a text says why it is the end
        self.closed = ""  # why, once it is

    async def write(self, message: Message) -> None:
        """Send. On a broken stream a client raises what gRPC does; a server's handler is ended otherwise."""
        if not self.closed:
            self._network.carry(self, message)
        elif self.here == self.pipe.client:
            raise broken(self.closed)

    async def read(self) -> Any:
        """The next message; EOF where the other end has closed the stream. A client raises where it is broken."""
        while not self._inbox:
            if self.closed:
                if self.closed == "closed" or self.here == self.pipe.server:
                    return grpc.aio.EOF
                raise broken(self.closed)
            await self._wake.wait()
            self._wake.clear()
        return self._inbox.popleft()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """A server refuses to go on."""
        self.cancel()
        raise AssertionError(f"{self.there} was refused by {self.here}: {code.name}, {details}")

    def cancel(self) -> None:
        """Close it from this side; the other hears it, if the link lets it."""
        if not self.closed:
            self._network.close(self)

    def arrive(self, message: Any) -> None:
        """A message is here."""
        if not self.closed:
            self._inbox.append(message)
            self._wake.set()

    def end(self, why: str) -> None:
        """Nothing comes any more. What is on its way out still leaves."""
        if not self.closed:
            self.closed = why
            if why != "closed":
                self._inbox.clear()
            self._wake.set()


Door = Callable[[End], Awaitable[None]]


class Network:
    """All links and streams. Names of processes are places: `hub`, `agent/edge1`, `node/edge1/n1`."""

    def __init__(self, loop: VirtualLoop, seed: object) -> None:
        self._loop = loop
        self._seed = seed
        self._links: dict[tuple[str, str], Link] = {}
        self._doors: dict[tuple[str, str], tuple[Process, Door]] = {}
        self._dialled: Counter[tuple[str, str, str]] = Counter()
        self._pipes: dict[Pipe, None] = {}
        self.watch: Callable[[End, Any], None] = lambda _end, _message: None

    def link(self, here: str, there: str) -> Link:
        """The direction from one place to another; links of a cluster's agent are those of its cluster."""
        return self._links.setdefault((here, there), Link())

    def serve(self, process: Process, kind: str, door: Door) -> None:
        """From now on this process answers at its name."""
        self._doors[process.name, kind] = (process, door)

    def serves(self, name: str, kind: str) -> bool:
        """Whether somebody is there."""
        found = self._doors.get((name, kind))
        return found is not None and found[0].alive

    async def dial(self, process: Process, there: str, kind: str) -> End:
        """Open a stream. Raises what gRPC does where nobody answers."""
        here = process.name
        self._dialled[here, there, kind] += 1
        number = self._dialled[here, there, kind]
        random = Random(f"{self._seed}/{here}/{there}/{kind}/{number}")
        link, back = self.link(here, there), self.link(there, here)
        began = self._loop.time()
        await asyncio.sleep(link.latency * link.slow + random.uniform(_LEAST_SECONDS, _MOST_SECONDS))
        while max(link.blocked_until, back.blocked_until) > self._loop.time():
            if self._loop.time() > began + _CONNECT_SECONDS:
                raise broken("nobody answers")
            await asyncio.sleep(0.5)
        found = self._doors.get((there, kind))
        if found is None or not found[0].alive or not process.alive:
            raise broken("connection refused")
        server, door = found
        pipe = Pipe(number, here, there, random)
        pipe.ends = {here: End(self, pipe, here, there), there: End(self, pipe, there, here)}
        self._pipes[pipe] = None
        server.run_part(self._answer(door, pipe.ends[there]))
        return pipe.ends[here]

    async def _answer(self, door: Door, end: End) -> None:
        try:
            await door(end)
        finally:
            end.cancel()

    def carry(self, end: End, message: Message) -> None:
        """Take a message along."""
        pipe, link = end.pipe, self.link(end.here, end.there)
        self.watch(end, message)
        copy = type(message).FromString(message.SerializeToString())  # type: ignore[attr-defined]
        if link.loss and pipe.random.random() < link.loss:
            self._loop.call_later(pipe.random.uniform(*_AFTER_LOSS), self._break, pipe, "reset after a loss")
            return
        delay = link.latency * link.slow + pipe.random.uniform(_LEAST_SECONDS, _MOST_SECONDS)
        if link.double and pipe.random.random() < link.double:
            self._loop.call_later(delay + pipe.random.uniform(0.0, 0.2), self._deliver, end, copy)
        if link.overtake and pipe.random.random() < link.overtake:
            self._loop.call_later(delay + pipe.random.uniform(0.0, 0.2), self._deliver, end, copy)
            return
        end.line.append(copy)
        self._loop.call_later(delay, self._deliver_next, end)

    def close(self, end: End) -> None:
        """One side closes a stream: what it has sent before arrives before that."""
        end.end("closed")
        end.line.append("closed")
        link = self.link(end.here, end.there)
        self._loop.call_later(link.latency * link.slow + _MOST_SECONDS, self._deliver_next, end)

    def gone(self, name: str, *, silent: bool) -> None:
        """A process was killed. `silent`: its machine has lost power, so that nobody says so."""
        for pipe in list(self._pipes):
            if name in pipe.ends:
                end = pipe.ends[name]
                other = pipe.ends[end.there]
                end.end("killed")
                wait = pipe.random.uniform(*_KEEPALIVE) if silent else self.link(name, end.there).latency
                self._loop.call_later(wait, self._end, other, "the other end has died")
                del self._pipes[pipe]

    def block(self, here: str, there: str, seconds: float) -> None:
        """Nothing gets through in this direction for a while."""
        link = self.link(here, there)
        until = self._loop.time() + seconds
        link.blocked_until = max(link.blocked_until, until)
        for pipe in self._pipes:
            if pipe.ends.keys() == {here, there}:
                for end in pipe.ends.values():
                    self._loop.call_later(pipe.random.uniform(*_KEEPALIVE), self._keepalive, end, until)

    def reset(self, here: str, there: str) -> None:
        """All streams between two break now."""
        for pipe in list(self._pipes):
            if pipe.ends.keys() == {here, there}:
                self._break(pipe, "reset")

    def _keepalive(self, end: End, until: float) -> None:
        if self._loop.time() < until:
            end.end("keepalive timed out")
            if all(each.closed for each in end.pipe.ends.values()):
                self._pipes.pop(end.pipe, None)
            else:
                self.close(end)

    def _break(self, pipe: Pipe, why: str) -> None:
        for end in pipe.ends.values():
            end.end(why)
        self._pipes.pop(pipe, None)

    def _deliver_next(self, end: End) -> None:
        """What one end sent first and has not arrived yet arrives at the other, as soon as the link lets it."""
        if self._held(end, self._deliver_next, end):
            return
        item = end.line.popleft()
        if isinstance(item, str):
            self._end(end.pipe.ends[end.there], item)
        elif end.closed in ("", "closed"):
            end.pipe.ends[end.there].arrive(item)

    def _deliver(self, end: End, message: Any) -> None:
        """A message arrives out of turn."""
        if not self._held(end, self._deliver, end, message) and not end.closed:
            end.pipe.ends[end.there].arrive(message)

    def _held(self, end: End, again: Callable[..., None], *args: Any) -> bool:
        until = self.link(end.here, end.there).blocked_until
        if until <= self._loop.time():
            return False
        self._loop.call_at(until + 1e-6, again, *args)
        return True

    def _end(self, end: End, why: str) -> None:
        end.end(why)
        self._pipes.pop(end.pipe, None)
