"""What the coordinators of other clusters say: who may still speak, what is kept for later, and who listens to what.

A message carries its sender's epoch and the revision of the plan that the sender has. From a cluster that is not in our
table, or from an older epoch than the table has, nothing is heard any more. A cluster that was replaced is told so, and
learns of it from whomever it meets first; one that takes part still gets its newer fragment from the hub. What belongs
to a run, or to a plan, that we have not got yet is kept until we have (`early`). That somebody was replaced only the
hub can say: what shows no signature of it has not come as far as here.
"""

from __future__ import annotations

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import answering, seeking
from cluster_agent.coordinator.clusters import early, offering, pushing, receiving
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import PeerSaid, RunKey
from cluster_agent.coordinator.runs.ending import CANCELLED, end
from cluster_agent.coordinator.tasks import closing
from cluster_agent.coordinator.units import mending
from cluster_agent.orders.messages import Failure


def on_said(book: Book, event: PeerSaid) -> None:
    """A message of a peer."""
    hear(book, event.cluster, event.message)


def hear(book: Book, cluster: str, serialised: bytes) -> None:
    """Act on a message, keep it for a fragment that is to come, or refuse it."""
    message = peer_pb2.PeerMessage.FromString(serialised)
    key = RunKey(message.namespace, message.run)
    live = book.lives.get(key)
    if message.HasField("superseded"):
        _on_superseded(book, live, cluster, message.superseded)
        return
    if live is None or message.revision > live.graph.revision:
        early.keep(book, key, cluster, message, serialised)
        return
    if cluster not in live.graph.epochs:
        book.publish(live, "peer.refused", "", b"", {"peer": cluster, "why": "it does not take part in the run"})
    if cluster not in live.graph.epochs or message.epoch < live.graph.epochs[cluster]:
        _say_superseded(book, live, cluster, message)
        return
    kind = message.WhichOneof("kind")
    if kind == "sought":
        answering.on_sought(book, live, cluster, message.sought)
    if not live.going:
        return
    if kind == "offer":
        receiving.on_offer(book, live, cluster, message.offer)
    elif kind == "accept":
        offering.on_accept(book, live, cluster, message.accept)
    elif kind == "grant":
        receiving.on_grant(book, live, cluster, message.grant)
    elif kind == "granted":
        offering.on_granted(book, live, cluster, message.granted)
    elif kind == "released":
        offering.on_released(book, live, cluster, message.released)
    elif kind == "report":
        closing.on_report(book, live, cluster, message.report)
    elif kind == "closed":
        closing.on_closed(book, live, message.closed)
    elif kind == "decline":
        offering.on_decline(book, live, cluster, message.decline)
    elif kind == "withdraw":
        receiving.on_withdraw(book, live, cluster, message.withdraw)
    elif kind == "push":
        pushing.on_push_request(book, live, cluster, message.push)
    elif kind == "found":
        seeking.on_found(book, live, cluster, message.found)
    elif kind == "unavailable":
        mending.on_unavailable(book, live, message.unavailable)


def _say_superseded(book: Book, live: LiveRun, cluster: str, message: peer_pb2.PeerMessage) -> None:
    """Once for each fragment of another cluster that we hear too late.

    Who has only the name of a fragment, since the run is over by now, has no table to tell of.
    """
    known = cluster in live.graph.epochs or message.revision >= live.graph.revision or not live.graph.table
    if known or (cluster, message.epoch) in live.refused:
        return
    live.refused.add((cluster, message.epoch))
    reply = peer_pb2.PeerMessage.FromString(live.header)
    reply.superseded.table.ParseFromString(live.graph.table)
    book.say(live, cluster, reply.SerializeToString())


def _on_superseded(book: Book, live: LiveRun | None, cluster: str, said: peer_pb2.Superseded) -> None:
    """There is a newer plan, as the hub has signed. If we have no part in it, ours has come to nothing."""
    if live is None or not live.going:
        return
    table = model_pb2.EpochTable.FromString(said.table.table)
    ours = RunKey(table.namespace, table.run) == live.key and book.cluster not in table.epochs
    if not ours or table.revision <= live.graph.revision or min(table.epochs.values(), default=0) <= live.graph.epoch:
        return
    others = ", ".join(sorted(table.epochs))
    why = f"{book.cluster} was replaced while it was out of touch, as {cluster} shows: the run goes on on {others}"
    end(book, live, CANCELLED, Failure("replaced", why))
