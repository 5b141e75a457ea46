"""Whose room is whose: claims are placed on nodes, and every placement of a task asks here what it may use.

A run may always use what it holds. What others hold and don't use is not there for it, unless they lend it. An owner
whose slot is lent gets one back when the next task on that node ends: its own task waits first in the node's queue, and
nobody else is given that room meanwhile (`preempting` is quicker).

Where claims are placed is derived, not logged: when a node comes or a claim goes, claims that lack slots get another
chance, in the order in which they came.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import SPLIT, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes.claims import Claim, Hold, StepClaim
from cluster_agent.coordinator.nodes.node import Node
from topology.packing import Room, Taken, Want, take

_ROUNDING: Final = 1e-6  # of processors that became slots

# ------------------------------------------------------------------------------------------------- claims come and go


def add(book: Book, claim: Claim) -> None:
    """A claim comes, in the place of any that the run had. Part of applying a record."""
    _remove(book, claim.run)
    book.claims[claim.run] = claim
    _place(book, claim)


def drop(book: Book, run: RunKey) -> None:
    """A run's claim goes, if it has one. Part of applying a record."""
    if run in book.claims:
        _remove(book, run)
        more_room(book)


def more_room(book: Book) -> None:
    """Room has become free, or a node has come: claims that lack slots may find them."""
    book.room_grew = True
    for claim in book.claims.values():
        if not claim.whole:
            _place(book, claim)


def node_came(book: Book, node: Node) -> None:
    """A node is there, perhaps with less room than when it went."""
    held = Room()
    for hold in node.holds.values():
        held.add(hold.held.cpus, hold.held.memory)
    if not Room(node.cpus, node.memory).fits(held.cpus, held.memory):
        node_gone(book, node)
    more_room(book)


def node_gone(book: Book, node: Node) -> None:
    """A node stays away: what was held there is held elsewhere, as far as there is room."""
    for run in list(node.holds):
        _place(book, book.claims[run])


def found(book: Book, claim: Claim) -> Taken:
    """The slots that a claim can get on the connected nodes beside all other claims."""
    free = {node.name: _unheld(node, claim.run) for node in book.nodes.values() if node.open}
    left = {each.definition: pool_unheld(book, claim.run, each) for each in claim.steps if each.pool_max}
    wanted = []
    for each in claim.steps:
        most = each.want.most
        if each.definition in left:
            most = min(most, left[each.definition])
            left[each.definition] -= most
        wanted.append(Want(each.want.cpus, each.want.memory, most))
    return take(free, wanted)


def is_whole(claim: Claim, taken: Taken) -> bool:
    """Whether that is all that is claimed."""
    slots = zip(claim.steps, taken.slots, strict=True)
    return not taken.lacking and all(len(nodes) == each.want.most for each, nodes in slots)


def _place(book: Book, claim: Claim) -> None:
    taken = found(book, claim)
    for node in book.nodes.values():
        node.holds.pop(claim.run, None)
    besides = [(node, room.cpus, room.memory) for _, node, room in taken.besides]
    for each, nodes in zip(claim.steps, taken.slots, strict=True):
        each.nodes = nodes
        besides += [(node, each.want.cpus, each.want.memory) for node in nodes]
    for name, cpus, memory in besides:
        node = book.nodes[name]
        if claim.run not in node.holds:
            node.holds[claim.run] = Hold(claim.lend, used=_used(book, node, claim.run))
        node.holds[claim.run].held.add(cpus, memory)
    claim.whole = is_whole(claim, taken)


def _remove(book: Book, run: RunKey) -> None:
    if book.claims.pop(run, None) is not None:
        for node in book.nodes.values():
            node.holds.pop(run, None)


def _used(book: Book, node: Node, run: RunKey) -> Room:
    room = Room()
    for key, task in node.tasks:
        if key == run:
            live = book.lives[run]
            step = live.graph.steps[live.run.tasks[task].step]
            if step.kind != SPLIT:
                room.add(step.cpus, step.memory)
    return room


def _unheld(node: Node, run: RunKey) -> Room:
    room = Room(node.cpus, node.memory)
    for owner, hold in node.holds.items():
        if owner != run:
            room.add(-hold.held.cpus, -hold.held.memory)
    return room


def pool_unheld(book: Book, run: RunKey, step: StepClaim) -> int:
    """Workers of a bounded pool that other runs hold no slot for."""
    others = (claim for claim in book.claims.values() if claim.run != run)
    held = sum(len(each.nodes) for claim in others for each in claim.steps if each.definition == step.definition)
    return max(0, step.pool_max - held)


# ------------------------------------------------------------------------------------------------ what a task may use


def owners_first(book: Book) -> Iterable[tuple[RunKey, LiveRun]]:
    """The runs that have tasks to place: who holds slots comes before who might borrow them."""
    hungry = list(book.hungry.items())
    if book.claims:
        hungry.sort(key=lambda item: item[0] not in book.claims)
    return hungry


def may_use(node: Node, run: RunKey, step: Step, depth: int) -> bool:
    """Whether a task of the step may go to a node on which something is held.

    Into the run's own idle room always; else only beside what others hold, leave idle and don't lend. Of what is left,
    the tasks that the node was given may need `depth` times as much.
    """
    own = node.holds.get(run)
    wanted = step.cpus + (node.split_cpus if step.kind == SPLIT else 0.0)
    if own is not None and own.idle.fits(wanted, step.memory):
        return True
    cpus, memory = node.cpus, float(node.memory)
    for owner, hold in node.holds.items():
        if owner != run and not hold.lend:
            cpus -= hold.idle.cpus
            memory -= hold.idle.memory
    needed = Room(node.used_cpus + wanted, node.used_memory + step.memory if step.memory else 0.0)
    return Room(cpus * depth, memory * depth).fits(needed.cpus, needed.memory)


def pool_room(book: Book, live: LiveRun, step: Step) -> float:
    """Tasks of a bounded pool that may be with nodes before the run has to wait; its own slots need not wait."""
    kept = 0
    for claim in book.claims.values():
        owner = book.lives.get(claim.run)
        for each in claim.steps:
            if each.definition != step.definition:
                continue
            idle = len(each.nodes) - (owner.assigned[each.index] if owner is not None else 0)
            if claim.run == live.key and each.index == step.index and idle > 0:
                return math.inf
            if claim.run != live.key and not claim.lend:
                kept += max(0, idle)
    return step.pool_max - kept


# ---------------------------------------------------------------------------------------------------- what is shown


def figures(book: Book, claim: Claim) -> list[tuple[StepClaim, int, int, int]]:
    """For each step its slots here, those that the run uses, and those in which tasks of other runs are."""
    live = book.lives.get(claim.run)
    lent_cpus = sum(_lent(node, claim.run) for node in book.nodes.values() if claim.run in node.holds)
    found = []
    for each in claim.steps:
        slots = len(each.nodes)
        used = min(slots, live.assigned[each.index]) if live is not None and not claim.half else 0
        lent = min(slots - used, math.ceil(lent_cpus / each.want.cpus - _ROUNDING))
        lent_cpus = max(0.0, lent_cpus - lent * each.want.cpus)
        found.append((each, slots, used, lent))
    return found


def _lent(node: Node, run: RunKey) -> float:
    """Processors that the run holds on a node, and that tasks of others need: beyond what nobody holds."""
    nobodys = node.cpus - sum(hold.held.cpus for hold in node.holds.values())
    within = sum(min(hold.held.cpus, hold.used.cpus) for hold in node.holds.values())
    borrowed = min(node.used_cpus, node.cpus) - within - nobodys
    for owner, hold in node.holds.items():
        lent = min(max(0.0, borrowed), hold.idle.cpus)
        if owner == run:
            return lent
        borrowed -= lent
    return 0.0
