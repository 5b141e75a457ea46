"""A chain that stays on a node is continued there: the node goes on with a unit that it made, and tells us afterwards.

Where a step's port is followed (see fragment), each of its units becomes exactly one task, of a step that executes
only here. A node that was told so starts that task itself, as attempt 1, and says so in the result of the task that
made the unit; as that result is committed, the tasks are taken as assigned to the node.

Only first attempts are followed, so that no two nodes follow the same task: the tasks that come of a later attempt
skip number 1, and what a node did after an attempt that did not count is called back. So it is with the opening of a
dataset's part, which is ordered to be followed once (see `sources`).
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.space import disks, quotas
from cluster_agent.coordinator.state import Task, Unit
from cluster_agent.coordinator.tasks import attempts
from cluster_agent.coordinator.tasks.grouping import form
from cluster_agent.orders.messages import Hold, Output, Result
from wire.digests import task_id


def may_follow(book: Book, live: LiveRun, task: Task, node: Node) -> bool:
    """Whether the node that executes the task may go on by itself: not where its disk is short of room."""
    if disks.is_short(book, node) or not quotas.goes_by_itself(book, live, live.graph.steps[task.step]):
        return False
    return task.attempt == 1 and live.dispatching and may(live, node)


def may(live: LiveRun, node: Node) -> bool:
    """Whether the node may go on by itself in the run at all. Not where another run may want its room back; nor where
    results are remembered: what it made of a next task would take the place of the bytes of such a one."""
    return not live.run.remembers and (not node.holds or live.key in node.holds)


def apply(book: Book, live: LiveRun, edge: Edge, unit: Unit, node: str) -> None:
    """The unit's task is with the node that made the unit. Part of applying a record."""
    attempts.begin(book, live, _form(live, edge, unit), node)


def apply_not(live: LiveRun, edge: Edge, unit: Unit) -> None:
    """The unit's task is ours to place; an attempt 1 of it may be on any node. Part of applying a record."""
    task = _form(live, edge, unit)
    task.attempt = max(task.attempt, 1)
    live.make_ready(task)


def _form(live: LiveRun, edge: Edge, unit: Unit) -> Task:
    live.run.steps[edge.consumer.index].open += 1
    return form(live, edge.consumer, [[unit.id]], unit.origin)


def call_back(book: Book, live: LiveRun, node: str, result: Result) -> None:
    """A node has gone on after an attempt that does not count: stop what it started, but for what we gave it."""
    task = live.run.tasks.get(result.task)
    if task is not None and live.going:  # else the node was told that the run is over
        call_back_from(book, live, node, live.graph.steps[task.step], result.outputs)


def call_back_from(book: Book, live: LiveRun, node: str, step: Step, outputs: Sequence[Output]) -> None:
    """Stop what a node started with what this step made there, but for what we gave it."""
    key = live.key
    for output in outputs:
        edge = step.follow.get(output.port)
        if edge is None:
            continue
        next_id = task_id(key.namespace, key.run, edge.consumer.name, [(edge.port, [output.unit.id])])
        known = live.run.tasks.get(next_id)
        if known is None or (known.node, known.attempt) != (node, 1):
            book.tell(node, commands.cancel(key, next_id, 1))


def say_hold(book: Book, live: LiveRun, node: str) -> None:
    """Tell a node whether it may go on by itself in the run."""
    if live.graph.follows:
        book.tell(node, Hold(live.key.namespace, live.key.run, not live.dispatching))
