"""Orders: the tasks that a node shall execute, gathered over a batch and said by step, many at a time.

What all tasks of a step have in common is its *work*. A node is told it once a stream, before the first order of it.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import SPLIT, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes import commands, following
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.space import disks, quotas
from cluster_agent.coordinator.state import Task
from cluster_agent.coordinator.units.infos import unit_info
from cluster_agent.orders.messages import Order, Work


def order(book: Book, live: LiveRun, step: Step, task: Task) -> None:
    """Have the task's node execute it, if it is there; all of the task's inputs are."""
    node = book.nodes[task.node]
    if not node.connected:
        return
    if step.start_timeout:
        book.wake(book.now + step.start_timeout, "start", live.key, task.id, task.attempt)
    follow = following.may_follow(book, live, task, node)
    if step.follow and not follow:
        disks.stays_alone(live, task, node)
    number = name_work(book, live, step, node, follow=follow)
    by_work = book.orders.get(task.node)
    if by_work is None:
        by_work = book.orders[task.node] = {}
    orders = by_work.get(number)
    if orders is None:
        orders = by_work[number] = []
    units = live.run.units
    inputs = tuple([tuple([unit_info(units[unit]) for unit in ids]) for ids in live.inputs(task)])
    leave = most = 0
    if step.kind == SPLIT:
        most = quotas.window(book, live, step, task)
        leave = live.leaves[step.index, node.name] = disks.leaves(book, live, step, node)
    orders.append(Order(task.id, task.attempt, inputs, task.parts, leave, most))


def name_work(book: Book, live: LiveRun, step: Step, node: Node, *, follow: bool) -> int:
    """The number of a step's work, which the node is told if it does not know it; `follow` as below."""
    number = _work(book, live, step, follow=follow)
    if number not in node.works:
        _introduce(book, live, step, node, number)
    return number


def _work(book: Book, live: LiveRun, step: Step, *, follow: bool) -> int:
    """The number of a step's work; `follow`: of the one after which the node may go on by itself."""
    key = step.index, follow and bool(step.follow)
    number = live.works.get(key)
    if number is None:
        number = live.works[key] = next(book.works)
    return number


def _introduce(book: Book, live: LiveRun, step: Step, node: Node, number: int) -> None:
    """Tell a node a work, and before it those that follow."""
    follow = live.works.get((step.index, True)) == number
    steps = [step]
    for each in steps:
        if follow:
            steps += [edge.consumer for edge in each.follow.values()]
    for each in reversed(steps):
        known = _work(book, live, each, follow=follow)
        if known in node.works:
            continue
        node.works.add(known)
        after = [(port, _work(book, live, edge.consumer, follow=True)) for port, edge in each.follow.items() if follow]
        book.tell(node.name, Work(known, commands.work(live, each), tuple(after)))


def say_all(book: Book) -> None:
    """At the end of a batch: say what was gathered."""
    for name in list(book.orders):
        book.tell_orders(name)


def forget(book: Book, live: LiveRun) -> None:
    """The run is not ours any more: its works are named no more."""
    numbers = live.works.values()
    for node in book.nodes.values():
        node.works.difference_update(numbers)
