"""Tasks that wait here and that another cluster would do sooner go there: they are *spilled*.

It is looked for when another cluster releases units, says that it has less to do, or when nodes of ours go away; and
where a run stands still for a quota. A unit goes on once at most, so that none goes round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import loads, records, telling
from cluster_agent.coordinator.clusters.routing import choose
from cluster_agent.coordinator.clusters.ways import Out
from cluster_agent.coordinator.fragment import Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import PeerLoad
from cluster_agent.coordinator.nodes import tainting
from cluster_agent.coordinator.space import quotas
from cluster_agent.coordinator.state import READY, Task, Unit


def spill(book: Book, live: LiveRun, step: Step) -> None:
    """Hand waiting tasks of the step to other clusters, newest first, as long as the step prefers those."""
    edge = step.driving
    if edge is None or not live.dispatching:
        return
    for task, units, free in _waiting(book, live, step):
        if not free:
            if tainting.begins(book, step):
                return
            continue
        if book.loads.here is not None:  # it is counted among those that wait
            book.loads.here.add(step, -1, loads.service(book, live, step))
        cluster = choose(book, live, edge, units[0].id, sum(unit.size for unit in units))
        if cluster == book.cluster:
            return
        book.commit(records.Spilled(live.key, task.id, cluster))


def spill_bounded(book: Book, live: LiveRun) -> None:
    """Hand on what waits here for a quota: others have quotas of their own, and nobody may say anything meanwhile."""
    for step in live.graph.concerned if live.bounded and live.graph.listeners else ():
        if quotas.hold_back(live, step):
            spill(book, live, step)


def any_may_go(book: Book, live: LiveRun, step: Step) -> bool:
    """Whether any task of the step that waits here may go elsewhere."""
    return any(free for _, _, free in _waiting(book, live, step))


def _waiting(book: Book, live: LiveRun, step: Step) -> Iterator[tuple[Task, list[Unit], bool]]:
    """Tasks that wait here of a step that may be executed elsewhere, newest first: with the units that would go, and
    whether they may. Whoever takes the one away that it was given may go on."""
    edge = step.driving
    if edge is None or not step.free or step.crosses is not None:
        return
    queue = live.ready[step.index]
    left = len(queue)  # not looked at
    while left:
        left -= 1
        task = live.run.tasks[queue[left]]
        units = [live.run.units[unit] for unit in task.inputs[step.drives]]
        yield task, units, _may_go(book, live, edge, task, units)


def _may_go(book: Book, live: LiveRun, edge: Edge, task: Task, units: Sequence[Unit]) -> bool:
    """A unit that was sent here goes on only if we may not execute it, and once at most: so it never goes round.

    A batch goes on only if none of it was sent here, since each of its units might have come from where it would go.
    """
    if task.attempt > live.run.attempts_before or task.remake:
        return False
    if len(units) > 1:
        return all(edge.index not in each.edges for each in map(live.run.incoming.get, (u.id for u in units)) if each)
    (unit,) = units
    incoming = live.run.incoming.get(unit.id)
    if incoming is None or edge.index not in incoming.edges:
        return True
    return not tainting.begins(book, edge.consumer) and edge.index not in incoming.forwarded


def spill_all(book: Book) -> None:
    """Something has changed for all that waits: a peer has less to do, or we have fewer nodes."""
    for live in book.lives.going.values():
        if live.waiting and live.graph.listeners:
            for step in live.graph.concerned:
                if step.free and live.ready[step.index]:
                    spill(book, live, step)


def on_load(book: Book, event: PeerLoad) -> None:
    """A peer says how busy it is. It is answered at once if it waits for nothing but what has ended here."""
    loads.hear(book, event)
    if telling.ended(book, event.cluster):
        telling.tell(book, event.cluster)
    spill_all(book)


def apply_spilled(book: Book, record: records.Spilled) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks.pop(record.task)
    step = live.graph.steps[task.step]
    assert task.state == READY and step.driving is not None
    live.unready(task)
    state = live.run.steps[step.index]
    state.open -= len(task.inputs[step.drives])
    if not state.open:  # what goes elsewhere may have been the last that was waited for here
        live.check.add(step.index)
    for unit in task.inputs[step.drives]:
        live.run.edges[step.driving.index].outs[unit] = Out(record.cluster)
        live.queue_out(record.cluster, step.driving.index, unit)
    book.touch(live)
