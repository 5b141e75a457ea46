"""Sources: which node opens each part of a dataset that lies on this cluster, and what happens when it can't.

Opening is idempotent on a node (the ids of a part's units follow from its place in the dataset), so the command is
simply repeated when the node comes back. All nodes of a cluster see its data root.

Where a part's unit becomes one task of a step that executes only here, the node is told so with the first order to open
it, if it has room: it goes on with that task by itself (see `following`), as attempt 1. An order that is repeated does
not say so. What is opened by such an order, or by another node, gives tasks that begin with attempt 2.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import routing
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey, SourceRead
from cluster_agent.coordinator.nodes import commands, following, ordering, placement
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.runs.ending import fail
from cluster_agent.coordinator.state import OPENED, OPENING, PENDING, Part
from cluster_agent.coordinator.tasks import records, tracing
from cluster_agent.coordinator.tasks.making import make
from cluster_agent.orders.messages import Failure

_PORT: Final = "out"


def open_pending(book: Book, live: LiveRun) -> None:
    """Give each part that waits to a node, the ones with least to do first."""
    if not live.dispatching:
        return
    while live.pending_parts:
        part = live.run.parts[live.pending_parts[0]]
        node = _choose(book, live, part)
        if node is None:
            return
        follow = _to_follow(book, live, part, node)
        book.commit(records.PartPlaced(live.key, live.pending_parts[0], node.name, follow > 0))
        say_open(book, live, part, follow)


def _choose(book: Book, live: LiveRun, part: Part) -> Node | None:
    """The connected node that opens the fewest parts, and another than last time if there is one."""
    opening: dict[str, int] = {}
    for other in live.run.parts:
        if other.node:
            opening[other.node] = opening.get(other.node, 0) + 1
    here = [node for node in book.nodes.values() if node.connected]
    return min(
        here,
        key=lambda node: (node.name == part.node, node.cordoned, opening.get(node.name, 0), node.name),
        default=None,
    )


def _to_follow(book: Book, live: LiveRun, part: Part, node: Node) -> int:
    """The work that the node may go on with by itself, the first time ever that the part is opened; 0 for none."""
    edge = live.graph.steps[part.step].follow.get(_PORT)
    if edge is None or part.node or live.run.attempts_before or not following.may(live, node):
        return 0
    before = sum(other.state == OPENING and other.node == node.name for other in live.run.parts)
    if not placement.begins_at_once(book, live, edge.consumer, node, before):
        return 0
    return ordering.name_work(book, live, edge.consumer, node, follow=True)


def say_open(book: Book, live: LiveRun, part: Part, follow: int = 0) -> None:
    """Tell the part's node to open it, and which work it may go on with."""
    book.tell(part.node, commands.open_source(live, part, follow))


def on_read(book: Book, event: SourceRead) -> None:
    """A node has opened a part, or could not."""
    live = book.lives.get(event.run)
    step = live.graph.step_by_name.get(event.step) if live is not None else None
    if live is None or step is None or not live.going:
        for output in event.outputs:
            unit = live.run.units.get(output.unit.id) if live is not None else None
            if unit is None or event.node not in unit.copies:
                book.free(event.node, event.run, output.unit.id)
        return
    found = next(
        (
            (number, part)
            for number, part in enumerate(live.run.parts)
            if part.step == step.index and part.index == event.index
        ),
        None,
    )
    if found is None:
        return
    number, part = found
    former = event.epoch not in (0, live.graph.epoch)
    awaited = part.state == OPENING and part.node == event.node
    asked = awaited and part.follow and event.asked and not former
    if event.followed and not asked:
        following.call_back_from(book, live, event.node, step, event.outputs)
    if former:
        return  # the node is about to forget what it opened for the former fragment
    if part.state == OPENED:
        for output in event.outputs:
            unit = live.run.units[output.unit.id]
            if event.node not in unit.copies and not live.fetching(unit.id, event.node):
                book.free(event.node, event.run, output.unit.id)
    elif event.error:
        if awaited:
            _try_again(book, live, number, event.error)
    else:
        chosen = routing.routes(book, live, step, event.outputs, tracing.of_part(live, part))
        followed = tuple(edge.index for edge in step.follow.values()) if event.followed and asked else ()
        retried = part.follow and not asked
        book.commit(records.PartOpened(live.key, number, event.node, event.outputs, chosen, followed, retried))
        data: dict[str, object] = {
            "node": event.node,
            "part": part.path,
            "bytes": sum(output.unit.size for output in event.outputs),
            "made": [output.unit.id for output in event.outputs],
        }
        book.publish(live, "source.opened", step.name, b"", data)


def _try_again(book: Book, live: LiveRun, number: int, error: str) -> None:
    part = live.run.parts[number]
    book.commit(records.PartFailed(live.key, number, error, counts=True))
    step = live.graph.steps[part.step]
    if part.failed >= book.policy.source_attempts:
        message = f"{step.name}: part {part.index} ({part.path}) cannot be read on {book.cluster}: {error}"
        fail(book, live, Failure("data", message), step=step.name)
        return
    book.wake(book.now + book.policy.wait(part.failed), "part", live.key, number)


def on_part_due(book: Book, run: RunKey, number: int) -> None:
    """A part that could not be read is to be tried again."""
    live = book.lives.get(run)
    if live is None or not live.going:
        return
    if live.run.parts[number].state == PENDING and number not in live.pending_parts:
        live.pending_parts.append(number)
        book.touch(live)


def give_up_node(book: Book, live: LiveRun, node: str) -> None:
    """A node stays away: its parts are opened elsewhere."""
    for number, part in enumerate(live.run.parts):
        if part.state == OPENING and part.node == node:
            book.commit(records.PartFailed(live.key, number, f"node {node} went away", counts=False))
            live.pending_parts.append(number)


def apply_part_placed(book: Book, record: records.PartPlaced) -> None:
    """See records."""
    live = book.lives[record.run]
    part = live.run.parts[record.part]
    part.state = OPENING
    part.node = record.node
    part.follow = part.follow or record.follow
    if record.part in live.pending_parts:
        live.pending_parts.remove(record.part)
    book.note(live)


def apply_part_opened(book: Book, record: records.PartOpened) -> None:
    """See records."""
    live = book.lives[record.run]
    part = live.run.parts[record.part]
    step = live.graph.steps[part.step]
    again = part.known
    part.known = True
    part.state = OPENED
    part.node = record.node
    part.error = ""
    if record.part in live.pending_parts:
        live.pending_parts.remove(record.part)
    part.units = make(
        book,
        live,
        step,
        b"",
        record.outputs,
        record.routes,
        tracing.of_part(live, part),
        node=record.node,
        part=record.part,
        followed=record.followed,
        retried=record.retried,
    )
    if not again:
        live.run.steps[step.index].done += 1
    live.check.add(step.index)
    live.check.update(consumer.index for consumer in step.consumers)
    book.touch(live)


def apply_part_failed(book: Book, record: records.PartFailed) -> None:
    """See records."""
    live = book.lives[record.run]
    part = live.run.parts[record.part]
    part.state = PENDING
    part.error = record.error
    if record.counts:
        part.failed += 1
        live.run.steps[part.step].failed += 1
    book.note(live)
