"""Units that go to other clusters: offer, accept, grant, granted, released.

The sender owns a unit's next task until it has logged a grant, and may take the offer back until then. Each word leaves
with the record that makes it true, in the durable outbox, and each is understood when heard twice. At most a window's
worth of offers to a cluster is without an answer; all edges of a unit are offered together, so that its bytes need to
cross once.
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import hearsay
from cluster_agent.coordinator.clusters import loads, pushing, records, routing, spilling
from cluster_agent.coordinator.clusters.ways import GRANTED, HEARD, OFFERED, QUEUED, Out
from cluster_agent.coordinator.fragment import Edge
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.state import Unit
from cluster_agent.coordinator.tasks.grouping import deliver
from cluster_agent.coordinator.units.freeing import end_use
from cluster_agent.coordinator.units.infos import unit_proto

_MOST_PATIENT: Final = 6  # doublings


def offer_queued(book: Book, live: LiveRun) -> None:
    """Offer what is queued, as far as each cluster's window allows."""
    for cluster, queue in live.queued.items():
        pending = live.offered.setdefault(cluster, {})
        batch: list[tuple[int, bytes]] = []
        while queue and (
            len(pending) + len(batch) < book.policy.offer_window or (batch and queue[0][1] == batch[-1][1])
        ):
            batch.append(queue.popleft())
        if not batch:
            continue
        if cluster not in live.watched:
            live.watched.add(cluster)
            book.wake(book.now + patience(book, live, cluster), "offers", live.key, cluster)
        book.commit(records.Offered(live.key, cluster, tuple(batch)))
        for edge, unit in batch:
            say_offer(book, live, cluster, edge, live.run.units[unit])


def say_offer(book: Book, live: LiveRun, cluster: str, edge: int, unit: Unit) -> None:
    """Offer a unit, or say where one that was granted can be had now."""
    message = peer_pb2.PeerMessage.FromString(live.header)
    offer = message.offer
    offer.edge = live.graph.edges[edge].id
    offer.unit.CopyFrom(unit_proto(unit))
    offer.forwarded = bool(unit.sender)
    if (made := hearsay.told(live, unit, cluster)) is not None:
        offer.made.contents, offer.made.first, offer.made.count = made.contents, made.first, made.count
        for each in made.outputs:
            offer.made.outputs.add(port=each.port, index=each.index, unit=unit_proto(each.unit))
    offer.location.cluster = book.cluster
    name = next((name for name in unit.copies if book.nodes[name].connected), unit.copies[0] if unit.copies else "")
    if name:
        place = book.nodes[name].place
        offer.location.node = name
        offer.location.address = place.address
        offer.location.server_name = place.server_name
    offer.location.place = unit.shared
    book.say(live, cluster, message.SerializeToString())


def _out(live: LiveRun, edge_id: str, unit: bytes, cluster: str) -> tuple[int, Out] | None:
    edge = live.graph.edge_by_id.get(edge_id)
    if edge is None:
        return None
    out = live.run.edges[edge.index].out(unit, cluster)
    return (edge.index, out) if out is not None else None


def on_accept(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Accept) -> None:
    """The other cluster would execute the unit's task: it gets it, unless we have taken the offer back."""
    found = _out(live, message.edge, message.unit, cluster)
    if found is None or found[1].state != OFFERED:
        return
    live.silent.pop(cluster, None)
    since = live.offered.get(cluster, {}).get((found[0], message.unit))
    if since is not None:
        loads.observe_word(book, cluster, book.now - since)
    book.commit(records.GrantGiven(live.key, found[0], message.unit, cluster))
    reply = peer_pb2.PeerMessage.FromString(live.header)
    reply.grant.edge = message.edge
    reply.grant.unit = message.unit
    book.say(live, cluster, reply.SerializeToString())


def _fixed(edge: Edge) -> bool:
    """Its units are for the clusters that they are offered to, and for no others."""
    return edge.side or edge.meets


def on_decline(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Decline) -> None:
    """The other cluster does not want the unit: somebody else gets it."""
    found = _out(live, message.edge, message.unit, cluster)
    if found is None or found[1].state != OFFERED or _fixed(live.graph.edges[found[0]]):
        return
    edge, out = found
    unit = live.run.units[message.unit]
    declined = [*out.declined, cluster]
    other = routing.choose(book, live, live.graph.edges[edge], unit.id, unit.size, without=declined)
    book.commit(records.Rerouted(live.key, edge, unit.id, other, cluster))


def on_granted(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Granted) -> None:
    """The grant is in the other cluster's log."""
    found = _out(live, message.edge, message.unit, cluster)
    if found is not None and found[1].state == GRANTED:
        book.commit(records.GrantHeard(live.key, found[0], message.unit, cluster))


def on_released(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Released) -> None:
    """The other cluster is done with the unit; it may be able to take more."""
    found = _out(live, message.edge, message.unit, cluster)
    if found is None:
        return
    book.commit(records.OutReleased(live.key, found[0], message.unit, cluster))
    spilling.spill(book, live, live.graph.edges[found[0]].consumer)


def on_offers_due(book: Book, run: RunKey, cluster: str) -> None:
    """Take back offers that nobody answered for long, where somebody else may execute the units."""
    live = book.lives.get(run)
    if live is None or not live.going:
        return
    live.watched.discard(cluster)
    pending = live.offered.get(cluster, {})
    wait = patience(book, live, cluster)
    if pending and next(iter(pending.values())) + wait <= book.now:
        live.silent[cluster] = live.silent.get(cluster, 0) + 1
    for (edge_index, unit_id), since in list(pending.items()):
        if since + wait > book.now:
            break
        edge = live.graph.edges[edge_index]
        unit = live.run.units[unit_id]
        other = cluster if _fixed(edge) else routing.choose(book, live, edge, unit_id, unit.size, without=(cluster,))
        if other == cluster:  # nobody else may
            del pending[edge_index, unit_id]
            pending[edge_index, unit_id] = book.now
            continue
        book.commit(records.Rerouted(live.key, edge_index, unit_id, other))
        message = peer_pb2.PeerMessage.FromString(live.header)
        message.withdraw.edge = edge.id
        message.withdraw.unit = unit_id
        book.say(live, cluster, message.SerializeToString())
    if pending:
        live.watched.add(cluster)
        first = next(iter(pending.values()))
        book.wake(first + patience(book, live, cluster), "offers", live.key, cluster)


def patience(book: Book, live: LiveRun, cluster: str) -> float:
    """How long an offer to the cluster may be without an answer: longer each time that none came."""
    return book.policy.withdraw_after * 2.0 ** min(live.silent.get(cluster, 0), _MOST_PATIENT)


def resume(book: Book, live: LiveRun) -> None:
    """After a restart: offers wait anew."""
    for cluster, pending in live.offered.items():
        if pending:
            live.watched.add(cluster)
            book.wake(book.now + book.policy.withdraw_after, "offers", live.key, cluster)


def apply_offered(book: Book, record: records.Offered) -> None:
    """See records."""
    live = book.lives[record.run]
    pending = live.offered.setdefault(record.cluster, {})
    for edge, unit in record.units:
        _known(live, edge, unit, record.cluster).state = OFFERED
        pending[edge, unit] = book.now
        _unqueue(live, record.cluster, edge, unit)
    book.touch(live)


def _unqueue(live: LiveRun, cluster: str, edge: int, unit: bytes) -> None:
    """In a replay the queue still has what was offered, as a rule in front."""
    queue = live.queued.get(cluster)
    if queue and queue[0] == (edge, unit):
        queue.popleft()


def apply_rerouted(book: Book, record: records.Rerouted) -> None:
    """See records."""
    live = book.lives[record.run]
    outs = live.run.edges[record.edge].outs
    out = outs[record.unit]
    live.offered.get(out.cluster, {}).pop((record.edge, record.unit), None)
    live.count_out(out.cluster, record.edge, -1)
    if record.cluster == book.cluster:
        del outs[record.unit]
        deliver(live, live.graph.edges[record.edge], live.run.units[record.unit])
    else:
        declined = [*out.declined, record.declined] if record.declined else out.declined
        outs[record.unit] = Out(record.cluster, QUEUED, declined)
        live.queue_out(record.cluster, record.edge, record.unit)
    book.touch(live)


def apply_grant_given(book: Book, record: records.GrantGiven) -> None:
    """See records."""
    live = book.lives[record.run]
    out = _known(live, record.edge, record.unit, record.cluster)
    out.state = GRANTED
    live.offered.get(out.cluster, {}).pop((record.edge, record.unit), None)
    book.touch(live)


def apply_grant_heard(book: Book, record: records.GrantHeard) -> None:
    """See records."""
    _known(book.lives[record.run], record.edge, record.unit, record.cluster).state = HEARD


def _known(live: LiveRun, edge: int, unit: bytes, cluster: str) -> Out:
    """What a record speaks of."""
    out = live.run.edges[edge].out(unit, cluster)
    assert out is not None
    return out


def apply_out_released(book: Book, record: records.OutReleased) -> None:
    """See records."""
    live = book.lives[record.run]
    out = live.run.edges[record.edge].arrived_at(record.unit, record.cluster)
    if live.graph.replace and not live.graph.edges[record.edge].side:
        live.run.edges[record.edge].went[record.unit] = out.cluster
    live.offered.get(out.cluster, {}).pop((record.edge, record.unit), None)
    live.count_out(out.cluster, record.edge, -1)
    if record.unit in live.run.pushes and not any(each.out(record.unit, out.cluster) for each in live.run.edges):
        pushing.settle(live, record.unit, out.cluster)  # it needs no bytes any more, whatever became of our node's word
    end_use(book, live, live.graph.edges[record.edge], live.run.units[record.unit])
    book.touch(live)
