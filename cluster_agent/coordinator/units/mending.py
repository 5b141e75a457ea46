"""Units whose bytes got lost: they are made again from what survives, or the run fails and says what is missing.

A unit that another cluster granted is fetched again from there: it is kept until we release it. One that was made here
is made again by its task, or by opening its part of a source again; where that task's own inputs are gone too, they are
mended first. What another cluster has been told it may free is gone for good. A task that is executed again counts for
nothing: its ids are the same, so only the bytes that were missing are taken from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import offering, pushing
from cluster_agent.coordinator.clusters.ways import ACCEPTED, QUEUED
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.runs.ending import fail
from cluster_agent.coordinator.space import copies
from cluster_agent.coordinator.state import DONE, OPENED, PENDING, READY, Task, Unit
from cluster_agent.coordinator.units import fetching, records, sharing
from cluster_agent.coordinator.units.errands import Fetch
from cluster_agent.coordinator.units.freeing import drop_use, let_go_if_due
from cluster_agent.orders.messages import Failure
from wire.lines import is_second


@dataclass(slots=True)
class _Remedy:
    """What would bring lost units back."""

    tasks: dict[bytes, None] = field(default_factory=dict)
    parts: dict[int, None] = field(default_factory=dict)
    again: list[Unit] = field(default_factory=list)  # to be fetched from the cluster that granted them
    back: list[Unit] = field(default_factory=list)  # to be brought back from a shared place
    hopeless: list[Unit] = field(default_factory=list)


def mend(book: Book, live: LiveRun, units: Iterable[bytes]) -> None:
    """Make units again of which no copy is left, as far as they are needed; fail the run if that can't be."""
    if not live.going:
        return
    known = live.run.units
    wanted = [known[unit] for unit in units if unit in known and known[unit].uses and not known[unit].copies]
    remedy = _remedy(book, live, wanted, lambda unit: bool(unit.copies))
    if not remedy.hopeless:
        _apply_remedy(book, live, remedy)
        return
    unit = remedy.hopeless[0]
    name = unit.name or unit.id.hex()
    where = f"cluster {unit.sender} was told that it may free it" if unit.sender else "what made it is not known"
    message = f"{len(wanted)} units are lost on {book.cluster} with a node's store and cannot be made again: {name} "
    fail(book, live, Failure("lost", f"{message}is needed for that, and {where}"))


def miss(book: Book, live: LiveRun, units: Iterable[bytes]) -> None:
    """Somebody needs units now: make those again that have no copy, unless they are on their way to us."""
    incoming = live.run.incoming
    mend(book, live, [unit for unit in units if unit not in incoming or not live.fetching(unit, incoming[unit].node)])


def mend_without(book: Book, live: LiveRun, away: str) -> None:
    """A node stays away: make again what only it has, where that is possible; else its return is waited for."""
    if not any(node.connected for node in book.nodes.values()):
        return
    for unit in list(live.run.units.values()):
        if away in unit.copies:
            mend_away(book, live, unit)


def mend_away(book: Book, live: LiveRun, unit: Unit) -> None:
    """Make a unit again if only nodes have it that stay away, and it can be."""
    waits = unit.kept and not sharing.reachable(book, unit)
    if not unit.uses or waits or on_nodes(book, unit):
        return
    remedy = _remedy(book, live, [unit], lambda each: on_nodes(book, each))
    if not remedy.hopeless:
        _apply_remedy(book, live, remedy)


def on_nodes(book: Book, unit: Unit) -> bool:
    """Whether a node has the unit that is not given up."""
    return any(not book.nodes[name].written_off for name in unit.copies)


def _remedy(book: Book, live: LiveRun, units: list[Unit], have: Callable[[Unit], bool]) -> _Remedy:
    run = live.run
    remedy = _Remedy()
    seen: set[bytes] = set()
    stack = list(units)
    while stack:
        unit = stack.pop()
        if unit.id in seen or have(unit):
            continue
        seen.add(unit.id)
        incoming = run.incoming.get(unit.id)
        task = run.tasks.get(unit.task)
        if incoming is not None:
            if any(state != ACCEPTED for state in incoming.edges.values()):
                remedy.again.append(unit)
        elif sharing.reachable(book, unit):
            remedy.back.append(unit)
        elif unit.part >= 0:
            if run.parts[unit.part].state == OPENED:
                remedy.parts[unit.part] = None
        elif unit.sender or task is None:
            remedy.hopeless.append(unit)
        elif task.state == DONE and task.id not in remedy.tasks:
            remedy.tasks[task.id] = None
            stack.extend(run.units[needed] for ids in live.inputs(task) for needed in ids)
    return remedy


def _apply_remedy(book: Book, live: LiveRun, remedy: _Remedy) -> None:
    if remedy.tasks or remedy.parts:
        book.commit(records.Remade(live.key, tuple(remedy.tasks), tuple(remedy.parts)))
        live.pending_parts.extend(remedy.parts)
    for unit in remedy.again:
        book.commit(records.FetchPlaced(live.key, unit.id, ""))
        fetching.cross(book, live, unit)
    for unit in remedy.back:
        sharing.bring_back(book, live, unit)


def lose(book: Book, live: LiveRun, node: str, units: list[bytes]) -> None:
    """A node has not got these units, against what we believed."""
    units = [unit for unit in units if node in live.run.units[unit].copies]
    if units:
        book.commit(records.CopiesLost(live.key, node, tuple(units)))
        mend(book, live, units)


def distrust(book: Book, live: LiveRun, task: Task) -> None:
    """A node could not read a task's inputs: it shall look which of them it has."""
    if live.going:
        for ids in live.inputs(task):
            for unit in ids:
                fetching.check(book, live, live.run.units[unit])


def not_there(book: Book, live: LiveRun, unit: Unit, fetch: Fetch) -> None:
    """The other end of a fetch says that it has not got the unit."""
    if not fetch.crossing:
        if is_second(live.key.run):  # it may have yet to hear that it has the unit in this line, too
            fetching.check(book, live, unit)
        else:
            lose(book, live, fetch.source, [unit.id])
        return
    message = peer_pb2.PeerMessage.FromString(live.header)
    message.unavailable.unit = unit.id
    message.unavailable.reason = f"node {live.run.incoming[unit.id].place.node or 'none'} has not got it"
    book.say(live, live.run.incoming[unit.id].cluster, message.SerializeToString())


def on_unavailable(book: Book, live: LiveRun, message: peer_pb2.Unavailable) -> None:
    """A receiver did not find a unit where we said: our nodes look, and it is told where the unit is, or made again."""
    unit = live.run.units.get(message.unit)
    if unit is not None and unit.uses:
        fetching.check(book, live, unit)
        if unit.shared:
            sharing.lose(book, live, unit)
        miss(book, live, [unit.id])


def say_where(book: Book, live: LiveRun, unit: Unit) -> None:
    """Tell receivers that have not released a unit where it is, and push it again where that was asked for."""
    say_where_to(book, live, unit)
    for push in live.run.pushes.get(unit.id, ()):
        if not pushing.must_come(book, push.cluster):
            pushing.say_push(book, live, unit, push.place)


def say_where_to(book: Book, live: LiveRun, unit: Unit, cluster: str = "") -> None:
    """Tell a cluster that has not released a unit where it is; without one all of them."""
    for edge in live.graph.edges:
        for out in live.run.edges[edge.index].ways(unit.id):
            if out.state != QUEUED and cluster in ("", out.cluster):
                offering.say_offer(book, live, out.cluster, edge.index, unit)


def say_relocated(book: Book, live: LiveRun) -> None:
    """Units that had no copy have one again."""
    for unit_id in live.relocated:
        unit = live.run.units[unit_id]
        say_where(book, live, unit)
        for name in book.nodes:
            fetch = live.fetches.get((unit_id, name))
            if fetch is None:
                continue
            if name in unit.copies:
                fetching.arrived(book, live, unit, name, 0, 0.0)
            elif not fetch.said:
                fetching.say(book, live, fetch)
    live.relocated.clear()


def drop_needless(book: Book, live: LiveRun) -> None:
    """A node came back with what was to be made again: tasks that no node has yet need not do it."""
    for queue in live.ready:
        for task_id in list(queue):
            task = live.run.tasks[task_id]
            if task.remake and not any(_missed(live.run.units[unit]) for unit in task.outputs):
                book.commit(records.RemakeDropped(live.key, task_id))


def _missed(unit: Unit) -> bool:
    return bool(unit.uses and not unit.copies)


def found_again(book: Book, live: LiveRun, unit: Unit, *, anew: bool) -> None:
    """Another cluster says where a unit can be had that is ours already; `anew`: we did not know, or it has others."""
    fetch = live.fetches.get((unit.id, live.run.incoming[unit.id].node))
    if fetch is None:
        return
    fetch.gone = False
    if anew or not fetch.said:
        fetching.say(book, live, fetch)


def apply_copies_lost(book: Book, record: records.CopiesLost) -> None:
    """See records."""
    live = book.lives[record.run]
    for unit_id in record.units:
        unit = live.run.units.get(unit_id)
        if unit is None:
            if record.node in live.stock[unit_id].copies:
                copies.take_known(book, live, live.stock[unit_id], record.node)
        elif record.node in unit.copies:
            copies.take(book, live, unit, record.node)
        elif unit.shared == record.node:
            unit.shared = ""
    book.touch(live)


def apply_remake_dropped(book: Book, record: records.RemakeDropped) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks[record.task]
    live.unready(task)
    task.state = DONE
    task.remake = False
    for ids in live.inputs(task):
        for unit in ids:
            drop_use(book, live, live.run.units[unit])
    let_go_if_due(book, live, live.graph.steps[task.step])
    book.touch(live)


def apply_remade(book: Book, record: records.Remade) -> None:
    """See records."""
    live = book.lives[record.run]
    for number in record.parts:
        live.run.parts[number].state = PENDING
    for task_id in record.tasks:
        task = live.run.tasks[task_id]
        task.state = READY
        task.remake = True
        for ids in live.inputs(task):
            for unit in ids:
                live.run.units[unit].uses += 1
        live.make_ready(task)
    book.touch(live)
