"""The in-process bus: a bounded memory of each run's newest events, and subscribers that may be slow.

The driver publishes what the core says once it is in the log, a batch at a time. A subscriber gets what is remembered,
then what comes; if it is too slow, its oldest events are dropped and the next one that it gets says how many
(`left_out`), so nobody is held up and nobody is told less than the truth. An event gets the form in which it travels
when somebody reads it: most are never read. The Lamport counter orders events across clusters by cause: it goes up with
each event, and above whatever a peer has said of its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from bdw_fed.v1.model_pb2 import Event
from cluster_agent.coordinator.actions import Publish
from cluster_agent.coordinator.messages import RunKey
from wire.lines import run_of

PREFIX = "io.bdw-fed."
_RUN_EVENTS = 1_000
_RUNS = 256
_QUEUE_EVENTS = 1_000
_RESERVED = 100_000


class _Happened(NamedTuple):
    """An event with its number, and its time in seconds since 1970."""

    lamport: int
    time: float
    what: Publish


class _Memory:
    """The newest events of one run, and how many older ones are gone."""

    def __init__(self, limit: int) -> None:
        self.events: deque[_Happened] = deque(maxlen=limit)
        self.dropped = 0
        self._limit = limit

    def add(self, events: Sequence[_Happened]) -> None:
        self.dropped += max(0, len(self.events) + len(events) - self._limit)
        self.events.extend(events)


class Subscription:
    """One subscriber's bounded queue; iterate over it, and close it in the end."""

    def __init__(self, bus: EventBus, matches: Callable[[RunKey], bool], limit: int) -> None:
        self._bus = bus
        self._matches = matches
        self._queue: deque[_Happened] = deque(maxlen=limit)
        self._dropped = 0
        self._wake = asyncio.Event()
        self._closed = False

    def offer(self, run: RunKey, events: Sequence[_Happened]) -> None:
        """Take these events of a run if they are asked for; drop the oldest ones if there is no room."""
        if not self._matches(run):
            return
        queue = self._queue
        assert queue.maxlen is not None
        self._dropped += max(0, len(queue) + len(events) - queue.maxlen)
        queue.extend(events)
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
        events = [self._bus.event(happened) for happened in self._queue]
        self._queue.clear()
        if events:
            events[0].left_out, self._dropped = self._dropped, 0
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
        self._memory: OrderedDict[RunKey, _Memory] = OrderedDict()
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

    def publish(self, events: Iterable[Publish]) -> None:
        """These have happened, in this order."""
        now = time.time()
        for run, of_run in groupby(events, key=lambda event: event.run):
            first = self._lamport + 1
            happened = [_Happened(number, now - event.ago, event) for number, event in enumerate(of_run, first)]
            self._lamport += len(happened)
            self._remember(run, happened)
            for subscription in self._subscriptions:
                subscription.offer(run, happened)

    def event(self, happened: _Happened) -> Event:
        """An event as it travels."""
        what = happened.what
        return Event(
            id=f"{self._source}-{happened.lamport}",
            type=PREFIX + what.type,
            source=f"/clusters/{self._cluster}/coordinator",
            subject=what.subject,
            time=happened.time,
            lamport=happened.lamport,
            namespace=what.run.namespace,
            run=what.run.run,
            cluster=self._cluster,
            data_json=json.dumps(what.data, default=_plain, separators=(",", ":")),
        )

    def subscribe(self, namespace: str = "", run: str = "", *, limit: int = _QUEUE_EVENTS) -> Subscription:
        """Events of a namespace and run (empty = all): first those remembered, then those to come."""

        def matches(key: RunKey) -> bool:
            return (not namespace or key.namespace == namespace) and (not run or run in (key.run, run_of(key.run)))

        subscription = Subscription(self, matches, limit)
        kept = {key: memory for key, memory in self._memory.items() if matches(key)}
        subscription.missed(sum(memory.dropped for memory in kept.values()))
        for happened in sorted(happened for memory in kept.values() for happened in memory.events):
            subscription.offer(happened.what.run, [happened])
        self._subscriptions.add(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """The subscriber is gone."""
        self._subscriptions.discard(subscription)

    def _remember(self, run: RunKey, events: Sequence[_Happened]) -> None:
        memory = self._memory.get(run)
        if memory is None:
            memory = self._memory[run] = _Memory(self._run_events)
            if len(self._memory) > self._runs:
                self._memory.popitem(last=False)
        memory.add(events)


def _plain(value: object) -> object:
    """What JSON has no form for: ids are shown as hex."""
    return value.hex() if isinstance(value, bytes) else str(value)
