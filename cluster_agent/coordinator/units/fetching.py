"""Bytes on their way to a node: between nodes of this cluster, and from the cluster that granted a unit.

A fetch is asked for once for each unit and node, however many tasks wait for it. What crosses from another cluster goes
to a node that is chosen once and logged, so that a restart does not move it elsewhere; units of the same content go to
the same node one after the other, so that the bytes cross once. If we can dial the other cluster the node pulls, else
it is told to expect the unit and the other cluster is asked to push. Over a relay each of the two can dial the other.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import remembering
from cluster_agent.coordinator.clusters import loads
from cluster_agent.coordinator.clusters.ways import HERE, OURS, Incoming, Traffic
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import FetchEnded, Place, RunKey
from cluster_agent.coordinator.nodes import commands, ordering
from cluster_agent.coordinator.space import disks, underway
from cluster_agent.coordinator.state import ASSIGNED, Task, Unit
from cluster_agent.coordinator.tasks.grouping import deliver
from cluster_agent.coordinator.tasks.making import arrive
from cluster_agent.coordinator.units import mending, records, rescuing, sharing
from cluster_agent.coordinator.units.errands import Fetch
from cluster_agent.coordinator.units.infos import unit_proto

_SLOW: Final = 1e6  # bytes a second that a push makes at least
_MOST_PATIENT: Final = 10  # doublings


def bring(book: Book, live: LiveRun, unit: Unit, task: Task) -> None:
    """Have a unit brought to the node of a task from another node of the cluster."""
    key = (unit.id, task.node)
    fetch = live.fetches.get(key)
    if fetch is None or fetch.checks:
        fetch = live.fetches[key] = Fetch(unit.id, task.node)
    fetch.tasks.append(task.id)
    if not fetch.said:
        say(book, live, fetch)


def cross(book: Book, live: LiveRun, unit: Unit) -> None:
    """Have a unit that was granted to us brought to a node of ours, if its bytes are not on their way already."""
    incoming = live.run.incoming[unit.id]
    if mending.on_nodes(book, unit) or not _wanted(live, incoming):
        return
    if not incoming.node:
        twin = _twin(live, unit)
        node = (live.run.incoming[twin].node if twin in live.run.incoming else "") if twin else ""
        if twin and not node:
            node = live.run.units[twin].copies[0]
        node = node or emptiest(book, unit.size)
        if not node:
            return  # the first node that joins gets it
        book.commit(records.FetchPlaced(live.key, unit.id, node))
    key = (unit.id, incoming.node)
    fetch = live.fetches.get(key)
    if fetch is None or fetch.checks:
        fetch = live.fetches[key] = Fetch(unit.id, incoming.node)
    underway.begin(book, fetch, unit.size)  # it may have been wanted from a node that has lost it since
    if fetch.said:
        return
    twin = _twin(live, unit)
    if twin and not live.run.units[twin].copies:
        followers = live.twins.setdefault(twin, [])
        if unit.id not in followers:
            followers.append(unit.id)
        return
    say(book, live, fetch)


def _wanted(live: LiveRun, incoming: Incoming) -> bool:
    """Whether somebody reads the unit here: the copies of a broadcast are brought once there is a task for them."""
    for index, state in incoming.edges.items():
        edge = live.graph.edges[index]
        if state == HERE or (state == OURS and (not edge.copied or edge.consumer.index in live.brings)):
            return True
    return False


def bring_copies(book: Book, live: LiveRun, step: Step) -> None:
    """The step has a task here, or will have one: the broadcasts that it reads are brought."""
    edges = [edge.index for edge in step.sides if edge.copied]
    if not edges or step.index in live.brings:
        return
    live.brings.add(step.index)
    for unit, incoming in list(live.run.incoming.items()):
        if any(incoming.edges.get(edge) == OURS for edge in edges):
            cross(book, live, live.run.units[unit])


def check(book: Book, live: LiveRun, unit: Unit) -> None:
    """Have nodes look whether they really hold a unit: a fetch from nowhere ends well only if its content is there."""
    for name in unit.copies:
        if book.nodes[name].connected and (unit.id, name) not in live.fetches:
            live.fetches[unit.id, name] = Fetch(unit.id, name, checks=True, said=True)
            look(book, live, unit, name)


def look(book: Book, live: LiveRun, unit: Unit, node: str) -> None:
    """Have a node read a unit that it seems to have."""
    book.tell(node, commands.fetch(live.key, unit, Place(book.cluster, node)))


def _twin(live: LiveRun, unit: Unit) -> bytes:
    """Another unit of the same content that is here or was sent for before; b"" if there is none."""
    first = live.contents.setdefault(unit.digest, unit.id)
    if first == unit.id:
        return b""
    other = live.run.units.get(first)
    incoming = live.run.incoming.get(first)
    if other is None or not (other.copies or (incoming is not None and incoming.node)):
        live.contents[unit.digest] = unit.id
        return b""
    return first


def emptiest(book: Book, size: int, place: str = "") -> str:
    """The connected node with the least work and the fewest bytes on their way; none that is cordoned or whose disk is
    full, if it can be. `place`: of those that reach this shared one."""
    here = [node for node in book.nodes.values() if node.connected and (not place or place in node.places)]
    if not here:
        return ""
    return min(
        here,
        key=lambda node: (
            node.cordoned,
            node.disk_size > 0 and disks.left(book, node) < size,
            node.used_cpus / (node.cpus or 1.0),
            node.fetching,
            node.name,
        ),
    ).name


def say(book: Book, live: LiveRun, fetch: Fetch) -> None:
    """Tell the node to fetch, as far as it and the other end are there; else whoever joins brings it up again."""
    unit = live.run.units[fetch.unit]
    if _needless(live, unit, fetch):
        underway.end(book, live, fetch.unit, fetch.node)
        return
    if not book.nodes[fetch.node].connected:
        return
    if not fetch.crossing:
        source = next((name for name in unit.copies if book.nodes[name].connected), "")
        here = book.nodes[source].place if source else Place("", "")
        place = sharing.source(book, live, unit, fetch, here)
        if place.known:
            fetch.said = True
            fetch.source = source
            book.tell(fetch.node, commands.fetch(live.key, unit, place))
        return
    incoming = live.run.incoming[fetch.unit]
    peer = book.peers.get(incoming.cluster)
    dialled = incoming.place.address if peer is None or peer.can_dial or peer.relays else ""
    at = msgspec.structs.replace(incoming.place, address=dialled, shared="")
    place = sharing.source(book, live, unit, fetch, at)
    if not (at.node or place.shared):  # it was made before the run began again, and freed since
        mending.not_there(book, live, unit, fetch)
        return  # the other cluster says where it is once it has it again
    fetch.said = True
    fetch.pushed = not place.known
    if place.known:
        book.tell(fetch.node, commands.fetch(live.key, unit, place))
        return
    book.tell(fetch.node, commands.expect(live.key, unit, incoming.cluster))
    message = peer_pb2.PeerMessage.FromString(live.header)
    message.push.unit.CopyFrom(unit_proto(unit))
    place = book.nodes[fetch.node].place
    message.push.to.cluster = book.cluster
    message.push.to.node = place.node
    message.push.to.address = place.address
    message.push.to.server_name = place.server_name
    book.say(live, incoming.cluster, message.SerializeToString())
    patience = book.policy.push_patience * 2.0 ** min(fetch.tries, _MOST_PATIENT) + unit.size / _SLOW
    book.wake(book.now + patience, "pushed", live.key, fetch.unit, fetch.node, fetch.tries)


def _needless(live: LiveRun, unit: Unit, fetch: Fetch) -> bool:
    """The unit was needed once, and is not any more: its task was done on another copy, or it only was to be back."""
    back = bool(unit.copies) and not (fetch.tasks or fetch.crossing)
    return not unit.uses or back or (fetch.crossing and unit.id not in live.run.incoming)


def on_push_late(book: Book, run: RunKey, unit: bytes, node: str, tries: int) -> None:
    """A unit should have been pushed to us by now: ask for it again, in case that its sender thinks that it was."""
    live = book.lives.get(run)
    if live is None or not live.going:
        return
    fetch = live.fetches.get((unit, node))
    if fetch is not None and fetch.said and fetch.crossing and fetch.tries == tries:
        fetch.tries += 1
        say(book, live, fetch)


def on_ended(book: Book, event: FetchEnded) -> None:
    """A fetch or an expected push ended."""
    live = book.lives.get(event.run)
    unit = live.run.units.get(event.unit) if live is not None else None
    if live is None or unit is None or not live.going:
        if live is not None and unit is not None and rescuing.ended(book, live, unit, event):
            return
        stocked = live is not None and unit is None and live.stocked(event.unit, event.node)
        if not event.error and not stocked and (unit is None or event.node not in unit.copies):
            book.free(event.node, event.run, event.unit)
        return
    fetch = live.fetches.get((unit.id, event.node))
    if fetch is not None and fetch.checks:
        del live.fetches[unit.id, event.node]
        if event.error:
            mending.lose(book, live, event.node, [unit.id])
        else:
            mending.say_where(book, live, unit)
        return
    if fetch is not None and event.unshared:
        sharing.did_not_give(book, live, unit, fetch)
    if event.error:
        _try_again(book, live, unit, event)
    elif event.shared:
        sharing.publish_taken(book, live, unit, event)
        arrived(book, live, unit, event.node, 0, 0.0)  # nothing has crossed to us from their node
    else:
        arrived(book, live, unit, event.node, event.bytes, event.seconds)


def arrived(book: Book, live: LiveRun, unit: Unit, node: str, size: int, seconds: float) -> None:
    """The bytes of a unit are on a node; what waited for them goes on."""
    fetch = underway.end(book, live, unit.id, node)
    incoming = live.run.incoming.get(unit.id)
    if node not in unit.copies:
        crossed = incoming is not None and incoming.node == node and (fetch is None or fetch.crossing)
        cluster = incoming.cluster if crossed and incoming is not None else ""
        book.commit(records.Fetched(live.key, unit.id, node, cluster, size, seconds))
        if seconds:
            _measure(book, live, unit, node, fetch, cluster, size, seconds)
    if fetch is not None:
        for task_id in fetch.tasks:
            _one_less_missing(book, live, task_id, node)
    for follower in live.twins.pop(unit.id, ()):
        if follower in live.run.incoming:
            cross(book, live, live.run.units[follower])


def _measure(
    book: Book, live: LiveRun, unit: Unit, node: str, fetch: Fetch | None, cluster: str, size: int, seconds: float
) -> None:
    if cluster:
        loads.link_from(book, cluster).arrived(size, seconds, book.now)
        source = live.run.incoming[unit.id].place.node
    else:
        source = fetch.source if fetch is not None else ""
    data: dict[str, object] = {
        "unit": unit.id,
        "from": cluster or book.cluster,
        "from_node": source,
        "node": node,
        "bytes": size,
        "seconds": seconds,
    }
    book.publish(live, "unit.fetched", "", b"", data)


def _one_less_missing(book: Book, live: LiveRun, task_id: bytes, node: str) -> None:
    task = live.run.tasks.get(task_id)
    if task is None or task.state != ASSIGNED or task.node != node or task_id not in live.missing:
        return
    live.missing[task_id] -= 1
    if not live.missing[task_id]:
        del live.missing[task_id]
        ordering.order(book, live, live.graph.steps[task.step], task)


def _try_again(book: Book, live: LiveRun, unit: Unit, event: FetchEnded) -> None:
    fetch = live.fetches.get((event.unit, event.node))
    if fetch is None or not fetch.said:
        return
    if _needless(live, unit, fetch):
        underway.end(book, live, event.unit, event.node)
        return
    fetch.said = False
    fetch.gone = event.gone and fetch.crossing
    if event.unshared and not fetch.source and not (fetch.crossing and event.gone):
        say(book, live, fetch)  # nobody else was asked yet
        return
    fetch.tries += 1
    if event.gone:
        mending.not_there(book, live, unit, fetch)
    book.wake(book.now + book.policy.wait(fetch.tries), "fetch", live.key, event.unit, event.node)


def disk_grew(book: Book, node: str) -> None:
    """A node's disk has more room: what it did not take for want of that is brought again."""
    for live in book.lives.going.values():
        for fetch in [
            fetch for fetch in live.fetches.values() if fetch.node == node and fetch.tries and not fetch.said
        ]:
            say(book, live, fetch)


def on_due(book: Book, run: RunKey, unit: bytes, node: str) -> None:
    """A fetch that failed is to be tried again."""
    live = book.lives.get(run)
    if live is None or not live.going:
        return
    fetch = live.fetches.get((unit, node))
    if fetch is not None and not fetch.said and live.run.units[unit].uses:
        say(book, live, fetch)


def apply_fetch_placed(book: Book, record: records.FetchPlaced) -> None:
    """See records."""
    live = book.lives[record.run]
    live.run.incoming[record.unit].node = record.node
    if record.node:
        book.awaited.pop((live.key, record.unit), None)


def apply_fetched(book: Book, record: records.Fetched) -> None:
    """See records."""
    live = book.lives[record.run]
    unit = live.run.units[record.unit]
    arrive(book, live, unit, record.node)
    if record.cluster:
        traffic = live.run.traffic.get(record.cluster)
        if traffic is None:
            traffic = live.run.traffic[record.cluster] = Traffic()
        traffic.units += 1
        traffic.bytes += record.size
        traffic.seconds += record.seconds
    deliver_granted(live, unit)
    book.touch(live)


def deliver_granted(live: LiveRun, unit: Unit) -> None:
    """Deliver a unit on all edges on which it was granted, where its bytes are here or not needed.

    Part of applying a record.
    """
    incoming = live.run.incoming.get(unit.id)
    if incoming is None:
        return
    for edge, state in incoming.edges.items():
        if state == OURS and (unit.copies or remembering.needs_no_bytes(live, live.graph.edges[edge], unit)):
            incoming.edges[edge] = HERE
            deliver(live, live.graph.edges[edge], unit)
