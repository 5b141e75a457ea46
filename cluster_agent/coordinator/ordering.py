"""Orders: the tasks that a node shall execute, gathered over a batch and said by step, many at a time.

What all tasks of a step have in common is its *work*. A node is told it once a stream, before the first order of it.
"""

from __future__ import annotations

from cluster_agent.coordinator import commands
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun, Node, unit_info
from cluster_agent.coordinator.state import Task
from cluster_agent.orders.messages import Order, Work


def order(book: Book, live: LiveRun, step: Step, task: Task) -> None:
    """Have the task's node execute it, if it is there; all of the task's inputs are."""
    node = book.nodes[task.node]
    if not node.connected:
        return
    number = live.works.get(step.index)
    if number is None:
        number = live.works[step.index] = next(book.works)
    if number not in node.works:
        _introduce(book, live, step, node, number)
    by_work = book.orders.get(task.node)
    if by_work is None:
        by_work = book.orders[task.node] = {}
    orders = by_work.get(number)
    if orders is None:
        orders = by_work[number] = []
    units = live.run.units
    inputs = tuple([tuple([unit_info(units[unit]) for unit in ids]) for ids in live.inputs(task)])
    orders.append(Order(task.id, task.attempt, inputs))


def _introduce(book: Book, live: LiveRun, step: Step, node: Node, number: int) -> None:
    node.works.add(number)
    book.tell(node.name, Work(number, commands.work(live, step)))


def say_all(book: Book) -> None:
    """At the end of a batch: say what was gathered."""
    for name in list(book.orders):
        book.tell_orders(name)


def forget(book: Book, live: LiveRun) -> None:
    """The run is not ours any more: its works are named no more."""
    numbers = live.works.values()
    for node in book.nodes.values():
        node.works.difference_update(numbers)
