"""Quotas: what a run, or a namespace, may have stored on this cluster at once. It is held back as by a full disk.

    the run's own, from its fragment (`policy.quota`) ─┐
    its namespace's, from the hub's directory ─────────┴▶ what is left: a task, a split, an offer begins, or waits

A quota is a disk that is as large as the quota, and that all nodes of the cluster share: the cluster needs no word of
the hub or of others to keep to it. What is stored counts copy by copy (`copies`), also that of outputs of runs that
have ended. Besides there is what was promised: to tasks that nodes were given, to units that other clusters were told
to send, and to splits. A split gets a *window*: so many bytes of its parts may lie on its node, which goes on when some
of them are read, and asks nobody. So a task that reads a part gives nothing back: the next part takes its place.

A disk refuses what it has no room for, a quota does not. So what is left when nothing else is done decides: a task that
gives back what it takes may pass the quota until it is done, and so may one of which nobody knows what it makes. What
is known not to fit waits for ever, until the run is found to be stuck (see `narrow`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bdw_fed.v1 import control_plane_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import OUTPUT, SPLIT, Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.space import footprint
from cluster_agent.coordinator.space.bounds import OFFERS, Quota, Window
from cluster_agent.coordinator.state import ASSIGNED, Task, Unit
from cluster_agent.orders import messages as orders

_KEPT: Final = 4  # halvings: this part of a quota is for tasks that free space, as of a disk
_AMPLE: Final = 2  # and with so much of it left, nobody needs to count
_WINDOW: Final = 2  # no split gets more, so that several may cut at once
_BY_THEMSELVES: Final = 1  # with so much left, and what is ahead, nodes go on by themselves


def of(book: Book, live: LiveRun) -> list[Quota]:
    """The quotas that bound a run here."""
    if not live.graph.quota and not book.quotas:
        return []
    found = [Quota("", live.graph.quota)] if live.graph.quota else []
    if book.quotas and (limit := book.quotas.get(live.key.namespace)) is not None:
        found.append(Quota(live.key.namespace, limit))
    return found


def stored(book: Book, live: LiveRun, quota: Quota) -> int:
    """Bytes that count against a quota and are stored."""
    return book.lives.stored[quota.namespace] if quota.namespace else live.stored


def left(book: Book, live: LiveRun, quota: Quota) -> int:
    """Bytes of a quota that are neither taken nor promised."""
    return quota.limit - stored(book, live, quota) - sum(map(_promised, _bounded(book, live, quota)))


def _bounded(book: Book, live: LiveRun, quota: Quota) -> Iterator[LiveRun]:
    """The runs that may begin something, and that the quota bounds."""
    if not quota.namespace:
        yield live
        return
    for other in book.lives.going.values():
        if other.key.namespace == quota.namespace:
            yield other


def _promised(live: LiveRun) -> int:
    """Bytes that a run was told it may store, and has not stored yet."""
    windows = sum(max(0, window.most - window.stored) for window in live.windows.values())
    return live.promised + windows + sum(_coming(live))


def _coming(live: LiveRun, but: bytes = b"") -> Iterator[int]:
    """The sizes of units that other clusters were told to send, and whose bytes are not here."""
    units = live.run.units
    for identifier, incoming in live.run.incoming.items():
        if len(incoming.held) < len(incoming.edges) and not units[identifier].copies and identifier != but:
            yield units[identifier].size


# ------------------------------------------------------------------------------------------------- what may begin


def able(book: Book, live: LiveRun, step: Step, task: Task, nodes: Sequence[Node]) -> Sequence[Node]:
    """Those of the nodes on which the quotas let a task begin. Where it is none, it is noted which of them does not."""
    if not live.graph.quota and not book.quotas:
        return nodes
    found, quota = _within(book, live, step, task, nodes)
    if quota is not None:
        live.bounded[step.index] = quota
    else:
        live.bounded.pop(step.index, None)
    return found


def admit(book: Book, live: LiveRun, step: Step, task: Task, nodes: Sequence[Node]) -> bool:
    """Whether a task might begin on one of the nodes now, as far as the quotas go."""
    return bool(_within(book, live, step, task, nodes)[0])


def _within(
    book: Book, live: LiveRun, step: Step, task: Task, nodes: Sequence[Node]
) -> tuple[Sequence[Node], Quota | None]:
    """Those of the nodes on which a task may begin; where it is none, the quota that does not let it."""
    found = nodes
    for quota in of(book, live):
        free = left(book, live, quota)
        found = [node for node in found if _admits(book, live, step, task, node, quota, free)]
        if not found:
            return found, quota
    return found, None


def _admits(book: Book, live: LiveRun, step: Step, task: Task, node: Node, quota: Quota, free: int) -> bool:
    part = footprint.part(live, step) if step.kind == SPLIT else 0
    writes = footprint.likely(live, task)
    brought = footprint.brought(live, task, node.name)
    most = writes.most + brought + part  # of a guess much more: nothing stops those who write more
    if most + (quota.limit >> _AMPLE) <= free:
        return True
    if footprint.is_missed(live, task):  # by what is being done, too, which would end only then
        return True
    gives_back = footprint.gives_back(live, task, live.windows)
    fills = part > 0 or writes.expected + brought > gives_back
    kept = keeps(live, step, quota) if fills else 0
    if most + kept <= free:
        return True
    if _is_busy(book, live, quota):
        return False
    if not fills:
        return True
    if footprint.waits_behind(live, task):
        return False
    return writes.certain + part + brought <= quota.limit - stored(book, live, quota)


def hold_back(live: LiveRun, step: Step) -> bool:
    """Whether tasks of the step wait here for a quota."""
    return step.index in live.bounded and bool(live.ready[step.index])


def keeps(live: LiveRun, step: Step, quota: Quota) -> int:
    """Bytes of the quota that a task of the step leaves, if it takes more than it gives back."""
    return footprint.ahead(live, step) + (quota.limit >> _KEPT)


def _is_busy(book: Book, live: LiveRun, quota: Quota, but: bytes = b"") -> bool:
    """Something that the quota bounds is being done, or a unit (not `but`) comes, and may give some of it back."""
    for each in _bounded(book, live, quota):
        if footprint.is_at_work(each) or next(_coming(each, but), None) is not None:
            return True
    return False


def takes_in(book: Book, live: LiveRun, edge: Edge, unit: Unit) -> bool:
    """Whether a unit of another cluster may come, and leaves what it needs here afterwards. Else it stays where it is.

    Where nothing is done here that it could be in the way of, it may come if it fits.
    """
    incoming = live.run.incoming[unit.id]
    counted = 0 if unit.copies or edge.index in incoming.held else unit.size  # among those that come
    for quota in of(book, live):
        free = left(book, live, quota) + counted
        kept = 0
        if not edge.side:
            kept = quota.limit >> _KEPT
            if edge.consumer.kind != OUTPUT:
                kept += footprint.ahead(live, edge.consumer) + footprint.mean(live, edge.consumer, unit.size)
        if unit.size + kept <= free:
            continue
        if unit.size <= free and not live.waiting and not _is_busy(book, live, quota, unit.id):
            continue
        live.bounded[OFFERS] = quota
        return False
    live.bounded.pop(OFFERS, None)
    return True


def goes_by_itself(book: Book, live: LiveRun, step: Step) -> bool:
    """Whether a node may go on by itself behind this step: what comes of that is promised to nobody."""
    for quota in of(book, live):
        ahead = footprint.ahead(live, step) * (sum(live.assigned) + 1)
        if step.kind == SPLIT or left(book, live, quota) - ahead < quota.limit >> _BY_THEMSELVES:
            return False
    return True


def is_short(book: Book, live: LiveRun) -> bool:
    """Whether a run should not get units for which nobody asks: results of caches."""
    return any(left(book, live, quota) < quota.limit >> _AMPLE for quota in of(book, live))


# --------------------------------------------------------------------------------------------------------- windows


def window(book: Book, live: LiveRun, step: Step, task: Task) -> int:
    """How many bytes of its parts a split may have on its node at once: that is promised to it now. 0: any number."""
    known = live.windows.pop(task.id, None)
    bounds = of(book, live)
    if not bounds:
        return 0
    parts = known.stored if known is not None else _parts(live, task)
    most = min(
        min(left(book, live, quota) - keeps(live, step, quota) + parts, quota.limit >> _WINDOW) for quota in bounds
    )
    most = max(most, footprint.part(live, step))  # which it makes whatever it is told, once it has none
    live.windows[task.id] = Window(most, parts)
    return most


def _parts(live: LiveRun, task: Task) -> int:
    return sum(unit.size * len(unit.copies) for unit in live.run.units.values() if unit.task == task.id)


def pauses(live: LiveRun, step: Step, task: Task) -> bool:
    """Whether a split waits for its window, as far as its next part is as large as those that it has made."""
    known = live.windows.get(task.id)
    return known is not None and known.stored > 0 and known.stored + footprint.part(live, step) > known.most


def say_windows(book: Book, live: LiveRun, node: Node) -> None:
    """Tell a node the windows of the run's splits that it has: they are others, or it may not have heard of them."""
    for key, task_id in node.tasks:
        task = live.run.tasks.get(task_id) if key == live.key else None
        if task is None or task.state != ASSIGNED or live.graph.steps[task.step].kind != SPLIT:
            continue
        bounded = task.id in live.windows
        most = window(book, live, live.graph.steps[task.step], task)
        if most or bounded:
            book.tell(node.name, orders.Window(key.namespace, key.run, task.id, task.attempt, most))


def changed(book: Book) -> None:
    """The namespaces' quotas are others than before."""
    for live in book.lives.going.values():
        for node in book.nodes.values():
            say_windows(book, live, node)
        book.touch(live)


def statuses(book: Book) -> list[control_plane_pb2.NamespaceStored]:
    """What is stored of each namespace that has a quota."""
    lives = book.lives
    return [control_plane_pb2.NamespaceStored(namespace=name, bytes=lives.stored[name]) for name in sorted(book.quotas)]


def resume(book: Book, live: LiveRun) -> None:
    """After a restart: what splits may have is promised to them again. Their nodes hear of it when they join."""
    for task in live.run.tasks.values() if live.going and of(book, live) else ():
        if task.state == ASSIGNED and live.graph.steps[task.step].kind == SPLIT:
            window(book, live, live.graph.steps[task.step], task)
