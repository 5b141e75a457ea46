"""Nodes that come, go and come back: what they run and hold is the truth, and what we believed is put right by it.

A node that is away keeps its tasks for a while, since it mostly comes back with their results. When it joins, each task
that we gave it and that it does not have is tried again; if the daemon is still the same process the word was lost on
the way, and the attempt was never made. Units that it should hold and does not are mended; whatever it has and should
not is stopped and freed; what it was not told is said again.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import adopting, caching, seeking
from cluster_agent.coordinator.clusters import pushing, spilling
from cluster_agent.coordinator.clusters.ways import ACCEPTED
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import DiskTold, NodeChanged, NodeJoined, NodeLost, RunKey
from cluster_agent.coordinator.nodes import commands, following, holding, pooling, records
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.space import quotas, underway
from cluster_agent.coordinator.state import ASSIGNED, OPENING, Unit
from cluster_agent.coordinator.tasks import retrying, sources
from cluster_agent.coordinator.units import clearing, damage, fetching, mending, rescuing, sharing
from cluster_agent.coordinator.units.records import CopiesLost, FetchPlaced
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
    node.connected = True
    node.written_off = False
    node.incarnation = event.incarnation
    node.stream = event.stream
    node.cpus, node.memory, node.cordoned = event.cpus, event.memory or NO_LIMIT, event.cordoned
    node.disk_free, node.disk_size = event.disk_free, event.disk_size
    node.place = event.place
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
    running: dict[RunKey, dict[bytes, int]] = {}
    for run, task, attempt in event.running:
        running.setdefault(run, {})[task] = attempt
    units: dict[RunKey, set[bytes]] = {}
    for run, unit in event.units:
        units.setdefault(run, set()).add(unit)
    cached = {key.namespace: units.pop(key) for key in list(units) if key.run == CACHE}
    adopting.joined(book, event.node, units)
    busy: dict[RunKey, set[bytes]] = {}
    for run, unit in event.fetching:
        busy.setdefault(run, set()).add(unit)
    wanted = {key for key, live in book.lives.items() if not live.run.swept}
    for key in {*running, *units, *busy, *event.shared} - wanted:
        live = book.lives.get(key)
        kept = [unit for _, unit in live.run.outputs] if live else ()
        book.tell(node.name, commands.end_run(key, kept, away=live.going_away() if live else ()))
    for live in list(book.lives.values()):
        if live.run.swept:
            _check_results(book, live, node, units.get(live.key, set()))
            continue
        here = units.get(live.key, set())
        if not live.going:
            for task, attempt in running.get(live.key, {}).items():
                book.tell(node.name, commands.cancel(live.key, task, attempt))
            _reconcile_ended(book, live, node, here)
            continue
        following.say_hold(book, live, node.name)
        _reconcile_tasks(book, live, node, running.get(live.key, {}), same_process=same_process)
        _reconcile_units(book, live, node, here)
        _reconcile_fetches(book, live, node, here, busy.get(live.key, set()))
        _say_again(book, live, node)
        quotas.say_windows(book, live, node)
        sharing.bring_missing(book, live)
        mending.drop_needless(book, live)
        book.touch(live)
    caching.reconcile(book, node.name, cached)
    for key, unit in pending:
        book.free(event.node, key, unit)


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


def _reconcile_ended(book: Book, live: LiveRun, node: Node, here: set[bytes]) -> None:
    """The fragment is over, but not yet free of its units: only what is freed or lost matters."""
    for unit in live.run.units.values():
        if unit.id in here and not unit.uses:
            book.free(node.name, live.key, unit.id)
    _check_results(book, live, node, here)


def _check_results(book: Book, live: LiveRun, node: Node, here: set[bytes]) -> None:
    lost = [unit.id for unit in live.run.units.values() if node.name in unit.copies and unit.id not in here]
    if lost:
        damage.lose_results(book, live, node.name, lost)
    rescuing.joined(book, live, node, here)


def _reconcile_tasks(book: Book, live: LiveRun, node: Node, running: dict[bytes, int], *, same_process: bool) -> None:
    """Stop what it should not run; try again what it should run and doesn't."""
    for task_id, attempt in running.items():
        task = live.run.tasks.get(task_id)
        wanted = task is not None and task.state == ASSIGNED and task.node == node.name and task.attempt == attempt
        if not wanted:
            book.tell(node.name, commands.cancel(live.key, task_id, attempt))
    for key, task_id in list(node.tasks):
        if key != live.key:
            continue
        task = live.run.tasks[task_id]
        if running.get(task_id) == task.attempt:
            continue
        if same_process:
            failure = Failure("lost", "the node was not told of the task")
            retrying.end_attempt(book, live, task, failure, retrying.NEVER_MADE)
        else:
            failure = Failure("lost", f"the daemon of node {node.name} was restarted")
            retrying.end_attempt(book, live, task, failure, retrying.BLAMELESS)


def _reconcile_units(book: Book, live: LiveRun, node: Node, here: set[bytes]) -> None:
    """Learn of copies that are gone, and free what is not needed any more."""
    known = live.run.units
    lost = [unit for unit in live.stock if live.stocked(unit, node.name) and unit not in known and unit not in here]
    for unit_id in here - known.keys():
        live.strays.setdefault(unit_id, []).append(node.name)
    for unit in live.run.units.values():
        if node.name in unit.copies:
            if unit.id not in here:
                lost.append(unit.id)
            else:
                live.unpark(unit.id)
        elif unit.id in here and (not unit.uses or not _being_made(live, node, unit.task)):
            if unit.uses and _was_sent_for(live, unit, node):
                fetching.arrived(book, live, unit, node.name, unit.size, 0.0)  # we missed the word
            else:  # also what an attempt that was given up has left: its bytes may be others
                book.free(node.name, live.key, unit.id)
    if lost:
        book.commit(CopiesLost(live.key, node.name, tuple(lost)))
        mending.mend(book, live, lost)


def _was_sent_for(live: LiveRun, unit: Unit, node: Node) -> bool:
    incoming = live.run.incoming.get(unit.id)
    return live.fetching(unit.id, node.name) or (incoming is not None and incoming.node == node.name)


def _being_made(live: LiveRun, node: Node, task: bytes) -> bool:
    known = live.run.tasks.get(task)
    return known is not None and known.state == ASSIGNED and known.node == node.name


def _reconcile_fetches(book: Book, live: LiveRun, node: Node, here: set[bytes], busy: set[bytes]) -> None:
    for fetch in list(live.fetches.values()):
        if fetch.checks:
            if fetch.node == node.name:
                del live.fetches[fetch.unit, fetch.node]  # its list of units has said it
        elif fetch.node == node.name:
            unit = live.run.units[fetch.unit]
            if fetch.unit in here:
                fetching.arrived(book, live, unit, node.name, unit.size, 0.0)
            else:
                fetch.said = fetch.unit in busy
                if not fetch.said:
                    fetching.say(book, live, fetch)
        elif not fetch.crossing and not fetch.said:
            fetching.say(book, live, fetch)  # the node that joined may be the one that has it


def _say_again(book: Book, live: LiveRun, node: Node) -> None:
    for part in live.run.parts:
        if part.state == OPENING and part.node == node.name:
            sources.say_open(book, live, part)
    for unit_id, incoming in list(live.run.incoming.items()):
        unit = live.run.units[unit_id]
        granted = any(state != ACCEPTED for state in incoming.edges.values())
        if granted and not unit.copies and incoming.node in ("", node.name):
            fetching.cross(book, live, unit)  # also if the node is at it: what it knows of the unit may be old
    for unit_id, pushes in live.run.pushes.items():
        unit = live.run.units[unit_id]
        if node.name in unit.copies:
            for push in pushes:
                pushing.say_push(book, live, unit, push.place)


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
