"""What moves of a run that may stand still: tasks that are executed, slots that come free, bytes on their way.

A cluster that is to be sent a unit can't tell whether anybody is at it. So that moves where the bytes are: at the
sender, as long as it has the unit and pushes it. Who has to make it again first says so by what it does for that, and
while it rests (see `resting`) nothing comes of it. In the same way a slot that is taken comes free only if what has it
goes on: a split may wait in it, or a task for its inputs. Pure questions.
"""

from __future__ import annotations

from collections.abc import Collection

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import pushing
from cluster_agent.coordinator.fragment import SPLIT, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.space import disks, pressure, quotas
from cluster_agent.coordinator.state import ASSIGNED, RETRYING, Task
from cluster_agent.coordinator.units.errands import Fetch


def goes_on(book: Book, live: LiveRun, task: Task) -> bool:
    """Whether a task is being executed, or will be tried again by itself. Inputs that it waits for: see `comes`."""
    if task.state == RETRYING:
        return task.id not in live.requeued and not _lacks_input(live, task)
    if task.state != ASSIGNED or task.id in live.missing:
        return False
    step, node = live.graph.steps[task.step], book.nodes[task.node]
    return not (step.kind == SPLIT and (disks.pauses(live, step, node) or quotas.pauses(live, step, task)))


def _lacks_input(live: LiveRun, task: Task) -> bool:
    """Whether a unit that the task reads is on no node: its turn brings nothing before that is made again."""
    return bool(live.parked) and any(unit in live.parked for ids in live.inputs(task) for unit in ids)


def begins(book: Book, live: LiveRun, step: Step) -> bool:
    """Whether a task of the step waits for nothing but its turn, and gets that.

    It may have been held back by a quota that has room again, while others have all the slots.
    """
    if not live.ready[step.index] or pressure.stands(book, live, step):
        return False
    nodes = [node for node in book.nodes.values() if node.fits(step)]
    if step.index not in live.short:
        return not nodes or any(node.cordoned or node.has_cpus(step) or _is_at_work(book, node) for node in nodes)
    task = live.run.tasks[live.ready[step.index][0]]
    ending = [node for node in nodes if node.open and not node.has_cpus(step) and _is_at_work(book, node)]
    return not live.short[step.index] and quotas.admit(book, live, step, task, ending)


def _is_at_work(book: Book, node: Node) -> bool:
    lives = book.lives
    return any(goes_on(book, lives[key], lives[key].run.tasks[task]) for key, task in node.tasks)


def comes(live: LiveRun, rest: Collection[str]) -> bool:
    """Whether bytes are brought to a node, or others are to see to them, but for the clusters that `rest`."""
    return any(_comes(live, fetch, rest) for fetch in live.fetches.values())


def _comes(live: LiveRun, fetch: Fetch, rest: Collection[str]) -> bool:
    if fetch.gone or (fetch.said and fetch.pushed):  # it is asked for again and again, which brings nothing
        incoming = live.run.incoming.get(fetch.unit)
        return incoming is not None and incoming.cluster not in rest
    return fetch.said and not fetch.checks


def goes(book: Book, live: LiveRun) -> bool:
    """Whether a node has something that it is to push to another cluster."""
    units = live.run.units
    return any(
        not pushing.must_come(book, push.cluster) and any(book.nodes[name].connected for name in units[unit].copies)
        for unit, pushes in live.run.pushes.items()
        for push in pushes
    )
