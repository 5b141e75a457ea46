"""What can be decided about leases and watches without a socket or a clock.

`LeaseCore` knows until when a lease is surely ours: etcd counts a lease's time from when it handled the last
keepalive, which is after we sent it, so `sent + time to live`, less a margin for clocks that run apart, always
comes before etcd's own end. `WatchCore` knows from which revision a watch has to go on, and what each response
means, so that a consumer sees every revision once whatever happens to connections and servers in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from control_plane.store.etcd.rpc import etcd_pb2 as rpc


class LeaseCore:
    """Until when one lease is ours. Times are monotonic seconds; losing it is final."""

    def __init__(self, ttl: float, sent: float) -> None:
        """A lease of `ttl` seconds was granted to a request that was sent at `sent`."""
        self._ttl = ttl
        self._ended = False
        self._sent = sent
        self.deadline = 0.0
        self._extend(ttl, sent)

    def _extend(self, ttl: float, sent: float) -> None:
        margin = max(ttl * 0.1, min(0.2, ttl * 0.5))
        self.deadline = max(self.deadline, sent + ttl - margin)

    def sent(self, now: float) -> None:
        """A keepalive goes out now. One at a time: what comes next is its answer, or `unanswered`."""
        self._sent = now

    def answered(self, ttl: float, now: float) -> None:
        """The answer to the keepalive sent last: the time to live in seconds, none left = etcd has ended the lease."""
        if self.lost(now):
            return
        if ttl <= 0:
            self._ended = True
            return
        self._ttl = ttl
        self._extend(ttl, self._sent)

    def end(self) -> None:
        """Given up by us, or known to be gone."""
        self._ended = True

    def lost(self, now: float) -> bool:
        """Whether the lease can no longer be counted on. Once it is, an answer that comes late changes nothing."""
        if now >= self.deadline:
            self._ended = True
        return self._ended

    def next_keepalive(self) -> float:
        """When to send the next keepalive: three of them fit into one life."""
        return self._sent + self._ttl / 3

    def patience(self) -> float:
        """Seconds to wait for the answer before another endpoint is tried."""
        return self._ttl / 6


@dataclass(frozen=True, slots=True)
class Changes:
    """All that happened under the prefix in the revisions after the batch before, up to `revision`, in order."""

    revision: int
    events: tuple[rpc.Event, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Nothing happened under the prefix up to `revision`."""

    revision: int


@dataclass(frozen=True, slots=True)
class Relist:
    """The history needed is gone: only a new list can tell what is."""


@dataclass(frozen=True, slots=True)
class CheckRevision:
    """This member's store is behind what was already delivered: either it lags, or the store has gone back in time."""

    delivered: int


@dataclass(frozen=True, slots=True)
class Reopen:
    """The server has ended this watch for a reason of its own."""

    reason: str


@dataclass(slots=True)
class WatchCore:
    """Where one watch stands. `next` is the first revision whose events were not delivered yet.

    A server that crashes may forget what it has told us and give the same revisions to other writes: before its
    version 3.5.5 a lone etcd acknowledges, and shows, what is not on its disk yet. So a new stream is asked to
    begin with the revision delivered last, and must repeat it word for word.
    """

    next: int
    _last: list[rpc.Event] = field(default_factory=list)  # the events of `next - 1`, if it had some
    _repeat: bool = False  # the stream has yet to repeat them
    _pieces: list[rpc.Event] = field(default_factory=list)

    def opened(self) -> int:
        """A new stream begins; returns the revision to ask it for."""
        self._pieces = []
        self._repeat = bool(self._last)
        return self.next - self._repeat

    def relisted(self, revision: int) -> None:
        """The consumer was given everything as it was at `revision`."""
        self._pieces = []
        self._delivered(revision, [])

    def received(self, response: rpc.WatchResponse) -> Changes | Progress | Relist | CheckRevision | Reopen | None:
        """What a response means. What is returned as changes or progress counts as delivered from here on."""
        if response.compact_revision > 0:
            return Relist()
        if response.canceled:
            return Reopen(response.cancel_reason or "no reason given")
        if response.created:
            behind = response.header.revision < self.next - 1
            return CheckRevision(self.next - 1) if behind else None
        self._pieces += response.events
        if response.fragment:
            return None
        events, self._pieces = self._pieces, []
        if self._repeat:
            if [event for event in events if event.kv.mod_revision < self.next] != self._last:
                return Relist()
            self._repeat = False
        if fresh := [event for event in events if event.kv.mod_revision >= self.next]:
            # Not the header's revision: that of a watch that is catching up is ahead of what it has sent.
            revision = fresh[-1].kv.mod_revision
            self._delivered(revision, [event for event in fresh if event.kv.mod_revision == revision])
            return Changes(revision, tuple(fresh))
        if events or response.header.revision < self.next:
            return None
        self._delivered(response.header.revision, [])
        return Progress(self.next - 1)

    def _delivered(self, revision: int, last: list[rpc.Event]) -> None:
        self.next = revision + 1
        self._last = last
        self._repeat = False
