"""What nodes say of their tasks: started, produced, and how they ended; many at a time, in their order.

Each result is acknowledged, so that the node stops repeating it, and goes where it belongs: to `committing` if it is
good and of the attempt that counts, to `retrying` if it is bad; a late one only has what it made freed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cluster_agent.coordinator import following
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.committing import current, free_late, on_done, on_produced, on_started
from cluster_agent.coordinator.messages import NodeSaid, RunKey
from cluster_agent.coordinator.retrying import on_failed
from cluster_agent.coordinator.state import ASSIGNED
from cluster_agent.orders.messages import Produced, Results, Started


def on_results(book: Book, node: str, said: Results) -> None:
    """Attempts have ended."""
    run = RunKey(said.namespace, said.run)
    for result in said.results:
        book.ack(node, run, result.task, result.attempt)
        found = current(book, node, run, result.task, result.attempt)
        if result.failure is not None:
            if found is not None and found[1].state == ASSIGNED:
                on_failed(book, *found, result, result.failure)
        elif found is None:
            free_late(book, node, run, result.task, result.outputs)
            if result.followed and (live := book.lives.get(run)) is not None:
                following.call_back(book, live, node, result)
        else:
            on_done(book, *found, node, result)


_HEARERS: Final[Mapping[type, Callable[[Book, str, Any], None]]] = {
    Started: on_started,
    Produced: on_produced,
    Results: on_results,
}


def on_said(book: Book, event: NodeSaid) -> None:
    """A node spoke of its tasks."""
    _HEARERS[type(event.what)](book, event.node, event.what)
