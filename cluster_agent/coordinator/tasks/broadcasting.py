"""Broadcasts: every task of a step reads all units of a port, so each cluster with such tasks gets a copy of each unit.

A copy is no task's: it has no owner, and is not counted as consumed. The cluster that makes a unit owes a copy of it to
each other cluster that may execute the step, and each of these is offered, granted and released as a unit on its way
to a task is, in an `Out` of its own. So it survives what those survive, and its bytes cross once. A cluster that has
no task for the step knows of the copies, but has none of them brought.

They are complete when the step that makes them has closed and all that it has made is here. They are given up when the
step that reads them has closed and makes no task again; a copy that is granted later than that is given up at once, and
until all have been a fragment does not end.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters.ways import Out
from cluster_agent.coordinator.fragment import Edge
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import Unit
from cluster_agent.coordinator.tasks.grouping import deliver, made
from cluster_agent.coordinator.units.freeing import end_use


def spread(live: LiveRun, edge: Edge, unit: Unit) -> None:
    """A unit was made here: it is read here, and a copy is owed to the others. Part of applying a record."""
    state = live.run.edges[edge.index]
    others = [cluster for cluster in edge.consumer.executors if cluster != live.graph.cluster]
    unit.uses += len(others) + edge.consumer.here
    if others:
        state.copies[unit.id] = {cluster: Out(cluster) for cluster in others}
    for cluster in others:
        live.queue_out(cluster, edge.index, unit.id)
    if edge.consumer.here:
        state.came += 1
        deliver(live, edge, unit)


def granted(book: Book, live: LiveRun, edge: Edge, unit: Unit) -> None:
    """A copy is ours. Part of applying a record."""
    live.run.edges[edge.index].came += 1
    if live.run.steps[edge.consumer.index].let_go:
        end_use(book, live, edge, unit)


def owed_to_us(live: LiveRun) -> bool:
    """Whether copies are still to come, of which their makers wait to hear that we need them no more."""
    return any(_to_come(live, edge) for edge in live.graph.broadcasts if edge.consumer.here)


def _to_come(live: LiveRun, edge: Edge) -> bool:
    if not all(live.run.steps[producer.index].closed for producer in edge.producers):
        return True
    return live.run.edges[edge.index].came < made(live, edge).count
