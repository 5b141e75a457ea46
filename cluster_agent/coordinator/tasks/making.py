"""How units come into being here: a task or a source part made them, and each edge of their port gets its own use.

The consumer on an edge is this cluster, or another by the routes that were decided with the commit. A unit that is
known already was made again, by a retry or because its copies got lost: it gains a copy, and a generation if its
bytes are others now.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters.ways import Out
from cluster_agent.coordinator.fragment import SAME_CLUSTER, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes import following
from cluster_agent.coordinator.space import copies
from cluster_agent.coordinator.state import Unit
from cluster_agent.coordinator.tasks import broadcasting, meeting, tracing
from cluster_agent.coordinator.tasks.grouping import add, deliver
from cluster_agent.coordinator.tasks.tracing import Maker
from cluster_agent.coordinator.units import shared
from cluster_agent.orders.messages import Output

Routes = tuple[tuple[int, int, str], ...]


def make(
    book: Book,
    live: LiveRun,
    step: Step,
    maker: bytes,
    outputs: Sequence[Output],
    routes: Routes,
    by: Maker,
    *,
    node: str,
    part: int = -1,
    followed: tuple[int, ...] = (),
    retried: bool = False,
) -> list[bytes]:
    """Add what `maker` put on its ports; gives the units' ids. Part of applying a record.

    On the edges of `followed` the node has gone on by itself.
    `retried`: other attempts of `maker` were made. No `node`: it was made before the run began again, and who has the
    bytes is told apart.
    """
    elsewhere = {(position, edge): cluster for position, edge, cluster in routes} if routes else None
    units = live.run.units
    state = live.run.steps[step.index]
    made = []
    for position, output in enumerate(outputs):
        info = output.unit
        made.append(info.id)
        unit = units.get(info.id)
        if unit is not None:
            _make_again(book, live, unit, output, node)
            continue
        unit = Unit(info.id, info.digest, info.size, maker, by.origin, 0, info.name, 0, [], "", part)
        if node:
            copies.put(book, live, unit, node)
        if live.graph.zips:
            unit.lineage = tracing.lineage(live, by, output.index)
        if step.ordered:
            unit.order = by.order + tracing.rank(output.index)
        units[info.id] = unit
        if live.strays:
            _free_strays(book, live, unit, node)
        add(state.produced, output.port, info.id)
        state.bytes_out += info.size
        for edge in step.outs.get(output.port, ()):
            cluster = elsewhere.get((position, edge.index)) if elsewhere else None
            if edge.meets:
                meeting.count(live, step, edge, cluster or book.cluster, unit.id)
            if cluster is not None:
                unit.uses += 1
                live.run.edges[edge.index].outs[unit.id] = Out(cluster)
                live.queue_out(cluster, edge.index, unit.id)
            elif edge.copied:
                broadcasting.spread(live, edge, unit)
            elif edge.pairing != SAME_CLUSTER or edge.consumer.here:
                unit.uses += 1
                if edge.index in followed and step.follow.get(output.port) is edge:  # not by another port of the step
                    following.apply(book, live, edge, unit, node)
                elif retried and output.port in step.follow:
                    following.apply_not(live, edge, unit)
                else:
                    deliver(live, edge, unit)
        if not unit.uses and node:
            book.free(node, live.key, unit.id)
            copies.clear(book, live, unit)
        if output.place:
            shared.put(book, live, unit, output.place)
    return made


def _free_strays(book: Book, live: LiveRun, unit: Unit, node: str) -> None:
    """Nodes that have told of a unit before it was known: an attempt that came to nothing has left it there."""
    for name in live.strays.pop(unit.id, ()):
        if name != node:
            book.free(name, live.key, unit.id)


def _make_again(book: Book, live: LiveRun, unit: Unit, output: Output, node: str) -> None:
    """The step may have answered otherwise this time: as long as there are copies elsewhere, those are the unit."""
    info = output.unit
    if info.digest != unit.digest:
        if any(name != node for name in unit.copies):
            if node in unit.copies:
                copies.take(book, live, unit, node)
            book.free(node, live.key, unit.id)
            shared.put(book, live, unit, output.place)
            shared.drop(book, live, unit)  # what lies there now, if anything, is what we don't want
            return
        copies.clear(book, live, unit)
        unit.digest, unit.size = info.digest, info.size
        unit.generation += 1
        shared.drop(book, live, unit)
    arrive(book, live, unit, node)
    if output.place:
        shared.put(book, live, unit, output.place)


def arrive(book: Book, live: LiveRun, unit: Unit, node: str) -> None:
    """A known unit is on a node (too); tasks that waited for any copy go on. Part of applying a record."""
    if not unit.uses:
        book.free(node, live.key, unit.id)
        return
    if live.going and not any(book.nodes[name].connected for name in unit.copies):
        live.relocated.append(unit.id)
    if node not in unit.copies:
        copies.put(book, live, unit, node)
    live.unpark(unit.id)
