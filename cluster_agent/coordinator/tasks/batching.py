"""Batches: a task takes several units of its step's driving port, as many as are wanted or there after a while.

Units wait here, held on their edge, and those that came first go first. A batch is a decision, and logged: its task is
named by its units, so nobody batches them another way. It is made when it is full; when its first unit has waited long
enough, so that a slow producer, or one that is held back, keeps nobody waiting for ever; and when no more can come.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters.ways import HERE
from cluster_agent.coordinator.fragment import Edge, Step
from cluster_agent.coordinator.live import LiveRun, Waiting
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.tasks import grouping, records


def batch_due(book: Book, live: LiveRun, step: Step) -> None:
    """Make the batches of a step that are due."""
    edge = step.driving
    if edge is None or edge.batch is None or (step.sides and not live.run.steps[step.index].formed):
        return
    held = live.run.edges[edge.index].held
    while held:
        waiting = _waiting(live, step, held)
        if not waiting.due:
            waiting.due = book.now + edge.batch.wait
            book.wake(waiting.due, "batch", live.key, step.index)
        if not (_full(edge, len(held), waiting.size) or waiting.due <= book.now or _last(live, edge)):
            return
        book.commit(records.Batched(live.key, step.index, _first(live, edge, held)))


def on_due(book: Book, run: RunKey, index: int) -> None:
    """Units of a step may have waited long enough."""
    live = book.lives.get(run)
    if live is not None and live.going:
        live.check.add(index)
        book.touch(live)


def _waiting(live: LiveRun, step: Step, held: Iterable[bytes]) -> Waiting:
    found = live.batches.get(step.index)
    if found is None:
        found = live.batches[step.index] = Waiting(sum(live.run.units[unit].size for unit in held))
    return found


def _full(edge: Edge, count: int, size: int) -> bool:
    assert edge.batch is not None
    return 0 < edge.batch.count <= count or 0 < edge.batch.size <= size


def _last(live: LiveRun, edge: Edge) -> bool:
    """No more units can come: all are made, and none is on its way here."""
    if not all(live.run.steps[producer.index].closed for producer in edge.producers):
        return False
    return all(incoming.edges.get(edge.index, HERE) == HERE for incoming in live.run.incoming.values())


def _first(live: LiveRun, edge: Edge, held: Iterable[bytes]) -> tuple[bytes, ...]:
    """Those that came first, as many as a task takes."""
    assert edge.batch is not None
    taken: list[bytes] = []
    size = 0
    for unit in held:
        size += live.run.units[unit].size
        if taken and 0 < edge.batch.size < size:
            break
        taken.append(unit)
        if len(taken) == edge.batch.count:
            break
    return tuple(sorted(taken))


def apply_batched(book: Book, record: records.Batched) -> None:
    """See records."""
    live = book.lives[record.run]
    step = live.graph.steps[record.step]
    assert step.driving is not None
    held = live.run.edges[step.driving.index].held
    for unit in record.units:
        del held[unit]
    waiting = live.batches.get(step.index)
    if waiting is not None:  # the others wait from now on
        waiting.size -= sum(live.run.units[unit].size for unit in record.units)
        waiting.due = 0.0
    inputs = [list(record.units) if edge is step.driving else [] for edge in step.inputs]
    live.make_ready(grouping.form(live, step, inputs, grouping.origin_of(live, inputs)))
    book.touch(live)
