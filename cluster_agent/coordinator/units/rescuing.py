"""Outputs of ended runs that no node seemed to have any more: from the cluster's bucket, or from a disk that is back.

    no node has an output any more, or only ones that stay away ─▶ one that reaches the bucket is asked
        ─▶ it is there: that node has it from then on; it is not there: the output is lost

No bytes move: the node keeps a reference, and brings them when somebody reads them. A bucket that does not answer is
asked until it does. A node that comes back with what another one has taken over meanwhile drops its own.

A node may also come back with what it was known to have lost: its disk was away for a while, or the power was, and the
disk has forgotten that it dropped what was damaged. So the node is asked to read that, and keeps what is still sound.
"""

from __future__ import annotations

from collections.abc import Collection

from cluster_agent.coordinator.actions import SendHub
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import FetchEnded, RunKey
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.runs.reporting import fragment_status
from cluster_agent.coordinator.state import Unit
from cluster_agent.coordinator.units import fetching, mending, records, shared
from cluster_agent.coordinator.units.errands import Rescue


def bring_missing(book: Book, live: LiveRun) -> None:
    """Nodes have come or gone, or have lost something: have those there take over what only the bucket has."""
    for _, unit_id in live.run.outputs:
        unit = live.run.units[unit_id]
        if shared.lasts(unit.shared) and not mending.on_nodes(book, unit):
            _ask(book, live, unit)


def joined(book: Book, live: LiveRun, node: Node, here: set[bytes]) -> None:
    """A node is there with these units of a fragment that has ended."""
    for unit in live.run.units.values():
        if unit.id not in here or node.name in unit.copies:
            continue
        if mending.on_nodes(book, unit):
            book.free(node.name, live.key, unit.id)
        elif shared.lasts(unit.shared):
            _ask(book, live, unit, node)  # it was asked before, as it seems
        else:
            fetching.look(book, live, unit, node.name)
    for unit_id in [each for each in live.rescues if mending.on_nodes(book, live.run.units[each])]:
        _end(book, live, live.run.units[unit_id])
    bring_missing(book, live)


def on_due(book: Book, run: RunKey, unit: bytes) -> None:
    """The bucket did not answer, and is asked again."""
    live = book.lives.get(run)
    if live is not None and unit in live.rescues:
        bring_missing(book, live)


def _ask(book: Book, live: LiveRun, unit: Unit, node: Node | None = None) -> None:
    """Ask that node to take a unit over; without one the best, unless one is at it."""
    rescue = live.rescues.setdefault(unit.id, Rescue())
    if node is None:
        at_it = book.nodes.get(rescue.node)
        if at_it is not None and at_it.connected and at_it.stream == rescue.stream:
            return
        name = fetching.emptiest(book, 0, unit.shared)
        if not name:
            return
        node = book.nodes[name]
    rescue.node, rescue.stream = node.name, node.stream
    rescue.asked.add(node.name)
    book.tell(node.name, commands.refer(live.key, unit, book.cluster))


def ended(book: Book, live: LiveRun, unit: Unit, event: FetchEnded) -> bool:
    """What became of a fetch; False if it was none of these."""
    rescue = live.rescues.get(unit.id)
    if rescue is None and not shared.lasts(unit.shared) and not mending.on_nodes(book, unit):
        _looked(book, live, unit, event)
        return True
    if rescue is None or rescue.node != event.node:
        return False
    if not event.error:
        for name in [name for name in unit.copies if name != event.node]:
            book.commit(records.CopiesLost(live.key, name, (unit.id,)))
        book.commit(records.Fetched(live.key, unit.id, event.node, "", 0, 0.0))
        _end(book, live, unit)
        tell(book, live, [unit.id], event.node)
    elif event.gone:
        del live.rescues[unit.id]
        forget(book, live, [unit])
        if not unit.copies:
            tell(book, live, [unit.id], event.node)
    else:
        rescue.stream = -1
        rescue.tries += 1
        book.wake(book.now + book.policy.wait(rescue.tries), "rescue", live.key, unit.id)
    return True


def _looked(book: Book, live: LiveRun, unit: Unit, event: FetchEnded) -> None:
    """A node has read what it came back with."""
    if event.error:
        book.free(event.node, live.key, unit.id)
    else:
        book.commit(records.Fetched(live.key, unit.id, event.node, "", 0, 0.0))
        tell(book, live, [unit.id], event.node)


def _end(book: Book, live: LiveRun, unit: Unit) -> None:
    """A node has the unit: others that were asked need not."""
    for name in sorted(live.rescues.pop(unit.id).asked - set(unit.copies)):
        book.free(name, live.key, unit.id)


def forget(book: Book, live: LiveRun, units: list[Unit]) -> None:
    """What the bucket has of these units, if anything, is not what it should be."""
    for unit in units:
        book.unshare(unit.shared, live.key, unit.id)
        book.commit(records.CopiesLost(live.key, unit.shared, (unit.id,)))


def tell(book: Book, live: LiveRun, units: Collection[bytes], node: str) -> None:
    """Tell the hub where results lie now, or that they are lost: because of what was heard of that node."""
    results = [(step, unit) for step, unit in live.run.outputs if unit in units]
    if not results:
        return
    status = fragment_status(book, live, only=results)
    book.actions.append(SendHub("output", status.SerializeToString()))
    for output in status.outputs:
        data: dict[str, object] = {"output": output.name, "unit": output.unit.id, "node": node}
        if output.lost:
            book.publish(live, "output.lost", "", b"", data | {"why": output.lost})
        elif output.node == node:
            book.publish(live, "output.moved", "", b"", data)
