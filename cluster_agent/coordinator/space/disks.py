"""Back-pressure by disk: no task that makes a node's store fuller begins where it would take what others need to end.

A node says how many bytes it has left. From these the coordinator takes what it has promised: to tasks that the node
was given, and to units on their way there. A task that gives back at least what it writes begins if it fits. One that
does not leaves besides a sixteenth of the disk, and what its unit needs on its way on here: so the steps behind it,
which free data, always get on. What is held back so holds back what is before it: its inputs stay where they are, on
this cluster and on those that would send more (see `receiving`), up to the splits, which wait in the middle.

Figures are expectations. A task that meets a full disk all the same has used up no attempt: it waits for more room than
it had. And where nothing else is done on a node, what may fit is tried, whatever was expected. What is made again
begins as any other task, since all of it at once would leave no room for what reads it. But as it is waited for,
it is tried though others wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import OUTPUT, SPLIT, Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.space import footprint
from cluster_agent.coordinator.space.bounds import Need
from cluster_agent.coordinator.state import DONE, Task

_KEPT: Final = 4  # halvings: this part of a disk is for tasks that free space
_SURE: Final = 3  # times
_STALE: Final = 16  # a node tells of its disk what differs by more than such a part
_AMPLE: Final = 2  # with so much of it left a node may go on by itself; with no more of it taken, nobody needs to count


def left(book: Book, node: Node) -> int:
    """Bytes of a node's disk that nobody was promised. What was accepted and has no node yet may come to any."""
    return node.disk_free - node.promised - node.fetching - sum(book.awaited.values())


def able(book: Book, live: LiveRun, step: Step, task: Task, nodes: Sequence[Node]) -> list[Node]:
    """Those of the nodes whose disk a task may begin on. Where it is none, the step is noted to be short of that."""
    found = [node for node in nodes if admits(book, live, step, task, node)]
    if found:
        live.short.pop(step.index, None)
    else:
        live.short[step.index] = tuple(sorted(node.name for node in nodes))
        book.note(live)
    return found


def admits(book: Book, live: LiveRun, step: Step, task: Task, node: Node) -> bool:
    """Whether a task may begin on a node, as far as its disk goes."""
    if not node.disk_size:
        return True
    free = left(book, node)
    takes = footprint.takes(live, task, node.name)
    if footprint.promised(live, task, node.name) + node.disk_size - (node.disk_size >> _AMPLE) <= free:
        node.full = False
        return True
    fills = takes > footprint.gives_back(live, task)
    kept = keeps(live, step, node) if fills else 0
    if fills and node.full:
        kept += node.disk_size >> _KEPT  # so that it does not go to and fro at the mark
    if takes + kept <= free:
        if fills:
            node.full = False
        return True
    if fills:
        node.full = True
    return _may_be_tried(live, task, node, fills=fills)


def keeps(live: LiveRun, step: Step, node: Node) -> int:
    """Bytes that a task of the step leaves free on a node, if it makes it fuller."""
    return footprint.ahead(live, step) + (node.disk_size >> _KEPT)


def leaves(book: Book, live: LiveRun, step: Step, node: Node) -> int:
    """Bytes that a split leaves free on its node: while it has less, it waits.

    Those who read its parts have half of the disk at least; but some of what is left now is for the parts.
    """
    if not node.disk_size:
        return 0
    return min(max(keeps(live, step, node), node.disk_size // 2), max(0, left(book, node)) * 3 // 4)


def pauses(live: LiveRun, step: Step, node: Node) -> bool:
    """Whether a split on the node waits for its disk, as far as the node has told and what it was ordered is known."""
    told = live.leaves.get((step.index, node.name), 0)
    return node.connected and node.disk_free - node.disk_free // _STALE < told


def _may_be_tried(live: LiveRun, task: Task, node: Node, *, fills: bool) -> bool:
    """Nothing else is done on the node, and nothing behind this waits for room: the figures may be wrong."""
    if not _is_alone(live, task, node) or (
        fills and (node.fetching or _is_away(live, task) or footprint.is_at_work(live) or _blocks(live, task))
    ):
        return False
    need = live.needs.get(task.id)
    if footprint.is_guess(live, task) or (need is not None and need.alone < _SURE):
        certain = 0
    else:
        certain = footprint.writes(live, task)
    most = node.disk_free + node.disk_free // _STALE
    return certain + footprint.brought(live, task, node.name) <= most


def _blocks(live: LiveRun, task: Task) -> bool:
    """Whether a task that begins may take the room for which others wait; but these wait for what is made again."""
    return not footprint.is_missed(live, task) and footprint.waits_behind(live, task)


def _is_alone(live: LiveRun, task: Task, node: Node) -> bool:
    """Nothing else is done on the node that takes of its disk; splits take none that they must not."""
    others = [key for key, promised in node.tasks.items() if promised and key != (live.key, task.id)]
    return not others or {*others} <= {(live.key, each) for each in footprint.stranded(live)}


def _is_away(live: LiveRun, task: Task) -> bool:
    """Whether others work on units of ours, which then go, or have units for what comes after this and frees space."""
    edges = live.graph.edges
    if any(edges[edge].consumer.index > task.step for edge, _ in live.unanswered):
        return True
    consumers = {edge: edges[edge].consumer for edge, _, _ in live.ways_out()} if live.owed else {}
    return any(all(live.run.steps[each.index].closed for each in step.awaits) for step in consumers.values())


def is_short(book: Book, node: Node) -> bool:
    """Whether a node goes on by itself no more: each of its tasks is asked for."""
    return node.disk_size > 0 and left(book, node) < node.disk_size >> _AMPLE


def all_full(book: Book) -> bool:
    """Whether no node of this cluster takes a task that makes it fuller."""
    nodes = [node for node in book.nodes.values() if node.open]
    return bool(nodes) and all(node.full for node in nodes)


def stays_alone(live: LiveRun, task: Task, node: Node) -> None:
    """The node is not to go on by itself after the task: what was set aside for that is given back."""
    key = live.key, task.id
    promised = footprint.promised(live, task, node.name)
    node.promised += promised - node.tasks[key]
    live.promised += promised - node.tasks[key]
    node.tasks[key] = promised


def fell_short(live: LiveRun, task: Task, node: Node) -> None:
    """A task met a full disk. Said before it leaves its node.

    Among others it is to have twice as much as was expected, but no more than all that there is. Alone it has had that;
    what was told may be old, so it is believed that it needs more when this was so several times.
    """
    before = live.needs.get(task.id)
    alone = _is_alone(live, task, node)
    size = node.disk_free + 1 if alone else min(2 * footprint.writes(live, task), node.disk_free)
    live.needs[task.id] = Need(max(size, 1), (before.alone if before is not None else 0) + alone)


def takes_in(book: Book, live: LiveRun, edge: Edge, size: int) -> bool:
    """Whether a unit of another cluster has a place on some node's disk, and what it needs here afterwards has too.

    What units wait for that are here may have what is kept: they get on by it. Where nothing is done and nothing waits,
    a unit that fits is taken in, whatever is expected to come of it: nothing else would make more room for it.
    """
    nodes = [node for node in book.nodes.values() if node.connected]
    if not nodes:
        return not book.state.incarnations  # those that were here come back, and say how much they have
    if not all(node.disk_size for node in nodes):
        return True
    for node in nodes:
        kept = 0 if edge.side else node.disk_size >> _KEPT
        if not edge.side and edge.consumer.kind != OUTPUT:
            kept += footprint.ahead(live, edge.consumer) + max(size, footprint.mean(live, edge.consumer, 0))
        if size + kept <= left(book, node):
            return True
    return all(_is_idle(book, node) for node in nodes) and any(size <= node.disk_free for node in nodes)


def _is_idle(book: Book, node: Node) -> bool:
    """Nothing is done on the node, comes to it, or waits for it."""
    if node.tasks or node.fetching or book.awaited or any(live.waiting for live in book.lives.going.values()):
        return False
    return all(task.state == DONE for live in book.lives.going.values() for task in live.run.tasks.values())


def words(book: Book, live: LiveRun, step: Step) -> str:
    """What the step's waiting tasks lack, for people; "" for nothing but their turn."""
    names = live.short.get(step.index, ()) if live.ready[step.index] else ()
    nodes = [book.nodes[name] for name in names]
    if step.kind == SPLIT and live.assigned[step.index]:
        nodes += [node for node in book.nodes.values() if node.name not in names and pauses(live, step, node)]
    free = ", ".join(f"{book.cluster}/{node.name} ({in_words(node.disk_free)} free)" for node in nodes)
    return f"disk on {free}" if nodes else ""


def in_words(size: int) -> str:
    """A number of bytes for people, in powers of 1,000.

    >>> in_words(10), in_words(5_250), in_words(1_200_000_000)
    ('10 B', '5.25 KB', '1.2 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} B"
