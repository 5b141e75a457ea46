"""The coordinator's book: the durable state, what is derived from it, and what this batch wants done.

Each concept's module decides on the book (reads it, commits records) and applies its records to it. Decisions leave as
actions in the order in which they were made; what goes to nodes in bulk (acknowledgements, units to free) is gathered
and said once a batch.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from bdw_fed.v1 import federation_pb2
from cluster_agent.coordinator.actions import (
    Action,
    Append,
    ProgressChanged,
    Publish,
    SendPeer,
    TaskEnd,
    TellNode,
    WakeAt,
)
from cluster_agent.coordinator.cache.shelf import Shelf
from cluster_agent.coordinator.clusters.loads import Loads
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.lives import Lives
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes.claims import Claim
from cluster_agent.coordinator.nodes.node import Nodes
from cluster_agent.coordinator.records import AnyRecord
from cluster_agent.coordinator.state import State
from cluster_agent.coordinator.units.errands import Clearing
from cluster_agent.orders.messages import Downward, Order, Orders
from cluster_agent.pools.core import Autoscaler

_MOST_DOUBLINGS: Final = 30


class Policy(msgspec.Struct, frozen=True):
    """The knobs of a cluster's coordinator; times in seconds."""

    node_lost_after: float = 5.0  # away for so long: its tasks go to other nodes
    settle_after_join: float = 0.05  # results that a node repeats as it comes back may take so long
    withdraw_after: float = 10.0  # an offer that nobody takes for so long goes elsewhere, where there is an elsewhere
    offer_window: int = 256  # offers to a cluster that may be without an answer, for each run
    units_ahead: int = 20_000  # units of an edge that may wait for their consumer before the step that makes them does
    ahead_seconds: float = 0.05  # a node is given work for so long ahead of its room
    ahead_most: int = 256  # but at most so many times its room
    lacking_after: float = 10.0  # a step that no node can hold fails its run after so long
    stuck_after: float = 60.0  # a run that waits for disk fails when nothing was done for so long, and nothing can be
    no_node_after: float = 60.0  # a run on a cluster that never had a node fails after so long
    lost_bound: int = 20  # attempts that ended without the step's fault
    source_attempts: int = 3
    worker_start: float = 0.1  # what the start of a worker is taken to take before one was measured
    failures_kept: int = 20
    early_bytes: int = 16 << 20  # kept of what each peer says of runs whose fragments have not come
    first_backoff: float = 0.2  # of what is not the step's fault: fetches, lost tasks
    most_backoff: float = 30.0
    push_patience: float = 60.0  # a unit that another cluster should push is asked for again; longer each time
    cache_entries: int = 20_000  # results that are kept for other runs, see caching
    cache_bytes: int = 10 << 30
    recall_patience: float = 5.0  # so long others are waited for, whether they know what a lost cluster has done
    publish: bool = True

    def wait(self, tries: int) -> float:
        """Seconds before something is tried again that failed so often, and not by a step's fault."""
        return min(self.most_backoff, self.first_backoff * 2.0 ** min(tries - 1, _MOST_DOUBLINGS))


Timer = tuple[float, int, str, tuple[Any, ...]]
Peer = federation_pb2.PeerDirectory.Peer
Appliers = Mapping[type, Callable[["Book", Any], None]]


class Book:
    """See the module. `appliers` gives for each type of record the function that applies it."""

    def __init__(self, cluster: str, policy: Policy, appliers: Appliers) -> None:
        self.cluster: Final = cluster
        self.policy: Final = policy
        self._appliers: Final = appliers
        self.state = State()
        self.lives = Lives()
        self.nodes = Nodes()
        self.peers: dict[str, Peer] = {}
        self.no_execute: tuple[str, ...] = ()  # taints of this cluster
        self.quotas: dict[str, int] = {}  # namespace -> bytes that its runs may have stored here at once
        self.tainted_since: dict[str, float] = {}  # those, and when we heard of each
        self.claims: dict[RunKey, Claim] = {}  # what runs have reserved, in the order in which they did
        self.early_bytes: dict[str, int] = {}  # cluster -> what is kept of it before fragments come
        self.alone_since: float | None = None  # from when the time without the hub is not in the state yet
        self.room_grew = False  # since the last batch, for claims
        self.pools = Autoscaler(policy.worker_start)
        self.loads = Loads()
        self.shelf = Shelf()
        self.wall_ahead = 0.0  # what the wall clock shows beyond `now`
        self.now = 0.0
        self.actions: list[Action] = []
        self.due: dict[RunKey, LiveRun] = {}  # runs to be settled at the end of the batch
        self.hungry: dict[RunKey, LiveRun] = {}  # runs with tasks that wait for a node
        self.awaited: dict[tuple[RunKey, bytes], int] = {}  # unit that was accepted and has no node yet -> bytes
        self.asked: dict[RunKey, LiveRun] = {}  # runs of which units are offered that have no place here yet
        self.resting: dict[RunKey, LiveRun] = {}  # runs of which others were told that nothing moves here
        self.frees: dict[str, dict[RunKey, list[bytes]]] = {}  # node -> units
        self.unshares: dict[tuple[str, RunKey], list[bytes]] = {}  # shared place, run -> units
        self.clearing: dict[str, Clearing] = {}  # leftover in a shared place -> who is at it
        self.to_clear: dict[str, None] = {}  # leftovers that a node is to be told of, if there is one
        self.acks: dict[str, dict[RunKey, list[tuple[bytes, int]]]] = {}  # node -> (task, attempt)
        self.orders: dict[str, dict[int, list[Order]]] = {}  # node -> number of the work -> orders
        self.works = itertools.count(1)
        self.slots_known: dict[tuple[RunKey, int], float] = {}  # emptied when a node comes or goes
        self.stirred: dict[tuple[LiveRun, int], None] = {}  # steps whose pools have something to see to
        self.pooled: dict[str, Step] = {}  # definition -> a step that uses it
        self.pool_timers: dict[str, float] = {}  # definition -> when it is looked after next
        self._changed: dict[RunKey, None] = {}
        self._timers: list[Timer] = []
        self._timer_count = 0
        self._woken_at: float | None = None

    @property
    def wall(self) -> float:
        """Unix time; decides nothing but how old things are that outlive runs."""
        return self.now + self.wall_ahead

    def commit(self, record: AnyRecord) -> None:
        """Decide: the record goes to the log and changes the state now."""
        self.actions.append(Append(record))
        self._appliers[type(record)](self, record)

    def apply(self, record: AnyRecord) -> None:
        """Change the state by a record, decided now or read from the log."""
        self._appliers[type(record)](self, record)

    def touch(self, live: LiveRun) -> None:
        """The run is looked at when the batch ends."""
        self.due[live.key] = live
        self._changed[live.key] = None

    def note(self, live: LiveRun) -> None:
        """The run's counters changed."""
        self._changed[live.key] = None

    def say(self, live: LiveRun, cluster: str, message: bytes) -> None:
        """Say something of a run to another cluster: a serialised PeerMessage."""
        self.actions.append(SendPeer(cluster, message, live.key))

    def tell(self, node: str, command: bytes | Downward) -> None:
        """Say something to a node, if it is there; what it misses is mended when it joins."""
        known = self.nodes.get(node)
        if known is not None and known.connected:
            if node in self.orders:
                self.tell_orders(node)  # what was said first is heard first
            self.actions.append(TellNode(node, command, known.stream))

    def tell_first(self, node: str, command: bytes) -> None:
        """Say something to a connected node before the orders that were gathered for it."""
        self.actions.append(TellNode(node, command, self.nodes[node].stream))

    def tell_orders(self, node: str) -> None:
        """Say the orders that were gathered for a node."""
        stream = self.nodes[node].stream
        for work, orders in self.orders.pop(node).items():
            self.actions.append(TellNode(node, Orders(work, tuple(orders)), stream))

    def free(self, node: str, run: RunKey, unit: bytes) -> None:
        """A node's copy of a unit is not needed any more."""
        by_run = self.frees.get(node)
        if by_run is None:
            by_run = self.frees[node] = {}
        units = by_run.get(run)
        if units is None:
            units = by_run[run] = []
        units.append(unit)

    def unshare(self, place: str, run: RunKey, unit: bytes) -> None:
        """The copy of a unit in a shared place is not needed any more."""
        self.unshares.setdefault((place, run), []).append(unit)

    def ack(self, node: str, run: RunKey, attempts: list[tuple[bytes, int]]) -> None:
        """A node need not repeat the results of these attempts of tasks."""
        by_run = self.acks.get(node)
        if by_run is None:
            by_run = self.acks[node] = {}
        by_run.setdefault(run, []).extend(attempts)

    def publish(
        self,
        live: LiveRun,
        kind: str,
        step: str,
        task: bytes,
        details: dict[str, object] | TaskEnd,
        *,
        ago: float = 0.0,
    ) -> None:
        """Put an event of so many seconds ago on the bus, if anybody may listen. See actions.Publish."""
        if self.policy.publish:
            self.actions.append(Publish(live.key, kind, step, task, details, ago))

    def wake(self, due: float, kind: str, *what: Any) -> None:
        """See to it that `kind` is looked after at that time; see core for the kinds."""
        self._timer_count += 1
        heapq.heappush(self._timers, (due, self._timer_count, kind, what))

    def woken(self) -> None:
        """The time that was asked for has come."""
        self._woken_at = None

    def due_timer(self) -> tuple[str, tuple[Any, ...]] | None:
        """Take the next timer whose time has come."""
        if self._timers and self._timers[0][0] <= self.now:
            _, _, kind, what = heapq.heappop(self._timers)
            return kind, what
        return None

    def begin(self, now: float) -> None:
        """A batch starts."""
        self.now = now
        self.actions = []
        self.loads.here = None

    def end(self) -> list[Action]:
        """The batch is over: what it wants done."""
        for key in self._changed:
            if key in self.lives:
                self.actions.append(ProgressChanged(key))
        self._changed.clear()
        if self._timers:
            first = self._timers[0][0]
            if self._woken_at is None or first < self._woken_at:
                self._woken_at = first
                self.actions.append(WakeAt(first))
        actions, self.actions = self.actions, []
        return actions

    def forget_effects(self) -> None:
        """Drop what replayed records wanted said: it was said, or whoever missed it asks."""
        self.frees.clear()
        self.unshares.clear()
        self.to_clear.clear()
        self.acks.clear()
        self.orders.clear()
        self.due.clear()
        self.stirred.clear()
        self.hungry.clear()
        self.asked.clear()
        self.awaited.clear()
        self._changed.clear()
        for live in self.lives.values():
            live.released.clear()
            live.results.clear()
            live.relocated.clear()
