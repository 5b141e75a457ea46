"""What carries words between processes: streams over links that are slow, lossy, cut, or dead in one direction.

    dial ─▶ Pipe: one End here, one End at the door of the other ── write ─▶ link ─▶ read

A stream behaves as one of gRPC over TCP: in order, nothing lost, until it breaks; what was on its way is gone then. A
direction that is blocked holds its words back, and each end gives the stream up once its keepalive has waited too long.
On a lossy link words are lost, doubled and overtaken all the same, which is worse than TCP is; since then only a
later word can show that one is missing, or was not understood where it came, such a stream breaks soon after.

A stream may go by way of a relay: then it needs both links, and dies with the relay.

What is drawn for a stream depends on its number between the two processes only, so that a fault more or less elsewhere
leaves it as it was.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
import grpc.aio

from simulator.trials.loop import Process, VirtualLoop
from simulator.trials.streams import CLOSED, Closing, End, Message, Pipe, broken

_LEAST_SECONDS, _MOST_SECONDS = 0.0005, 0.004  # that a word takes, besides the link's latency
_KEEPALIVE = (8.0, 16.0)  # seconds until an end gives up a silent stream
_AFTER_TROUBLE = (0.05, 3.0)
_CONNECT_SECONDS = 10.0  # until a dial into nowhere gives up


@dataclass
class Link:
    """One direction between two processes, as it is now."""

    latency: float = 0.002
    blocked_until: float = 0.0
    slow: float = 1.0
    loss: float = 0.0
    double: float = 0.0
    overtake: float = 0.0


class Way:
    """One direction of a stream, as it is now: one link, or two and a relay between them."""

    def __init__(self, links: Sequence[Link]) -> None:
        self._links = links

    @property
    def blocked_until(self) -> float:
        return max(link.blocked_until for link in self._links)

    @property
    def latency(self) -> float:
        return sum(link.latency * link.slow for link in self._links)

    @property
    def loss(self) -> float:
        return max(link.loss for link in self._links)

    @property
    def double(self) -> float:
        return max(link.double for link in self._links)

    @property
    def overtake(self) -> float:
        return max(link.overtake for link in self._links)


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
        self.refused: list[str] = []  # that should not have been
        self.relayed: dict[frozenset[str], tuple[str, ...]] = {}  # places that reach each other over relays alone

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

    def way(self, here: str, there: str, via: str = "") -> Way:
        """The direction from one place to another, perhaps by a relay."""
        return Way([self.link(here, via), self.link(via, there)] if via else [self.link(here, there)])

    def is_open(self, here: str, there: str, via: str = "") -> bool:
        """Whether words get through now, both ways."""
        ways = (self.way(here, there, via), self.way(there, here, via))
        return all(way.blocked_until <= self._loop.time() for way in ways) and (not via or self.serves(via, "relay"))

    def reaches(self, here: str, there: str) -> bool:
        """Whether one place reaches another now, be it over a relay."""
        return any(self.is_open(here, there, via) for via in self.relayed.get(frozenset((here, there)), ("",)))

    async def dial(self, process: Process, there: str, kind: str, via: str = "") -> End:
        """Open a stream. Raises what gRPC does where nobody answers."""
        here = process.name
        self._dialled[here, there, kind] += 1
        number = self._dialled[here, there, kind]
        random = Random(f"{self._seed}/{here}/{there}/{kind}/{number}")
        way, back = self.way(here, there, via), self.way(there, here, via)
        began = self._loop.time()
        await asyncio.sleep(way.latency + random.uniform(_LEAST_SECONDS, _MOST_SECONDS))
        while max(way.blocked_until, back.blocked_until) > self._loop.time():
            if self._loop.time() > began + _CONNECT_SECONDS:
                raise broken("nobody answers")
            await asyncio.sleep(0.5)
        found = self._doors.get((there, kind))
        if found is None or not found[0].alive or not process.alive or (via and not self.serves(via, "relay")):
            raise broken("connection refused")
        server, door = found
        pipe = Pipe(number, here, there, random, via)
        pipe.ends = {here: End(self, pipe, here, there), there: End(self, pipe, there, here)}
        self._pipes[pipe] = None
        server.run_part(self._answer(door, pipe.ends[there]))
        return pipe.ends[here]

    async def _answer(self, door: Door, end: End) -> None:
        try:
            await door(end)
        except grpc.aio.AbortError:
            pass
        finally:
            end.cancel()

    def carry(self, end: End, message: Message) -> None:
        """Take a message along."""
        pipe, link = end.pipe, self.way(end.here, end.there, end.pipe.via)
        self.watch(end, message)
        copy = type(message).FromString(message.SerializeToString())  # type: ignore[attr-defined]
        if link.loss and pipe.random.random() < link.loss:
            self._loop.call_later(pipe.random.uniform(*_AFTER_TROUBLE), self._break, pipe, "reset after a loss")
            return
        delay = link.latency + pipe.random.uniform(_LEAST_SECONDS, _MOST_SECONDS)
        if link.double and pipe.random.random() < link.double:
            self._loop.call_later(delay + pipe.random.uniform(0.0, 0.2), self._deliver, end, copy)
        if link.overtake and pipe.random.random() < link.overtake:
            self._loop.call_later(delay + pipe.random.uniform(0.0, 0.2), self._deliver, end, copy)
            self._loop.call_later(pipe.random.uniform(*_AFTER_TROUBLE), self._break, pipe, "reset after a mix-up")
            return
        end.line.append(copy)
        self._loop.call_later(delay, self._deliver_next, end)

    def close(self, end: End, closing: Closing) -> None:
        """One side closes a stream: what it has sent before arrives before that."""
        end.end("closed")
        end.line.append(closing)
        way = self.way(end.here, end.there, end.pipe.via)
        self._loop.call_later(way.latency + _MOST_SECONDS, self._deliver_next, end)

    def gone(self, name: str, *, silent: bool) -> None:
        """A process was killed. `silent`: its machine has lost power, so that nobody says so."""
        for pipe in list(self._pipes):
            if name == pipe.via:
                self._break(pipe, "the relay has died")
            elif name in pipe.ends:
                end = pipe.ends[name]
                other = pipe.ends[end.there]
                end.end("killed")
                way = self.way(name, end.there, pipe.via)
                wait = pipe.random.uniform(*_KEEPALIVE) if silent else way.latency
                self._loop.call_later(wait, self._end, other, "the other end has died")
                del self._pipes[pipe]

    def block(self, here: str, there: str, seconds: float) -> None:
        """Nothing gets through in this direction for a while."""
        link = self.link(here, there)
        until = self._loop.time() + seconds
        link.blocked_until = max(link.blocked_until, until)
        for pipe in self._pipes:
            if pipe.crosses(here, there):
                for end in pipe.ends.values():
                    self._loop.call_later(pipe.random.uniform(*_KEEPALIVE), self._keepalive, end, until)

    def reset(self, here: str, there: str) -> None:
        """All streams between two break now."""
        for pipe in list(self._pipes):
            if pipe.crosses(here, there):
                self._break(pipe, "reset")

    def _keepalive(self, end: End, until: float) -> None:
        if self._loop.time() < until:
            end.end("keepalive timed out")
            if all(each.closed for each in end.pipe.ends.values()):
                self._pipes.pop(end.pipe, None)
            else:
                self.close(end, CLOSED)

    def _break(self, pipe: Pipe, why: str) -> None:
        for end in pipe.ends.values():
            end.end(why)
        self._pipes.pop(pipe, None)

    def _deliver_next(self, end: End) -> None:
        """What one end sent first and has not arrived yet arrives at the other, as soon as the link lets it."""
        if self._held(end, self._deliver_next, end):
            return
        item = end.line.popleft()
        if isinstance(item, Closing):
            self._end(end.pipe.ends[end.there], item.why, item.code)
        elif end.closed in ("", "closed"):
            end.pipe.ends[end.there].arrive(item)

    def _deliver(self, end: End, message: Any) -> None:
        """A message arrives out of turn."""
        if not self._held(end, self._deliver, end, message) and not end.closed:
            end.pipe.ends[end.there].arrive(message)

    def _held(self, end: End, again: Callable[..., None], *args: Any) -> bool:
        until = self.way(end.here, end.there, end.pipe.via).blocked_until
        if until <= self._loop.time():
            return False
        self._loop.call_at(until + 1e-6, again, *args)
        return True

    def _end(self, end: End, why: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        end.end(why, code)
        self._pipes.pop(end.pipe, None)
