"""Nodes that come, go and come back: what they run and hold is the truth, and what we believed is put right by it.

A node that is away keeps its tasks for a while, since it mostly comes back with their results. When it joins, what it
tells is set against what each run believes, see `reconciling`. When it stays away, its work goes to others.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import adopting, caching, seeking
from cluster_agent.coordinator.clusters import spilling
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import DiskTold, NodeChanged, NodeJoined, NodeLost, RunKey
from cluster_agent.coordinator.nodes import commands, holding, pooling, reconciling, records
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.space import underway
from cluster_agent.coordinator.tasks import retrying, sources
from cluster_agent.coordinator.units import clearing, fetching, mending, rescuing, sharing
from cluster_agent.coordinator.units.records import FetchPlaced
from cluster_agent.orders.messages import Acks, Failure, Frees
from wire.lines import CACHE

NO_LIMIT: Final = 1 << 62  # bytes of memory of a node that has not told of any


def on_joined(book: Book, event: NodeJoined) -> None:
    """A node daemon is connected."""
    node = book.nodes[event.node]
    pending = _unknown_frees(book, event.node)
    same_process = book.state.incarnations.get(event.node) == event.incarnation
    if not same_process:
        book.commit(records.NodeMet(event.node, event.incarnation))
    _take_over(node, event)
    sharing.joined(node, event.places)
    sharing.tell_places(book)
    clearing.joined(book)
    underway.recount(book, node.name)
    node.works.clear()
    book.slots_known.clear()
    going = [live.graph for live in book.lives.values() if not live.run.swept]
    book.tell(node.name, commands.members(going, every=True))
    holding.node_came(book, node)
    pooling.node_changed(book, event.node)
    told = reconciling.told_by(event)
    cached = {key.namespace: told.units.pop(key) for key in list(told.units) if key.run == CACHE}
    adopting.joined(book, event.node, told.units)
    wanted = {key for key, live in book.lives.items() if not live.run.swept}
    for key in {*told.running, *told.units, *told.fetching, *event.shared} - wanted:
        live = book.lives.get(key)
        kept = [unit for _, unit in live.run.outputs] if live else ()
        book.tell(node.name, commands.end_run(key, kept, away=live.going_away() if live else ()))
    for live in list(book.lives.values()):
        reconciling.reconcile(book, live, node, told, same_process=same_process)
    caching.reconcile(book, node.name, cached)
    for key, unit in pending:
        book.free(event.node, key, unit)


def _take_over(node: Node, event: NodeJoined) -> None:
    """What the node says of itself."""
    node.connected = True
    node.written_off = False
    node.incarnation = event.incarnation
    node.stream = event.stream
    node.cpus, node.memory, node.cordoned = event.cpus, event.memory or NO_LIMIT, event.cordoned
    node.disk_free, node.disk_size = event.disk_free, event.disk_size
    node.place = event.place


def on_changed(book: Book, event: NodeChanged) -> None:
    """A node has other room, or takes no new tasks, or does again. What it has, it goes on with."""
    node = book.nodes[event.node]
    if not node.connected:
        return
    node.cpus, node.memory, node.cordoned = event.cpus, event.memory or NO_LIMIT, event.cordoned
    book.slots_known.clear()
    book.loads.here = None
    if node.cordoned:
        holding.node_gone(book, node)
        spilling.spill_all(book)
    else:
        holding.node_came(book, node)
    for definition in book.pools.definitions():
        pooling.resize(book, definition)
    for live in book.lives.going.values():
        book.touch(live)


def on_disk(book: Book, event: DiskTold) -> None:
    """A node's disk has other room than before."""
    node = book.nodes[event.node]
    if node.connected:
        grew = event.free > node.disk_free
        node.disk_free, node.disk_size = event.free, event.size
        if grew:
            fetching.disk_grew(book, event.node)


def on_lost(book: Book, event: NodeLost) -> None:
    """A node's stream ended."""
    node = book.nodes[event.node]
    if not node.connected or node.incarnation != event.incarnation:
        return
    node.connected = False
    book.acks.pop(event.node, None)  # it repeats its results
    book.orders.pop(event.node, None)  # it is not known to have these tasks when it joins
    node.lost_at = book.now
    book.slots_known.clear()
    sharing.tell_places(book)
    clearing.lost(book, event)
    pooling.node_changed(book, event.node)
    for live in book.lives.values():
        for fetch in live.fetches.values():
            if fetch.source == node.name and not fetch.crossing:
                fetch.said = False
    book.loads.here = None
    seeking.node_gone(book, node.name)
    spilling.spill_all(book)
    book.wake(book.now + book.policy.node_lost_after, "node", event.node, event.incarnation)


def on_lost_due(book: Book, name: str, incarnation: bytes) -> None:
    """A node has been away for so long that its work goes to others."""
    node = book.nodes[name]
    if node.connected or node.written_off or node.incarnation != incarnation:
        return
    if book.now < node.lost_at + book.policy.node_lost_after:
        return  # it was here in between
    node.written_off = True
    holding.node_gone(book, node)
    book.frees.pop(name, None)
    for key, task_id in list(node.tasks):
        live = book.lives[key]
        if live.going:
            failure = Failure("lost", f"node {name} went away")
            retrying.end_attempt(book, live, live.run.tasks[task_id], failure, retrying.BLAMELESS)
    for live in list(book.lives.going.values()):
        sources.give_up_node(book, live, name)
        _refetch_elsewhere(book, live, name)
        mending.mend_without(book, live, name)
        sharing.bring_missing(book, live)
        book.touch(live)
    for live in book.lives.values():
        if not live.going:
            rescuing.bring_missing(book, live)


def _refetch_elsewhere(book: Book, live: LiveRun, name: str) -> None:
    """What was crossing to a node that stays away goes to another."""
    for key, fetch in list(live.fetches.items()):
        if fetch.node == name and not fetch.crossing:
            del live.fetches[key]
    for unit_id, incoming in list(live.run.incoming.items()):
        if incoming.node == name and not live.run.units[unit_id].copies:
            underway.end(book, live, unit_id, name)
            book.commit(FetchPlaced(live.key, unit_id, ""))
            fetching.cross(book, live, live.run.units[unit_id])


def tell_gathered(book: Book) -> None:
    """Say what was gathered for nodes in bulk. Who is not connected hears it when it joins: its results come first."""
    for name in [name for name in book.frees if book.nodes[name].connected]:
        for run, units in book.frees.pop(name).items():
            book.tell(name, Frees(run.namespace, run.run, tuple(units)))
    for name in [name for name in book.acks if book.nodes[name].connected]:
        for run, tasks in book.acks.pop(name).items():
            book.tell(name, Acks(run.namespace, run.run, tuple(tasks)))


def _unknown_frees(book: Book, name: str) -> list[tuple[RunKey, bytes]]:
    """What a node should free that its list of units, set against ours, will not show."""
    waiting = book.frees.pop(name, {})
    return [
        (key, unit)
        for key, units in waiting.items()
        for unit in units
        if key not in book.lives or unit not in book.lives[key].run.units
    ]


def resume(book: Book, live: LiveRun) -> None:
    """After a restart: no node is connected; those that do not come are given up in time."""
    for index in range(len(live.graph.steps)):
        book.stirred[live, index] = None


def apply_met(book: Book, record: records.NodeMet) -> None:
    """See records."""
    book.state.incarnations[record.node] = record.incarnation
