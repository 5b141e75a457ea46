"""Units that have to meet: those whose names have the same key, those of one lineage, or those made on one cluster.

Each unit's next task is on a cluster that follows from the unit, so whoever makes it sends it there at once, and no
question has to be asked. A key belongs to one of the step's executors by its digest, in proportion to their shares.
Units that are zipped meet where the data lay that they come of, or by the digest of their lineage. What is gathered on
each cluster stays where it was made, or goes to the nearest executor.

    made ─▶ `place` ─▶ there, held ─▶ the step before has closed, and all that was made for us is here ─▶ tasks

Who makes units counts them for each such cluster apart, beside the sums of the port ([produced] of `share`). They are
told and closed with those, so each cluster knows when it has all of its own, whatever is under way elsewhere. How they
are grouped then is logged.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import GROUP, ZIP, Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.runs.ending import fail
from cluster_agent.coordinator.state import Unit
from cluster_agent.coordinator.stored import Sum
from cluster_agent.coordinator.tasks import grouping, records, tracing
from cluster_agent.coordinator.tasks.tracing import Maker
from cluster_agent.orders.messages import Failure, Output

_GRAIN: Final = 1000  # of shares


def place(book: Book, live: LiveRun, edge: Edge, made: Output, maker: Maker) -> str:
    """The cluster where a unit, made here, meets others."""
    executors = edge.consumer.executors
    if edge.pairing == ZIP:
        if edge.together and maker.origin in executors:
            return maker.origin
        return _of_key(edge.consumer, tracing.name(tracing.lineage(live, maker, made.index)))
    if edge.pairing == GROUP:
        return _of_key(edge.consumer, _key(edge, made.unit.name, "") or "")
    if edge.consumer.here:
        return book.cluster

    def away(cluster: str) -> tuple[bool, float, str]:
        peer = book.peers.get(cluster)
        return (peer is None or not peer.reachable, peer.distance if peer is not None else 0.0, cluster)

    return min(executors, key=away)


def _key(edge: Edge, name: str, lineage: str) -> str | None:
    if edge.pairing == ZIP:
        return tracing.name(lineage)
    return edge.keys.key(name) if edge.keys is not None else ""


def _of_key(step: Step, key: str) -> str:
    """The same on every cluster: shares are whole numbers here."""
    weights = [max(1, round(step.shares[cluster] * _GRAIN)) for cluster in step.executors]
    point = int.from_bytes(blake3(key.encode()).digest(length=8), "big") % sum(weights)
    for cluster, weight in zip(step.executors, weights, strict=True):
        point -= weight
        if point < 0:
            return cluster
    raise AssertionError("weights add up")


def share(edge: Edge, cluster: str) -> str:
    """The name under which units are counted that meet on a cluster; no port is called so."""
    return f"{edge.id}@{cluster}"


def form_due(book: Book, live: LiveRun, step: Step) -> None:
    """Form the tasks of a step whose units meet, if all of those that meet here have come."""
    if not (step.meets and step.here) or live.run.steps[step.index].formed:
        return
    if not all(_came(live, edge) for edge in step.meets):
        return
    if not all(grouping.sides_came(book, live, edge) for edge in step.sides):
        return
    groups: dict[str, list[list[bytes]]] = {}
    for position, edge in enumerate(step.inputs):
        for unit in grouping.in_order(live, edge) if edge.meets else ():
            known = live.run.units[unit]
            key = _key(edge, known.name, known.lineage)
            if key is None:
                _fail(book, live, step, _without_key(edge, known))
                return
            groups.setdefault(key, [[] for _ in step.inputs])[position].append(unit)
    if lonely := _lonely(live, step, groups):
        _fail(book, live, step, lonely)
        return
    tasks = tuple(tuple(tuple(units) for units in group) for _, group in sorted(groups.items()))
    book.commit(records.Met(live.key, step.index, tasks))


def _came(live: LiveRun, edge: Edge) -> bool:
    ours = Sum()
    for producer in edge.producers:
        state = live.run.steps[producer.index]
        if not state.closed:
            return False
        ours.include(grouping.total(state.final.get(share(edge, live.graph.cluster), {})))
    return ours == live.run.edges[edge.index].arrived


def _lonely(live: LiveRun, step: Step, groups: dict[str, list[list[bytes]]]) -> str:
    """What is wrong with units that are zipped and are not one of each port; "" if nothing is."""
    zipped = [edge.pairing == ZIP for edge in step.inputs]
    for _, group in sorted(groups.items()):
        counts = {edge.port: len(units) for edge, units, one in zip(step.inputs, group, zipped, strict=True) if one}
        if counts and set(counts.values()) != {1}:
            known = live.run.units[next(unit for units in group for unit in units)]
            found = ", ".join(f"{count} on {port}" for port, count in counts.items())
            return (
                f"the inputs {' and '.join(counts)} of {step.name} are zipped, but of what {known.name or 'a unit'} "
                f"({tracing.name(known.lineage)}) came of there are {found}: each takes one"
            )
    return ""


def _without_key(edge: Edge, unit: Unit) -> str:
    assert edge.keys is not None
    makers = " or ".join(producer.name for producer in edge.producers)
    return (
        f"input {edge.port} of {edge.consumer.name}: the name {unit.name or unit.id.hex()} of a unit that "
        f"{makers} has made has no key by group: {{by: {edge.keys.written!r}}}"
    )


def _fail(book: Book, live: LiveRun, step: Step, message: str) -> None:
    fail(book, live, Failure("value", message), step=step.name)


def apply_met(book: Book, record: records.Met) -> None:
    """See records."""
    live = book.lives[record.run]
    step = live.graph.steps[record.step]
    live.run.steps[step.index].formed = True
    for group in record.groups:
        inputs = [list(units) for units in group]
        live.make_ready(grouping.form(live, step, inputs, grouping.origin_of(live, inputs)))
    live.check.add(step.index)
    book.touch(live)


def count(live: LiveRun, maker: Step, edge: Edge, cluster: str, unit: bytes) -> None:
    """A step has made a unit for a cluster. Part of applying a record."""
    produced: dict[str, Sum] = live.run.steps[maker.index].produced
    grouping.add(produced, share(edge, cluster), unit)
