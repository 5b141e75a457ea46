"""Which cluster executes a unit's next task, where the plan leaves a choice: the one that is expected to finish first.

Expected finish = moving the bytes + waiting for a slot + execution. For ourselves the queue and the service time are
measured; for another cluster the declared link (or what crossed it so far), our own service time, and the units that we
have sent there and that it has not released; what else it does we don't know and take to be nothing. Ties stay here.
A unit that was decided to stay may be *spilled* later, when another cluster releases units faster than we get on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from cluster_agent.coordinator import records
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import EACH, Edge, Step
from cluster_agent.coordinator.grouping import gathers_here
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import READY, Out
from cluster_agent.orders.messages import Output

_UNMEASURED_SECONDS: Final = 1.0
_UNDECLARED_BANDWIDTH: Final = 10e6
_EXCHANGES: Final = 5  # one-way trips before bytes flow: offer, accept, grant, and a request with its answer
_LOCAL_SLOTS_UNKNOWN: Final = 0.1  # without a node here, waiting is long but not endless


def routes(book: Book, live: LiveRun, step: Step, outputs: Sequence[Output]) -> tuple[tuple[int, int, str], ...]:
    """(position, edge, cluster) for each of the new units in `outputs` whose next task is another cluster's."""
    chosen: list[tuple[int, int, str]] = []
    units = live.run.units
    ahead: dict[tuple[str, int], int] = {}  # decided in this call, and not counted yet
    for position, output in enumerate(outputs):
        for edge in step.outs.get(output.port, ()):
            if _stays(live, edge) or output.unit.id in units:
                continue
            cluster = choose(book, live, edge, output.unit.size, ahead=ahead)
            key = (cluster, edge.index)
            ahead[key] = ahead.get(key, 0) + 1
            if cluster != book.cluster:
                chosen.append((position, edge.index, cluster))
    return tuple(chosen)


def _stays(live: LiveRun, edge: Edge) -> bool:
    consumer = edge.consumer
    if edge.pairing == EACH:
        return consumer.here and (consumer.pinned or len(consumer.executors) == 1)
    if consumer.gathers:
        return gathers_here(live, consumer)
    return True


def choose(
    book: Book,
    live: LiveRun,
    edge: Edge,
    size: int,
    *,
    ahead: dict[tuple[str, int], int] | None = None,
    without: Collection[str] = (),
) -> str:
    """The cluster that is expected to finish a unit's next task first; `without` some that did not want it."""
    step = edge.consumer
    if step.gathers:
        return step.executors[0]
    candidates = [cluster for cluster in step.executors if cluster not in without] or list(step.executors)
    if len(candidates) > 1:
        candidates = [cluster for cluster in candidates if _reachable(book, cluster)] or candidates
    if len(candidates) == 1:
        return candidates[0]
    ahead = ahead or {}
    best = book.cluster if book.cluster in candidates else ""
    best_finish = _finish_here(book, live, step, ahead.get((book.cluster, edge.index), 0)) if best else 0.0
    for cluster in candidates:
        if cluster == book.cluster:
            continue
        finish = _finish_there(book, live, step, cluster, size, ahead.get((cluster, edge.index), 0))
        if not best or finish < best_finish:
            best, best_finish = cluster, finish
    return best


def service_seconds(live: LiveRun, step: Step) -> float:
    """How long a task of the step takes, as measured here; a guess before the first."""
    state = live.run.steps[step.index]
    return state.busy / state.done if state.done else _UNMEASURED_SECONDS


def slots(book: Book, live: LiveRun, step: Step) -> float:
    """How many tasks of the step the connected nodes of this cluster execute at a time."""
    key = (live.key, step.index)
    known = book.slots_known.get(key)
    if known is None:
        known = 0.0
        for node in book.nodes.values():
            if node.connected:
                fit = int(node.cpus / step.cpus + 1e-9)
                if step.memory:
                    fit = min(fit, node.memory // step.memory)
                known += fit
        if step.pool_max:
            known = min(known, step.pool_max)
        book.slots_known[key] = known
    return known


def _finish_here(book: Book, live: LiveRun, step: Step, more: int) -> float:
    queue = len(live.ready[step.index]) + live.assigned[step.index] + more
    return _wait(queue, slots(book, live, step) or _LOCAL_SLOTS_UNKNOWN, service_seconds(live, step))


def _finish_there(book: Book, live: LiveRun, step: Step, cluster: str, size: int, more: int) -> float:
    queue = live.sent.get((cluster, step.index), 0) + more
    waiting = _wait(queue, _slots_there(book, live, step, cluster), service_seconds(live, step))
    silence = live.silent.get(cluster, 0) * book.policy.withdraw_after
    return transfer_seconds(book, live, cluster, size) + waiting + silence


def _wait(queue: int, places: float, service: float) -> float:
    return max(0.0, queue + 1 - places) / places * service


def _slots_there(book: Book, live: LiveRun, step: Step, cluster: str) -> float:
    """The plan's shares say how much stronger it is than we are."""
    theirs, ours = step.shares.get(cluster, 0.0), step.shares.get(book.cluster, 0.0)
    if theirs > 0 and ours > 0:
        return max(1.0, (slots(book, live, step) or 1.0) * theirs / ours)
    return max(1.0, 10.0 * theirs)


def transfer_seconds(book: Book, live: LiveRun, cluster: str, size: int) -> float:
    """How long a unit of `size` bytes takes to another cluster, with the words that precede it."""
    peer = book.peers.get(cluster)
    seen = live.run.traffic.get(cluster)
    bandwidth = peer.bandwidth if peer is not None and peer.bandwidth > 0 else 0.0
    if not bandwidth:
        bandwidth = seen.bytes / seen.seconds if seen is not None and seen.seconds > 0 else _UNDECLARED_BANDWIDTH
    latency = peer.latency if peer is not None else 0.0
    return _EXCHANGES * latency + size / max(bandwidth, 1.0)


def _reachable(book: Book, cluster: str) -> bool:
    if cluster == book.cluster:
        return True
    peer = book.peers.get(cluster)
    return peer.reachable if peer is not None else not book.peers


def spill(book: Book, live: LiveRun, step: Step) -> None:
    """Hand waiting tasks of the step to other clusters, newest first, as long as those would finish them earlier."""
    edge = step.driving
    if edge is None or step.pinned or len(step.executors) == 1 or step.sides or not live.dispatching:
        return
    queue = live.ready[step.index]
    while queue:
        task = live.run.tasks[queue[-1]]
        unit = live.run.units[task.inputs[0][0]]
        if task.attempt > live.run.attempts_before or task.remake or unit.sender:
            return
        cluster = choose(book, live, edge, unit.size)
        if cluster == book.cluster:
            return
        book.commit(records.Spilled(live.key, task.id, cluster))


def apply_spilled(book: Book, record: records.Spilled) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks.pop(record.task)
    step = live.graph.steps[task.step]
    assert task.state == READY and step.driving is not None
    queue = live.ready[step.index]
    if queue and queue[-1] == task.id:
        queue.pop()
        live.waiting -= 1
    else:  # a replayed queue may stand in another order
        live.unready(task)
    live.run.steps[step.index].open -= 1
    unit = task.inputs[0][0]
    live.run.edges[step.driving.index].outs[unit] = Out(record.cluster)
    live.queue_out(record.cluster, step.driving.index, unit)
    book.touch(live)
