"""What the coordinators of other clusters say: who may still speak, what is kept for later, and who listens to what.

A message carries its sender's epoch and the revision of the plan that the sender has. From an epoch older than our
table's nothing is heard any more. What belongs to a run, or to a plan, that we have not got yet is kept until we have.
"""

from __future__ import annotations

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator import closing, mending, offering, pushing, receiving, records
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.ending import run_name
from cluster_agent.coordinator.messages import PeerSaid, RunKey


def on_said(book: Book, event: PeerSaid) -> None:
    """A message of a peer."""
    hear(book, event.cluster, event.message)


def hear(book: Book, cluster: str, serialised: bytes) -> None:
    """Act on a message, keep it for a fragment that is to come, or refuse it."""
    message = peer_pb2.PeerMessage.FromString(serialised)
    key = RunKey(message.namespace, message.run)
    live = book.lives.get(key)
    if live is None or message.revision > live.graph.revision:
        name = run_name(key.namespace, key.run)
        if message.revision > book.state.forgotten.get(name, -1):
            book.commit(records.MessageKept(key, cluster, serialised))
        return
    if message.epoch < live.graph.epochs.get(cluster, 0) or not live.going:
        return
    kind = message.WhichOneof("kind")
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
        receiving.on_withdraw(book, live, message.withdraw)
    elif kind == "push":
        pushing.on_push_request(book, live, cluster, message.push)
    elif kind == "unavailable":
        mending.on_unavailable(book, live, message.unavailable)


def apply_message_kept(book: Book, record: records.MessageKept) -> None:
    """See records."""
    name = run_name(record.run.namespace, record.run.run)
    book.state.early.setdefault(name, []).append((record.cluster, record.message))
