"""Copies of units in places that several nodes reach: a Redis of the cluster, or a bucket that clusters share.

A node that puts a unit there says so with the task's result, or later. Such a copy is one more source of bytes, asked
before other nodes are, here and in a cluster that reaches the same place. It is never the only promise: a place that
has lost a unit, or is away, is not asked again for it, and the bytes come in the ordinary way. Where no node has a unit
any more, it is brought back from the place instead of being made again.

The copy is deleted when the unit is freed; by whichever node reaches the place. What a crash leaves is swept by all
nodes when the run is over, in the directory of this cluster. Outputs that lie in a bucket then stay there (see
`rescuing` and `clearing`).
"""

from __future__ import annotations

import msgspec

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import FetchEnded, Place, UnitsShared
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.state import Unit
from cluster_agent.coordinator.units import fetching, mending, records, shared
from cluster_agent.coordinator.units.errands import Fetch


def on_shared(book: Book, event: UnitsShared) -> None:
    """A node has put units into a place; those that nobody needs any more are deleted there."""
    live = book.lives.get(event.run)
    units = live.run.units if live is not None and (live.going or shared.lasts(event.place)) else {}
    needed = {unit for unit in event.units if unit in units and units[unit].uses}
    new = tuple(unit for unit in event.units if unit in needed and units[unit].shared != event.place)
    if new:
        book.commit(records.Shared(event.run, event.place, new))
    for unit in event.units:
        if unit not in needed:
            book.unshare(event.place, event.run, unit)


def reachable(book: Book, unit: Unit) -> bool:
    """Whether a unit can be had from its place by all nodes that are there."""
    here = [node for node in book.nodes.values() if node.connected]
    return bool(unit.shared and here) and all(unit.shared in node.places for node in here)


def source(book: Book, live: LiveRun, unit: Unit, fetch: Fetch, place: Place) -> Place:
    """`place`, the node that has the unit, and beside it the shared one that the fetching node is to try before."""
    if fetch.unshared:
        return place
    incoming = live.run.incoming.get(unit.id)
    theirs = incoming.place if incoming is not None else Place("", "")
    reaches = book.nodes[fetch.node].places
    if unit.shared in reaches:
        return msgspec.structs.replace(place, cluster=book.cluster, shared=unit.shared)
    if incoming is not None and theirs.shared in reaches:  # their copy is there until we release the unit
        return msgspec.structs.replace(place, cluster=incoming.cluster, shared=theirs.shared)
    return place


def bring_back(book: Book, live: LiveRun, unit: Unit) -> None:
    """Have a unit that no node has any more brought to one from its place."""
    under_way = [fetch for name in book.nodes if (fetch := live.fetches.get((unit.id, name))) and not fetch.checks]
    if any(fetch.said for fetch in under_way):
        return
    fetch = next((fetch for fetch in under_way if book.nodes[fetch.node].connected), None)
    if fetch is None:
        node = fetching.emptiest(book, unit.size)
        fetch = live.fetches[unit.id, node] = Fetch(unit.id, node)
    fetch.unshared = False  # it lies there anew
    fetching.say(book, live, fetch)


def bring_missing(book: Book, live: LiveRun) -> None:
    """Nodes have come or gone: bring back what only a place has."""
    for unit in live.run.units.values():
        if unit.shared and unit.uses and not mending.on_nodes(book, unit) and reachable(book, unit):
            bring_back(book, live, unit)


def did_not_give(book: Book, live: LiveRun, unit: Unit, fetch: Fetch) -> None:
    """A place was asked for a unit, and did not give it: for this fetch it is not asked again."""
    fetch.unshared = True
    if unit.shared and unit.shared in book.nodes[fetch.node].places:
        lose(book, live, unit)


def lose(book: Book, live: LiveRun, unit: Unit) -> None:
    """The unit's place is not to be relied on for it; what it may have is deleted."""
    book.unshare(unit.shared, live.key, unit.id)
    book.commit(records.CopiesLost(live.key, unit.shared, (unit.id,)))
    if unit.copies:
        mending.mend_away(book, live, unit)
    else:
        mending.mend(book, live, [unit.id])


def publish_taken(book: Book, live: LiveRun, unit: Unit, event: FetchEnded) -> None:
    """Tell that a unit came from a place."""
    data: dict[str, object] = {
        "unit": unit.id,
        "from": "shared",
        "node": event.node,
        "bytes": event.bytes,
        "seconds": event.seconds,
    }
    book.publish(live, "unit.fetched", "", b"", data)


def tell_gathered(book: Book) -> None:
    """Have a node delete what is not needed any more; without one that reaches the place it is swept at the end."""
    for (place, run), units in book.unshares.items():
        node = next((node for node in book.nodes.values() if node.connected and place in node.places), None)
        if node is not None:
            book.tell(node.name, commands.unshare(run, place, units))
    book.unshares.clear()


def tell_places(book: Book) -> None:
    """Tell nodes which of their places others reach, too, where that has changed."""
    here = [node for node in book.nodes.values() if node.connected]
    for node in here:
        others = frozenset().union(*(each.places for each in here if each is not node)) & node.places
        if others != node.told_places:
            node.told_places = others
            book.tell(node.name, commands.shared_places(others))


def joined(node: Node, places: tuple[str, ...]) -> None:
    """The node reaches these, and knows nothing of the others yet."""
    node.places = frozenset(places)
    node.told_places = frozenset()
