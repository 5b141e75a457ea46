"""Which cluster executes a unit's next task, where the plan leaves a choice.

`estimating` says what is expected of each candidate, and the step's preference which of them gets the unit, see
`expected`. A unit that was decided to stay may be *spilled* later, see `spilling`. Each unit that moves has an event
with the figures that decided it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import remembering
from cluster_agent.coordinator.clusters import loads
from cluster_agent.coordinator.clusters.estimating import estimate
from cluster_agent.coordinator.clusters.expected import FINISH, Expected, preferred
from cluster_agent.coordinator.fragment import EACH, Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.tasks import meeting
from cluster_agent.coordinator.tasks.grouping import gathers_here
from cluster_agent.coordinator.tasks.tracing import Maker
from cluster_agent.orders.messages import Output

_NOBODY: Final[Collection[str]] = ()


def routes(
    book: Book, live: LiveRun, step: Step, outputs: Sequence[Output], maker: Maker, *, ends: bool = False
) -> tuple[tuple[int, int, str], ...]:
    """(position, edge, cluster) for each of the new units in `outputs` whose next task is another cluster's.

    `ends`: the task that made them leaves its worker to the next one.
    """
    chosen: list[tuple[int, int, str]] = []
    units = live.run.units
    ahead: dict[tuple[str, int], int] = {}  # decided in this call, and not counted yet
    for position, output in enumerate(outputs):
        for edge in step.outs.get(output.port, ()):
            if _stays(live, edge) or output.unit.id in units:
                continue
            if ends and edge.consumer.free:
                loads.here(book).leave(step, loads.service(book, live, step))
                ends = False
            if edge.meets:
                cluster = meeting.place(book, live, edge, output, maker)
            else:
                cluster = choose(book, live, edge, output.unit.id, output.unit.size, ahead=ahead)
            key = (cluster, edge.consumer.index)
            ahead[key] = ahead.get(key, 0) + 1
            if cluster != book.cluster:
                chosen.append((position, edge.index, cluster))
    return tuple(chosen)


def _stays(live: LiveRun, edge: Edge) -> bool:
    consumer = edge.consumer
    if edge.pairing == EACH:
        return consumer.here and not consumer.free
    if edge.meets:
        return False
    if consumer.gathers:
        return gathers_here(live, consumer)
    return True


def choose(
    book: Book,
    live: LiveRun,
    edge: Edge,
    unit: bytes,
    size: int,
    *,
    ahead: dict[tuple[str, int], int] | None = None,
    without: Collection[str] = _NOBODY,
) -> str:
    """The cluster that gets a unit's next task; `without` some that did not want it."""
    step = edge.consumer
    if step.gathers:
        return step.executors[0]
    incoming = live.run.incoming.get(unit)
    sender = incoming.sender(edge.index) if incoming is not None and edge.index in incoming.edges else ""
    executors = [cluster for cluster in step.executors if cluster != sender]  # it never goes back
    candidates = [cluster for cluster in executors if cluster not in without] or executors or list(step.executors)
    if len(candidates) > 1:
        candidates = [cluster for cluster in candidates if _reachable(book, cluster)] or candidates
    if len(candidates) == 1:
        return candidates[0]
    if (known_at := remembering.place(book, live, edge, unit)) in candidates:
        return known_at
    ahead = ahead or {}
    found = [estimate(book, live, step, cluster, size, ahead.get((cluster, step.index), 0)) for cluster in candidates]
    best = preferred(step.prefer, book.cluster, found)
    if best.cluster == book.cluster:
        if book.loads.here is not None:
            book.loads.here.add(step, 1, best.execution)
    else:
        loads.sends(book, best.cluster, size)
        _tell(book, live, step, unit, size, best, found)
    return best.cluster


def _reachable(book: Book, cluster: str) -> bool:
    if cluster == book.cluster:
        return True
    peer = book.peers.get(cluster)
    return peer.reachable if peer is not None else not book.peers


def _tell(
    book: Book, live: LiveRun, step: Step, unit: bytes, size: int, best: Expected, found: Sequence[Expected]
) -> None:
    if not book.policy.publish:
        return
    figures = {
        each.cluster: {
            "finish": round(each.finish, 6),
            "transfer": round(each.transfer, 6),
            "queue": round(each.queue, 6),
            "start": round(each.start, 6),
            "execution": round(each.execution, 6),
            "distance": each.distance,
            "load": round(each.load, 3),
            "room": each.room,
        }
        for each in found
    }
    data: dict[str, object] = {
        "unit": unit,
        "size": size,
        "to": best.cluster,
        "prefer": step.prefer or FINISH,
        "expected": figures,
    }
    book.publish(live, "unit.routed", step.name, b"", data)
