"""What a node that joins runs and holds, set against what each run believes of it.

Each task that we gave it and that it does not have is tried again; if the daemon is still the same process the word was
lost on the way, and the attempt was never made. Units that it should hold and does not are mended; whatever it has and
should not is stopped and freed; what it was not told is said again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import pushing
from cluster_agent.coordinator.clusters.ways import ACCEPTED
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import NodeJoined, RunKey
from cluster_agent.coordinator.nodes import commands, following
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.space import quotas
from cluster_agent.coordinator.state import ASSIGNED, OPENING, Unit
from cluster_agent.coordinator.tasks import retrying, sources
from cluster_agent.coordinator.units import damage, fetching, mending, rescuing, sharing
from cluster_agent.coordinator.units.records import CopiesLost
from cluster_agent.orders.messages import Failure


@dataclass(slots=True)
class Told:
    """What the node tells of each run."""

    running: dict[RunKey, dict[bytes, int]] = field(default_factory=dict)  # task -> attempt
    units: dict[RunKey, set[bytes]] = field(default_factory=dict)  # whose bytes it has
    fetching: dict[RunKey, set[bytes]] = field(default_factory=dict)  # whose bytes are on their way to it


def told_by(event: NodeJoined) -> Told:
    """Gathered by run."""
    told = Told()
    for run, task, attempt in event.running:
        told.running.setdefault(run, {})[task] = attempt
    for run, unit in event.units:
        told.units.setdefault(run, set()).add(unit)
    for run, unit in event.fetching:
        told.fetching.setdefault(run, set()).add(unit)
    return told


def reconcile(book: Book, live: LiveRun, node: Node, told: Told, *, same_process: bool) -> None:
    """Put right what is believed of the node in one run, and what the node does for it."""
    running = told.running.get(live.key, {})
    here = told.units.get(live.key, set())
    if live.run.swept:
        _check_results(book, live, node, here)
    elif not live.going:
        for task, attempt in running.items():
            book.tell(node.name, commands.cancel(live.key, task, attempt))
        _reconcile_ended(book, live, node, here)
    else:
        following.say_hold(book, live, node.name)
        _reconcile_tasks(book, live, node, running, same_process=same_process)
        _reconcile_units(book, live, node, here)
        _reconcile_fetches(book, live, node, here, told.fetching.get(live.key, set()))
        _say_again(book, live, node)
        quotas.say_windows(book, live, node)
        sharing.bring_missing(book, live)
        mending.drop_needless(book, live)
        book.touch(live)


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
