"""When a unit's bytes may go: each edge that needs a unit here is a use, and without uses its copies are freed.

A use ends when the task on it has committed; for a side input when its step has closed, and makes nothing again; for a
unit on its way out when the other cluster has released it. The last use of a unit that another cluster granted tells
that cluster, edge by edge. Results of the run are kept: their use never ends.
A task that was recalled without its outputs' bytes (see recalling) may have to be executed after all: its inputs'
uses end when that is done, or with those of its outputs.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters.ways import OURS
from cluster_agent.coordinator.fragment import Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.space import copies
from cluster_agent.coordinator.state import Task, Unit
from cluster_agent.coordinator.units import shared


def end_use(book: Book, live: LiveRun, edge: Edge, unit: Unit) -> None:
    """The consumer on `edge` needs the unit no more. Part of applying a record."""
    if unit.sender:
        incoming = live.run.incoming[unit.id]
        del incoming.edges[edge.index]
        if not incoming.edges:
            del live.run.incoming[unit.id]
            book.awaited.pop((live.key, unit.id), None)
        unit.released += (edge.index,)
        live.released.append((incoming.sender(edge.index), edge.index, unit.id))
    drop_use(book, live, unit)


def drop_use(book: Book, live: LiveRun, unit: Unit) -> None:
    """One use less; the copies go with the last. Part of applying a record."""
    unit.uses -= 1
    if not unit.uses:
        free(book, live, unit)
        if unit.task in live.run.bare:
            let_inputs_go(book, live, live.run.tasks[unit.task])


def let_inputs_go(book: Book, live: LiveRun, task: Task) -> None:
    """A bare task's inputs are needed no more, once none of its outputs is needed and has no bytes."""
    if any(live.run.units[unit].uses and not live.run.units[unit].copies for unit in task.outputs):
        return
    del live.run.bare[task.id]
    for edge, units in zip(live.graph.steps[task.step].inputs, task.inputs, strict=True):
        for unit in units if not edge.side else ():
            end_use(book, live, edge, live.run.units[unit])
    let_go_if_due(book, live, live.graph.steps[task.step])


def let_go_if_due(book: Book, live: LiveRun, step: Step) -> None:
    """Give up what the step reads beside its tasks, once it has closed and none of them is or has to be made again.

    The units stay known, should that be needed later. Part of applying a record.
    """
    state = live.run.steps[step.index]
    if not (step.sides and step.here and state.closed) or state.let_go:
        return
    bare = live.run.bare
    if any(task.step == step.index and (task.remake or task.id in bare) for task in live.run.tasks.values()):
        return
    state.let_go = True
    units = live.run.units
    for edge in step.sides:
        for unit in live.run.edges[edge.index].held:
            end_use(book, live, edge, units[unit])
        if edge.copied:
            pending = [unit for unit, incoming in live.run.incoming.items() if incoming.edges.get(edge.index) == OURS]
            for unit in pending:
                end_use(book, live, edge, units[unit])


def free(book: Book, live: LiveRun, unit: Unit) -> None:
    """Give up all copies of a unit. Part of applying a record."""
    for node in unit.copies:
        book.free(node, live.key, unit.id)
    copies.clear(book, live, unit)
    if unit.shared:
        shared.drop(book, live, unit)
