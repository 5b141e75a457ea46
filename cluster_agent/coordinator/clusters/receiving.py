"""Units that come from other clusters: accepted when offered, executed only after their grant is in our log.

From the offer on the unit is known and held, so that its bytes come once for all of its edges; until the grant its
sender may take it back. While a link is cut a unit may come to be offered by two clusters: by one that has given it to
another since, and by that one. Which of the two is late nobody can tell before one is taken back, or granted; so both
are kept, and each is answered. Each word leaves with the record that makes it true, and is understood when heard twice.
What no disk here has room for is accepted when one has, and stays with its sender until then (see `disks`).
"""

from __future__ import annotations

from collections.abc import Sequence

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import hearsay, remembering
from cluster_agent.coordinator.cache.records import Made
from cluster_agent.coordinator.clusters import records
from cluster_agent.coordinator.clusters.ways import ACCEPTED, HERE, OURS, Incoming, Rival
from cluster_agent.coordinator.fragment import Edge
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import Place
from cluster_agent.coordinator.space import disks, quotas
from cluster_agent.coordinator.state import Unit
from cluster_agent.coordinator.tasks import broadcasting
from cluster_agent.coordinator.units import fetching, mending
from cluster_agent.coordinator.units.freeing import drop_use
from cluster_agent.coordinator.units.infos import info_of
from cluster_agent.orders.messages import Output


def on_offer(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Offer) -> None:
    """Another cluster has a unit for a step that we may execute."""
    edge = live.graph.edge_by_id.get(message.edge)
    if edge is None or not edge.consumer.here:
        reply = peer_pb2.PeerMessage.FromString(live.header)
        reply.decline.edge = message.edge
        reply.decline.unit = message.unit.id
        reply.decline.reason = f"{book.cluster} does not execute that step"
        book.say(live, cluster, reply.SerializeToString())
        return
    unit = message.unit
    known = live.run.units.get(unit.id)
    if known is not None and edge.index in known.released:
        return  # its sender said where it is before it heard that we are done with it
    info = info_of(unit)
    at = message.location
    place = Place(at.cluster, at.node, at.address, at.server_name, at.place)
    incoming = live.run.incoming.get(unit.id)
    state = incoming.edges.get(edge.index) if incoming is not None else None
    if incoming is not None and state in (OURS, HERE) and incoming.sender(edge.index) != cluster:
        return  # it was granted by another cluster since
    others = known is not None and known.digest != info.digest
    placed = incoming is not None and not incoming.place.known and place.known
    book.commit(records.OfferTaken(live.key, edge.index, info, cluster, place, message.forwarded, _made(message)))
    if state is None and not (_next(live, edge) and _has_place(book, live, edge, live.run.units[unit.id])):
        book.commit(records.OfferHeld(live.key, edge.index, unit.id, held=True))
    elif state is None or state == ACCEPTED:
        if edge.index not in live.run.incoming[unit.id].held:
            _accept(book, live, edge, live.run.units[unit.id], [cluster])
    elif state == OURS or not live.run.units[unit.id].copies:
        mending.found_again(book, live, live.run.units[unit.id], anew=others or placed)


def _made(message: peer_pb2.Offer) -> Made | None:
    if not message.HasField("made"):
        return None
    outputs = tuple(Output(each.port, each.index, info_of(each.unit)) for each in message.made.outputs)
    return Made(message.made.contents, outputs, message.made.first, message.made.count)


def _next(live: LiveRun, edge: Edge) -> bool:
    """Nothing that was offered before waits; but what is read beside others overtakes those: they wait for it."""
    return edge.side or not live.unanswered


def _has_place(book: Book, live: LiveRun, edge: Edge, unit: Unit) -> bool:
    if unit.copies or (live.key, unit.id) in book.awaited or live.run.incoming[unit.id].node:
        return True  # its bytes are here, or come for another edge
    return quotas.takes_in(book, live, edge, unit) and disks.takes_in(book, live, edge, unit.size)


def _accept(book: Book, live: LiveRun, edge: Edge, unit: Unit, clusters: Sequence[str]) -> None:
    """Tell these clusters, which offer a unit, that it may come."""
    incoming = live.run.incoming[unit.id]
    if not incoming.node and not unit.copies:
        book.awaited[live.key, unit.id] = unit.size
    reply = peer_pb2.PeerMessage.FromString(live.header)
    reply.accept.edge = edge.id
    reply.accept.unit = unit.id
    for cluster in clusters:
        book.say(live, cluster, reply.SerializeToString())


def answer_all(book: Book) -> None:
    """At the end of a batch: accept what has a place now."""
    for key, live in list(book.asked.items()):
        _answer(book, live)
        if not live.unanswered:
            del book.asked[key]


def _answer(book: Book, live: LiveRun) -> None:
    """Accept what is offered and was not answered, as far as disks have room for it now; in the order of the offers."""
    blocked = False
    for index, unit_id in list(live.unanswered):
        edge = live.graph.edges[index]
        if (edge.side or not blocked) and _has_place(book, live, edge, live.run.units[unit_id]):
            book.commit(records.OfferHeld(live.key, index, unit_id, held=False))
            incoming = live.run.incoming[unit_id]
            offering = [incoming.sender(index), *incoming.rivals.get(index, ())]
            _accept(book, live, edge, live.run.units[unit_id], offering)
        elif not edge.side:
            blocked = True


def resume(book: Book, live: LiveRun) -> None:
    """After a restart: what waits for an answer does so still, and what was accepted may come."""
    for unit, incoming in live.run.incoming.items() if live.going else ():
        for edge in incoming.held:
            _note_held(book, live, edge, unit)
        if len(incoming.held) < len(incoming.edges) and not (incoming.node or live.run.units[unit].copies):
            book.awaited[live.key, unit] = live.run.units[unit].size


def _note_held(book: Book, live: LiveRun, edge: int, unit: bytes) -> None:
    live.unanswered[edge, unit] = None
    book.asked[live.key] = live


def on_grant(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Grant) -> None:
    """The unit is ours."""
    edge = live.graph.edge_by_id.get(message.edge)
    incoming = live.run.incoming.get(message.unit)
    if edge is None or incoming is None or incoming.edges.get(edge.index) != ACCEPTED:
        return
    book.commit(records.GrantTaken(live.key, edge.index, message.unit, cluster))
    reply = peer_pb2.PeerMessage.FromString(live.header)
    reply.granted.edge = message.edge
    reply.granted.unit = message.unit
    book.say(live, cluster, reply.SerializeToString())
    unit = live.run.units[message.unit]
    if edge is edge.consumer.driving:
        fetching.bring_copies(book, live, edge.consumer)
    incoming = live.run.incoming.get(message.unit)
    if incoming is not None and OURS in incoming.edges.values():
        fetching.cross(book, live, unit)
    book.publish(
        live, "unit.received", edge.consumer.name, b"", {"unit": unit.id.hex(), "from": cluster, "size": unit.size}
    )


def on_withdraw(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Withdraw) -> None:
    """The other cluster takes its offer back."""
    edge = live.graph.edge_by_id.get(message.edge)
    incoming = live.run.incoming.get(message.unit)
    if edge is None or incoming is None or incoming.edges.get(edge.index) != ACCEPTED:
        return
    if cluster == incoming.sender(edge.index) or cluster in incoming.rivals.get(edge.index, ()):
        book.commit(records.OfferDropped(live.key, edge.index, message.unit, cluster))


def say_released(book: Book, live: LiveRun) -> None:
    """Tell the senders which of their units we are done with."""
    for cluster, edge, unit in live.released:
        message = peer_pb2.PeerMessage.FromString(live.header)
        message.released.edge = live.graph.edges[edge].id
        message.released.unit = unit
        book.say(live, cluster, message.SerializeToString())
    live.released.clear()


def apply_offer_taken(book: Book, record: records.OfferTaken) -> None:
    """See records."""
    live = book.lives[record.run]
    info = record.unit
    unit = live.run.units.get(info.id)
    if unit is None:
        unit = Unit(
            info.id, info.digest, info.size, info.task, info.origin, info.generation, info.name, 0, [], record.cluster
        )
        unit.lineage = info.lineage
        unit.order = info.order
        live.run.units[info.id] = unit
        if live.run.known:
            remembering.offered(book, live, unit)
    elif not unit.copies:
        unit.digest, unit.size, unit.generation = info.digest, info.size, info.generation
    incoming = live.run.incoming.get(info.id)
    if record.made is not None:
        hearsay.heard(live, info.task, record.made)
    if incoming is None:
        incoming = live.run.incoming[info.id] = Incoming(record.cluster, record.place, {})
        unit.sender = record.cluster
    elif incoming.edges.get(record.edge) == ACCEPTED and record.cluster != incoming.sender(record.edge):
        incoming.rivals.setdefault(record.edge, {})[record.cluster] = Rival(record.place, record.forwarded)
        return
    incoming.place = record.place
    if record.edge not in incoming.edges:
        incoming.edges[record.edge] = ACCEPTED
        unit.uses += 1
        if record.cluster != incoming.cluster:
            incoming.senders[record.edge] = record.cluster
        if record.forwarded:
            incoming.forwarded.append(record.edge)
    book.touch(live)


def apply_offer_held(book: Book, record: records.OfferHeld) -> None:
    """See records."""
    live = book.lives[record.run]
    held = live.run.incoming[record.unit].held
    if record.held:
        held.append(record.edge)
        _note_held(book, live, record.edge, record.unit)
    else:
        _forget_held(live, live.run.incoming[record.unit], record.edge, record.unit)


def _forget_held(live: LiveRun, incoming: Incoming, edge: int, unit: bytes) -> None:
    """An offer waits for its answer no more, if it did."""
    if edge in incoming.held:
        incoming.held.remove(edge)
        live.unanswered.pop((edge, unit), None)


def apply_offer_dropped(book: Book, record: records.OfferDropped) -> None:
    """See records."""
    live = book.lives[record.run]
    incoming = live.run.incoming[record.unit]
    rivals = incoming.rivals.get(record.edge, {})
    if record.cluster in rivals:
        incoming.drop_rival(record.edge, record.cluster)
        return
    if rivals:
        incoming.turn_to(record.edge, next(iter(rivals)))
        return
    del incoming.edges[record.edge]
    _forget_held(live, incoming, record.edge, record.unit)
    if not incoming.edges:
        del live.run.incoming[record.unit]
        book.awaited.pop((live.key, record.unit), None)
    drop_use(book, live, live.run.units[record.unit])
    book.touch(live)


def apply_grant_taken(book: Book, record: records.GrantTaken) -> None:
    """See records."""
    live = book.lives[record.run]
    incoming = live.run.incoming[record.unit]
    if record.cluster in incoming.rivals.get(record.edge, {}):
        incoming.turn_to(record.edge, record.cluster)
    incoming.rivals.pop(record.edge, None)
    _forget_held(live, incoming, record.edge, record.unit)  # it was accepted before it was taken back and offered again
    incoming.edges[record.edge] = OURS
    edge = live.graph.edges[record.edge]
    if edge.copied:
        broadcasting.granted(book, live, edge, live.run.units[record.unit])
    fetching.deliver_granted(live, live.run.units[record.unit])
    book.touch(live)
