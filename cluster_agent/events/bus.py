"""The in-process bus: a bounded memory of each run's newest events, and subscribers that may be slow.

The driver publishes what the core says once it is in the log. A subscriber gets what is remembered, then what comes;
if it is too slow, its oldest events are dropped and the next one that it gets says how many (`left_out`), so nobody is
held up and nobody is told less than the truth. The Lamport counter orders events across clusters by cause: it goes up
with each event, and above whatever a peer has said of its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping

from bdw_fed.v1.model_pb2 import Event

PREFIX = "io.bdw-fed."
_RUN_EVENTS = 1_000
_RUNS = 256
_QUEUE_EVENTS = 1_000
_RESERVED = 100_000


class _Memory:
    """The newest events of one run, and how many older ones are gone."""

    def __init__(self, limit: int) -> None:
        self.events: deque[Event] = deque(maxlen=limit)
        self.dropped = 0

    def add(self, event: Event) -> None:
        if len(self.events) == self.events.maxlen:
            self.dropped += 1
        self.events.append(event)


class Subscription:
    """One subscriber's bounded queue; iterate over it, and close it in the end."""

    def __init__(self, bus: EventBus, matches: Callable[[Event], bool], limit: int) -> None:
        self._bus = bus
        self._matches = matches
        self._queue: deque[Event] = deque()
        self._limit = limit
        self._dropped = 0
        self._wake = asyncio.Event()
        self._closed = False

    def offer(self, event: Event) -> None:
        """Take the event if it is asked for; drop the oldest one if there is no room."""
        if not self._matches(event):
            return
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append(event)
        self._wake.set()

    def missed(self, count: int) -> None:
        """Say with the next event that so many are not to be had any more."""
        self._dropped += count

    def close(self) -> None:
        """Get no more events; the iteration ends."""
        self._closed = True
        self._bus.forget(self)
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            for event in self.waiting():
                yield event

    def waiting(self) -> list[Event]:
        """What is in the queue now, and take it out."""
        events = list(self._queue)
        self._queue.clear()
        if events and self._dropped:
            first = Event()
            first.CopyFrom(events[0])
            first.left_out += self._dropped
            events[0] = first
            self._dropped = 0
        return events


class EventBus:
    """All events of one cluster. `source` is the log's id: events of two lives of a cluster are told apart by it."""

    def __init__(
        self, cluster: str, source: bytes, *, run_events: int = _RUN_EVENTS, runs: int = _RUNS, lamport: int = 0
    ) -> None:
        self._cluster = cluster
        self._source = source.hex()
        self._run_events = run_events
        self._runs = runs
        self._memory: OrderedDict[tuple[str, str], _Memory] = OrderedDict()
        self._subscriptions: set[Subscription] = set()
        self._lamport = lamport
        self._reserved = lamport

    @property
    def lamport(self) -> int:
        """The number of the newest event; goes with every frame to a peer."""
        return self._lamport

    def reservation(self, count: int) -> int | None:
        """Before `count` events: the number to start from after a restart, if a new one must be logged first.

        So the counter never goes back, and the log is seldom bothered with it.
        """
        if self._lamport + count <= self._reserved:
            return None
        self._reserved = self._lamport + count + _RESERVED
        return self._reserved

    def witness(self, lamport: int) -> None:
        """A peer's newest event had this number: ours come after it."""
        self._lamport = max(self._lamport, lamport)

    def publish(self, namespace: str, run: str, kind: str, subject: str, data: Mapping[str, object]) -> None:
        """An event of a run; `kind` is its type without the prefix, for example "task.done"."""
        self._lamport += 1
        event = Event(
            id=f"{self._source}-{self._lamport}",
            type=PREFIX + kind,
            source=f"/clusters/{self._cluster}/coordinator",
            subject=subject,
            time=time.time(),
            lamport=self._lamport,
            namespace=namespace,
            run=run,
            cluster=self._cluster,
            data_json=json.dumps(data, default=_plain, separators=(",", ":")),
        )
        self._remember((namespace, run), event)
        for subscription in self._subscriptions:
            subscription.offer(event)

    def subscribe(self, namespace: str = "", run: str = "", *, limit: int = _QUEUE_EVENTS) -> Subscription:
        """Events of a namespace and run (empty = all): first those remembered, then those to come."""

        def matches(event: Event) -> bool:
            return (not namespace or event.namespace == namespace) and (not run or event.run == run)

        subscription = Subscription(self, matches, limit)
        kept = [
            memory
            for key, memory in self._memory.items()
            if (not namespace or key[0] == namespace) and (not run or key[1] == run)
        ]
        subscription.missed(sum(memory.dropped for memory in kept))
        for event in sorted((event for memory in kept for event in memory.events), key=lambda event: event.lamport):
            subscription.offer(event)
        self._subscriptions.add(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """The subscriber is gone."""
        self._subscriptions.discard(subscription)

    def _remember(self, key: tuple[str, str], event: Event) -> None:
        memory = self._memory.get(key)
        if memory is None:
            memory = self._memory[key] = _Memory(self._run_events)
            if len(self._memory) > self._runs:
                self._memory.popitem(last=False)
        memory.add(event)


def _plain(value: object) -> object:
    """What JSON has no form for: ids are shown as hex."""
    return value.hex() if isinstance(value, bytes) else str(value)
