"""The coordinator of a cluster: events in, decisions out. Pure; `messages` go in and `actions` come out.

`handle_all` takes a batch of events at one instant, `handle` one event. Each event is given to the module of its
concept, which reads the book, commits records and asks for actions; at the end of the batch follow, once for all of its
events, what the records entail (groups, closings, offers, ends), the dispatch of tasks, and what is gathered for nodes.
A batch is much cheaper than its events one by one: drivers should hand over whatever is ready.

`apply` replays a record of the log. After the last one, `resume` makes the derived state anew and says what may not
have been heard; nodes and peers are mended as they connect. A node's unacknowledged results should be handed over
before its `NodeJoined`, in the same batch or an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from bdw_fed.v1 import control_plane_pb2, model_pb2
from cluster_agent.coordinator import messages, reading, state
from cluster_agent.coordinator.actions import Action
from cluster_agent.coordinator.appliers import APPLIERS
from cluster_agent.coordinator.book import Book, Policy
from cluster_agent.coordinator.cache import caching, seeking, tidying
from cluster_agent.coordinator.clusters import early, offering, peers, pushing, receiving, spilling, telling
from cluster_agent.coordinator.lives import Lives, rebuilt
from cluster_agent.coordinator.messages import Event, RunKey
from cluster_agent.coordinator.nodes import foreseeing, ordering, placement, pooling, presence, tainting
from cluster_agent.coordinator.records import AnyRecord
from cluster_agent.coordinator.runs import alone, assigning, ending, expiring, reporting, reserving, retaining
from cluster_agent.coordinator.space import quotas, stuck
from cluster_agent.coordinator.tasks import batching, closing, deadlines, results, retrying, sources
from cluster_agent.coordinator.units import clearing, damage, fetching, mending, rescuing, sharing

_HANDLERS: Final[Mapping[type, Callable[[Book, Any], None]]] = {
    messages.FragmentAssigned: assigning.on_assigned,
    messages.DesiredChanged: ending.on_desired,
    messages.NodeJoined: presence.on_joined,
    messages.NodeChanged: presence.on_changed,
    messages.DiskTold: presence.on_disk,
    messages.NodeLost: presence.on_lost,
    messages.NodeSaid: results.on_said,
    messages.PoolTold: pooling.on_told,
    messages.SourceRead: sources.on_read,
    messages.FetchEnded: seeking.on_fetch_ended,
    messages.ContentsTaken: seeking.on_taken,
    messages.ClockRead: caching.on_clock,
    messages.ClearAsked: tidying.on_clear,
    messages.UnitsShared: sharing.on_shared,
    messages.UnitsUnshared: clearing.on_unshared,
    messages.UnitsDamaged: damage.on_damaged,
    messages.PushEnded: pushing.on_push_ended,
    messages.PeerSaid: peers.on_said,
    messages.PeerLoad: spilling.on_load,
    messages.PeersKnown: assigning.on_peers,
    messages.HubHeard: alone.on_heard,
    messages.HubGone: alone.on_gone,
}

_TIMERS: Final[Mapping[str, Callable[..., None]]] = {
    "batch": batching.on_due,
    "retry": retrying.on_retry_due,
    "run-time": deadlines.on_run_due,
    "queue": deadlines.on_queue_due,
    "retained": ending.on_retention_due,
    "expiring": expiring.on_due,
    "rescue": rescuing.on_due,
    "clear": clearing.on_due,
    "start": deadlines.on_start_due,
    "part": sources.on_part_due,
    "fetch": fetching.on_due,
    "seek": seeking.on_due,
    "push": pushing.on_push_due,
    "pushed": fetching.on_push_late,
    "offers": offering.on_offers_due,
    "node": presence.on_lost_due,
    "lacking": placement.on_lacking,
    "no-node": placement.on_no_node,
    "stuck": stuck.on_due,
    "pool": pooling.on_due,
    "look": foreseeing.on_due,
    "load": telling.on_due,
    "half": reserving.on_half_due,
    "alone": alone.on_due,
    "tainted": assigning.on_taints,
}


class Coordinator:
    """See the module. `policy` holds the knobs; `cluster` is the name that the topology gives us."""

    def __init__(self, cluster: str, policy: Policy | None = None) -> None:
        self._book = Book(cluster, policy or Policy(), APPLIERS)

    def handle(self, event: Event, now: float) -> list[Action]:
        """What one event entails."""
        return self.handle_all((event,), now)

    def handle_all(self, events: Iterable[Event], now: float) -> list[Action]:
        """What a batch of events entails, in their order."""
        book = self._book
        book.begin(now)
        for event in events:
            if type(event) is messages.Tick:
                book.woken()
            else:
                _HANDLERS[type(event)](book, event)
        while (timer := book.due_timer()) is not None:
            kind, what = timer
            _TIMERS[kind](book, *what)
        return self._settle()

    def apply(self, record: AnyRecord) -> None:
        """Replay a record. `resume` must follow the last one."""
        self._book.apply(record)

    def resume(self, now: float) -> list[Action]:
        """After a restore and a replay: derive what is derived, start the waits, and say what is due."""
        book = self._book
        book.forget_effects()
        book.begin(now)
        book.nodes.clear()
        book.slots_known.clear()
        for live in list(book.lives.values()):
            book.lives.take(rebuilt(live.run, live.graph, book.nodes, now))
        reserving.resume(book)
        alone.resume(book)
        tainting.noted(book)
        caching.trim(book)
        for live in book.lives.values():
            presence.resume(book, live)
            retrying.resume(book, live)
            deadlines.resume(book, live)
            retaining.watch(book, live)
            expiring.resume(book, live)
            offering.resume(book, live)
            receiving.resume(book, live)
            quotas.resume(book, live)
            placement.expect_nodes(book, live)
            stuck.resume(book, live)
            book.touch(live)
        for name in {**book.nodes, **book.state.incarnations}:
            book.nodes[name].lost_at = now
            book.wake(now + book.policy.node_lost_after, "node", name, b"")
        return self._settle()

    def _settle(self) -> list[Action]:
        """Everything that follows at the end of a batch. Dispatch comes last: the rest may free room or make tasks."""
        book = self._book
        while book.due:
            key = next(iter(book.due))
            live = book.due.pop(key)
            closing.check_steps(book, live)
            sources.open_pending(book, live)
            seeking.recall(book, live)
            ending.say_results(book, live)
            receiving.say_released(book, live)
            if live.going:
                mending.say_relocated(book, live)
                offering.offer_queued(book, live)
                ending.end_if_due(book, live)
            if live.waiting:
                book.hungry[key] = live
        receiving.answer_all(book)
        reserving.say_freed(book)
        presence.tell_gathered(book)
        sharing.tell_gathered(book)
        clearing.say(book)
        placement.dispatch(book)
        deadlines.watch_queues(book)
        stuck.watch(book)
        pooling.look_after(book)
        ordering.say_all(book)
        telling.look_after(book)
        return book.end()

    def status(self, run: RunKey) -> model_pb2.FragmentStatus:
        """The run's counters on this cluster; KeyError if we have no such run."""
        return reporting.fragment_status(self._book, self._book.lives[run])

    def run(self, run: RunKey) -> model_pb2.Run:
        """The run as far as it is known here; KeyError if we have no such run."""
        return reporting.run_here(self._book, self._book.lives[run])

    def tasks(self, run: RunKey) -> list[control_plane_pb2.TaskInfo]:
        """Those of the run's tasks that failed, run, or wait longest, at most 100; empty if we have no such run."""
        live = self._book.lives.get(run)
        return reporting.task_infos(self._book, live) if live is not None else []

    def runs(self) -> list[RunKey]:
        """All runs that we have a fragment of."""
        return list(self._book.lives)

    def inventory(self) -> list[tuple[str, str, int, int]]:
        """(namespace, run, epoch, desired) of each fragment that we have, or have answered an order to reserve for."""
        lives = self._book.lives.items()
        ours = [(key.namespace, key.run, live.graph.epoch, live.run.desired) for key, live in lives]
        return ours + reserving.orders(self._book)

    def reserved(self) -> list[control_plane_pb2.HeldSlots]:
        """The slots that runs have reserved here."""
        return reserving.reserved(self._book)

    def measured(self) -> tuple[list[model_pb2.MeasuredLink], list[model_pb2.MeasuredStep]]:
        """What was measured here of the links to this cluster, and of steps' tasks."""
        return telling.measured(self._book)

    def cached(self, namespace: str, step: str) -> list[control_plane_pb2.CachedStep]:
        """What the cache has of a namespace, or of one of its steps."""
        return tidying.kept(self._book, namespace, step)

    def stored(self) -> list[control_plane_pb2.NamespaceStored]:
        """What the runs of each namespace that has a quota have stored here."""
        return quotas.statuses(self._book)

    def pools(self) -> list[control_plane_pb2.PoolStatus]:
        """The pools of warm workers, as they are now."""
        return pooling.statuses(self._book)

    def snapshot(self) -> bytes:
        """The whole durable state; equal states give equal bytes."""
        return state.encode(self._book.state)

    def restore(self, snapshot: bytes) -> None:
        """Take over the durable state of a snapshot, instead of what there was.

        Raises ValueError for a snapshot of a later version, msgspec.DecodeError for bytes that are none.
        """
        book = self._book
        book.state = state.decode(snapshot)
        book.lives = Lives()
        book.nodes.clear()
        for run in book.state.runs.values():
            graph = reading.read(run.fragment, book.cluster)
            book.lives.take(rebuilt(run, graph, book.nodes, book.now))
        assigning.read_directory(book)
        early.derive(book)
        caching.derive(book)
