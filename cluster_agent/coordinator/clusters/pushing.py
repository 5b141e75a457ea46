"""Units that a cluster which cannot dial us has granted from us: we push their bytes to the node that it names.

What is wanted where is logged, so that a node which comes back is told again; a push that fails is tried again until
the other cluster releases the unit.
"""

from __future__ import annotations

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import records
from cluster_agent.coordinator.clusters.ways import Push
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import Place, PushEnded, RunKey
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.state import Unit
from cluster_agent.coordinator.units import mending


def on_push_request(book: Book, live: LiveRun, cluster: str, message: peer_pb2.PushRequest) -> None:
    """A cluster that cannot dial us wants the bytes of a unit that we have granted to it."""
    to = message.to
    unit = live.run.units.get(message.unit.id)
    if unit is None or not unit.uses:
        reply = peer_pb2.PeerMessage.FromString(live.header)
        reply.unavailable.unit = message.unit.id
        reply.unavailable.reason = "it was freed, since you had released it"
        book.say(live, cluster, reply.SerializeToString())
        return
    place = Place(cluster, to.node, to.address, to.server_name)
    book.commit(records.PushWanted(live.key, unit.id, cluster, place))
    if message.unit.digest not in (b"", unit.digest):  # it was made again since: it asks anew once it knows
        mending.say_where(book, live, unit)
        return
    say_push(book, live, unit, place)
    mending.miss(book, live, [unit.id])


def say_push(book: Book, live: LiveRun, unit: Unit, place: Place) -> None:
    """Tell a node that has the unit to push it, if one is there; else the first that joins is told.

    Who can dial us, and not be dialled, asks for a push only as long as it does not know where the unit is: we offered
    it before the node that has it was there. It is told.
    """
    node = next((name for name in unit.copies if book.nodes[name].connected), "")
    if not node:
        return
    if must_come(book, place.cluster):
        mending.say_where_to(book, live, unit, place.cluster)
    else:
        book.tell(node, commands.push(live.key, unit, place))


def must_come(book: Book, cluster: str) -> bool:
    """Whether the cluster can dial us, and can't be dialled itself."""
    peer = book.peers.get(cluster)
    return peer is not None and peer.can_be_dialled and not (peer.can_dial or peer.relays)


def on_push_ended(book: Book, event: PushEnded) -> None:
    """A push ended, well or not."""
    live = book.lives.get(event.run)
    if live is None:
        return
    for push in live.run.pushes.get(event.unit, ()):
        if push.place.address != event.address:
            continue
        key = (event.unit, push.cluster)
        if not event.error:
            live.push_tries.pop(key, None)
            book.commit(records.PushSettled(live.key, event.unit, push.cluster))
            return
        if event.gone and live.going:
            mending.lose(book, live, event.node, [event.unit])
        tries = live.push_tries[key] = live.push_tries.get(key, 0) + 1
        book.wake(book.now + book.policy.wait(tries), "push", live.key, event.unit, push.cluster)
        return


def on_push_due(book: Book, run: RunKey, unit: bytes, cluster: str) -> None:
    """A push that failed is to be tried again."""
    live = book.lives.get(run)
    if live is None or not live.going:
        return
    for push in live.run.pushes.get(unit, ()):
        if push.cluster == cluster:
            say_push(book, live, live.run.units[unit], push.place)


def apply_push_wanted(book: Book, record: records.PushWanted) -> None:
    """See records."""
    run = book.lives[record.run].run
    others = [push for push in run.pushes.get(record.unit, ()) if push.cluster != record.cluster]
    run.pushes[record.unit] = [*others, Push(record.cluster, record.place)]


def apply_push_settled(book: Book, record: records.PushSettled) -> None:
    """See records."""
    settle(book.lives[record.run], record.unit, record.cluster)


def settle(live: LiveRun, unit: bytes, cluster: str) -> None:
    pushes = live.run.pushes.pop(unit, None)
    if pushes:
        others = [push for push in pushes if push.cluster != cluster]
        if others:
            live.run.pushes[unit] = others
