"""What nodes say of their tasks: started, produced, and how they ended; many at a time, in their order.

Each result is acknowledged, so that the node stops repeating it, and goes where it belongs: to `committing` if it is
good and of the attempt that counts, to `retrying` if it is bad; a late one only has what it made freed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import NodeSaid, RunKey
from cluster_agent.coordinator.nodes import following
from cluster_agent.coordinator.state import ASSIGNED
from cluster_agent.coordinator.tasks.committing import current, free_late, on_done, on_produced, on_started
from cluster_agent.coordinator.tasks.retrying import on_failed
from cluster_agent.orders.messages import Produced, Result, Results, Started


def on_results(book: Book, node: str, said: Results) -> None:
    """Attempts have ended."""
    run = RunKey(said.namespace, said.run)
    live = book.lives.get(run)
    book.ack(node, run, [(result.task, result.attempt) for result in said.results])
    for result in said.results:
        task = current(live, node, result.task, result.attempt)
        if live is None or task is None:
            _drop(book, live, node, run, result)
        elif result.failure is None:
            on_done(book, live, task, node, result)
        elif task.state == ASSIGNED:
            on_failed(book, live, task, result, result.failure)


def _drop(book: Book, live: LiveRun | None, node: str, run: RunKey, result: Result) -> None:
    """The result comes late: what it made, and what the node did with that, is not wanted."""
    free_late(book, node, run, result.task, result.outputs)
    if live is not None and result.followed:
        following.call_back(book, live, node, result)


_HEARERS: Final[Mapping[type, Callable[[Book, str, Any], None]]] = {
    Started: on_started,
    Produced: on_produced,
    Results: on_results,
}


def on_said(book: Book, event: NodeSaid) -> None:
    """A node spoke of its tasks."""
    _HEARERS[type(event.what)](book, event.node, event.what)
