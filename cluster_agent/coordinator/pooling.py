"""Between the runs and the pools: what the steps need is told to the autoscaler, what it wants is told to the nodes."""

from __future__ import annotations

from cluster_agent.coordinator import commands
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import TASK, Step
from cluster_agent.pools.core import Limits, Room


def look_after(book: Book) -> None:
    """At the end of a batch: resize the pools whose steps had tasks come, start or end."""
    definitions: dict[str, Step] = {}
    for live, index in book.stirred:
        step = live.graph.steps[index]
        if step.kind != TASK:
            continue
        who = (live.key, index)
        if live.going and not live.run.steps[index].closed:
            limits = Limits(step.pool_min, step.pool_max, step.pool_idle, step.cpus, step.memory)
            book.pools.need(step.definition, who, len(live.ready[index]), limits)
        else:
            book.pools.release(step.definition, who)
        definitions[step.definition] = step
        book.pooled[step.definition] = step
    book.stirred.clear()
    for definition in definitions:
        resize(book, definition)


def resize(book: Book, definition: str) -> None:
    """Tell the nodes what the pool of a definition wants now."""
    step = book.pooled[definition]
    rooms = {
        name: Room(node.cpus, node.memory, node.running.get(definition, 0))
        for name, node in book.nodes.items()
        if node.connected
    }
    told, again = book.pools.resize(definition, rooms, book.now)
    for change in told:
        book.tell(change.node, commands.size_pool(step, change.workers))
    if again is not None and definition not in book.pool_timers:
        book.pool_timers.add(definition)
        book.wake(again, "pool", definition)


def on_due(book: Book, definition: str) -> None:
    """A pool may have idle workers."""
    book.pool_timers.discard(definition)
    if definition in book.pooled:
        resize(book, definition)


def node_changed(book: Book, name: str) -> None:
    """A node came or went: what it was told is void, and its share goes to others."""
    book.pools.forget_node(name)
    for definition in book.pools.definitions():
        resize(book, definition)
