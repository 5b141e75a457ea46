"""What is answered to a cluster that asks whether a task's result is known here (see `seeking` for who asks).

What is remembered from before the run began again is told at once, with the places of those of its units that are
here. What is in the cache is told once its node has made the contents units of the run: as such they are fetched.
"""

from __future__ import annotations

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import caching, hearsay
from cluster_agent.coordinator.cache.searches import Serving
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import ContentsTaken, Place
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.units.infos import unit_proto
from cluster_agent.orders.messages import Output


def on_sought(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Sought) -> None:
    """A peer asks whether the result of a task is known here; also once our part of the run has ended well."""
    has_units = not live.run.swept
    if has_units and message.contents and _say_remembered(book, live, cluster, message):
        return
    entry = caching.find(book, message.key, 0.0) if has_units and message.key else None
    if entry is None:
        _say_found(book, live, cluster, message.task, None)
        return
    serving = live.serving.get(message.task)
    if serving is not None:
        serving.clusters.append(cluster)
        return
    outputs = caching.named(message.task, entry.outputs)
    live.serving[message.task] = Serving([cluster], message.key, entry.node, outputs, entry.executed)
    book.tell(entry.node, commands.take(live.key, message.task, outputs))


def _say_remembered(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Sought) -> bool:
    """Tell what is remembered of the task, and where its units are, as far as they are here."""
    entry = live.run.known.get(message.task)
    if entry is None or entry.inputs != message.contents or len(entry.outputs) > hearsay.MOST:
        return False
    reply = peer_pb2.PeerMessage.FromString(live.header)
    reply.found.task, reply.found.known = message.task, True
    for each in entry.outputs:
        node = next((name for name in each.copies if book.nodes[name].connected), "")
        _add(book, reply.found, Output(each.port, each.index, each.unit), node)
    book.say(live, cluster, reply.SerializeToString())
    return True


def _say_found(book: Book, live: LiveRun, cluster: str, task: bytes, serving: Serving | None) -> None:
    reply = peer_pb2.PeerMessage.FromString(live.header)
    reply.found.task = task
    if serving is not None:
        reply.found.known, reply.found.executed = True, serving.executed
        for output in serving.outputs:
            _add(book, reply.found, output, serving.node)
    book.say(live, cluster, reply.SerializeToString())


def _add(book: Book, found: peer_pb2.Found, output: Output, node: str) -> None:
    place = book.nodes[node].place if node else Place("", "")
    at = peer_pb2.UnitLocation(cluster=book.cluster, node=node, address=place.address, server_name=place.server_name)
    found.outputs.add(port=output.port, index=output.index, unit=unit_proto(output.unit), location=at)


def taken(book: Book, live: LiveRun, event: ContentsTaken) -> None:
    """A node has looked for contents of the cache, maybe for others."""
    serving = live.serving.get(event.task)
    if serving is None or serving.node != event.node:
        return
    del live.serving[event.task]
    for cluster in serving.clusters:
        _say_found(book, live, cluster, event.task, serving if event.found else None)
    if not event.found:
        caching.lost(book, serving.key, event.node)


def node_gone(book: Book, live: LiveRun, node: str) -> None:
    """A node that was to look has gone."""
    for task in [task for task, serving in live.serving.items() if serving.node == node]:
        for cluster in live.serving.pop(task).clusters:
            _say_found(book, live, cluster, task, None)
