"""Back-pressure: a step gets no further task while a consumer of its units is far behind.

Far behind is a bound on the units of an edge that were made and not consumed: those that wait or run here, and those
that went to other clusters and were not released, which stand for their queues. So a slow step slows the one before it
down, and that one its own, up the graph and over clusters to the splits. The last steps are never held back, so what
is behind gets on. What makes units that may have been lost and be waited for begins all the same: tasks that were done,
and splits that had begun, whose parts go on as they are made. Such tasks stand first in their step's queue, so that
nothing that is held back is in their way.

Units on the way to a gathering or to a join whose sides are not complete don't count: such a step waits until the
producers of its sides have closed, so holding back what these may depend on would stop the run.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import EACH, Edge, Step
from cluster_agent.coordinator.live import LiveRun


def holds_back(book: Book, live: LiveRun, step: Step) -> bool:
    """Whether the step's tasks must wait for its consumers."""
    most = book.policy.units_ahead
    return any(behind(live, edge) >= most for edges in step.outs.values() for edge in edges)


def stands(book: Book, live: LiveRun, step: Step) -> bool:
    """Whether none of the step's tasks that wait may begin before its consumers get on."""
    queue = live.ready[step.index]
    return not (queue and live.is_awaited(live.run.tasks[queue[0]])) and holds_back(book, live, step)


def behind(live: LiveRun, edge: Edge) -> int:
    """Units of an edge that were made here, or came here, and were not consumed."""
    consumer = edge.consumer
    if edge.pairing != EACH or not consumer.placed:
        return 0
    state = live.run.steps[consumer.index]
    before = [producer for side in consumer.sides for producer in side.producers]
    if before and not state.formed and not all(live.run.steps[producer.index].closed for producer in before):
        return 0
    sent = live.sent
    return state.open + sum(sent.get((cluster, consumer.index), 0) for cluster in consumer.executors)
