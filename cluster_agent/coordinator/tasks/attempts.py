"""A task's attempt is a node's, and counted against its room, from its beginning until the node is done with it."""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes.room import give_room, take_room
from cluster_agent.coordinator.state import ASSIGNED, Task


def begin(book: Book, live: LiveRun, task: Task, node: str) -> None:
    """The task's next attempt is this node's. Part of applying a record."""
    task.state = ASSIGNED
    task.attempt += 1
    task.node = node
    live.assigned[task.step] += 1
    book.stirred[live, task.step] = None
    take_room(book.nodes, live, task)
    book.note(live)


def leave(book: Book, live: LiveRun, task: Task) -> None:
    """The node is done with the task, or shall be. Part of applying a record."""
    live.assigned[task.step] -= 1
    book.stirred[live, task.step] = None
    give_room(book.nodes, live, task)
