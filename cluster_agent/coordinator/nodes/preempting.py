"""An owner that wants its slot back at once stops tasks that its author allows to be stopped.

Such a task is cancelled on its node and tried again soon; that uses up no attempt. Should its result be on the way
already it counts, and the task is not executed again.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.state import Task
from cluster_agent.coordinator.tasks import retrying
from cluster_agent.orders.messages import Failure
from topology.packing import Room


def make_way(book: Book, owner: LiveRun, node: Node) -> None:
    """The owner gave a node a task into room that it holds: where others are in the way there, the newest ones go."""
    hold = node.holds.get(owner.key)
    if hold is None or not hold.held.fits(hold.used.cpus, hold.used.memory):
        return
    for run, task_id in reversed(list(node.tasks)):
        if Room(node.cpus, node.memory).fits(node.used_cpus, node.used_memory):
            return
        live = book.lives[run]
        task = live.run.tasks[task_id]
        if run != owner.key and live.graph.steps[task.step].preemptible and _borrows(node, run):
            _stop(book, live, task, owner.key)


def _borrows(node: Node, run: RunKey) -> bool:
    """Whether the run uses more of the node than it holds."""
    hold = node.holds.get(run)
    return hold is None or not hold.held.fits(hold.used.cpus, hold.used.memory)


def _stop(book: Book, live: LiveRun, task: Task, owner: RunKey) -> None:
    failure = Failure("preempted", f"run {owner.run} wanted its slot on {task.node} back")
    book.tell(task.node, commands.cancel(live.key, task.id, task.attempt))
    data: dict[str, object] = {"node": task.node, "attempt": task.attempt, "message": failure.message}
    book.publish(live, "task.preempted", live.graph.steps[task.step].name, task.id, data)
    retrying.end_attempt(book, live, task, failure, retrying.NEVER_MADE)
