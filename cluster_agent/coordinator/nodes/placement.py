"""Which node executes a task: one with room, where the task is expected to start first.

Room is counted in cpus and memory of the tasks that a node was given. Steps that take no longer than a breath are given
to a node ahead of its room, as many as the measured service time says it gets through in a few round trips, so that no
worker waits for us, and many share a message. Among the nodes with room the bytes that would have to move, the queue
and a warm worker decide. A task one of whose inputs no connected node has is parked until such a node comes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import SPLIT, TASK, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes import holding, ordering, preempting, records, tainting
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.runs.ending import fail
from cluster_agent.coordinator.space import disks, pressure, quotas, stuck
from cluster_agent.coordinator.state import Task
from cluster_agent.coordinator.tasks import attempts, parting
from cluster_agent.coordinator.units import damage, fetching, sharing
from cluster_agent.orders.messages import Failure
from cluster_agent.pools.sharing import pour

_WITHIN_CLUSTER: Final = 100e6  # bytes a second between nodes
_WORD: Final = 0.002  # seconds to have a unit fetched
_SPREAD: Final = 1e-3  # so that equal nodes take turns
_AGAIN: Final = 0.5  # what a node counts on which the task failed
_EPSILON: Final = 1e-9


def dispatch(book: Book) -> None:
    """Give tasks to nodes until no task or no room is left: to runs of the highest priority, then those with least."""
    for key in [key for key, live in book.hungry.items() if not (live.dispatching and live.waiting)]:
        del book.hungry[key]
    for priority in sorted({live.graph.priority for live in book.hungry.values()}, reverse=True):
        alike = {key: live for key, live in book.hungry.items() if live.graph.priority == priority}
        if len(alike) > 1 and not book.claims:
            _share(book, alike)
        for key, _ in holding.owners_first(book):
            if key in alike:
                _dispatch_run(book, key)


def _share(book: Book, alike: Mapping[RunKey, LiveRun]) -> None:
    """Give these waiting runs what brings those with least up to the others."""
    used: dict[RunKey, float] = {}
    depth = 1
    for key, live in alike.items():
        used[key] = sum(count * step.cpus for count, step in zip(live.assigned, live.graph.steps, strict=True) if count)
        for step in live.graph.steps:
            if live.ready[step.index]:
                depth = max(depth, _depth(book, live, step))
    free = sum(max(0.0, node.cpus * depth - node.used_cpus) for node in book.nodes.values() if node.open)
    for key, share in pour(free, used).items():
        if share > 0:
            _dispatch_run(book, key, share)


def _dispatch_run(book: Book, key: RunKey, share: float = math.inf) -> None:
    """Give a run's tasks to nodes, of at most so many cpus."""
    live = book.hungry.get(key)
    if live is None:
        return
    served = 0.0
    for step in _in_order(live):
        if live.ready[step.index] and served < share:
            most = math.inf if share == math.inf else math.ceil((share - served) / step.cpus - _EPSILON)
            served += _dispatch_step(book, live, step, most) * step.cpus
    if served:
        del book.hungry[key]
        if live.waiting:
            book.hungry[key] = live  # at the end: of those with equal room others come first next time


def _in_order(live: LiveRun) -> Iterable[Step]:
    """Later steps come first: they free data. But before them what other clusters have sent here because it begins
    sooner than there: behind all that is nearer to the run's end it would wait for long, and it can't be taken back."""
    last_first = live.graph.steps[::-1]
    return sorted(last_first, key=lambda step: not _first_was_sent(live, step)) if live.graph.listeners else last_first


def _first_was_sent(live: LiveRun, step: Step) -> bool:
    queue = live.ready[step.index]
    return bool(queue) and live.was_sent(live.run.tasks[queue[0]])


def _dispatch_step(book: Book, live: LiveRun, step: Step, most: float) -> int:
    served = 0
    queue = live.ready[step.index]
    depth = _depth(book, live, step)
    nodes = _with_room(book, live, step, depth)
    held_back = pressure.holds_back(book, live, step)
    while queue and nodes and served < most:
        task = live.run.tasks[queue[0]]
        if held_back and not live.is_awaited(task):
            break
        able = disks.able(book, live, step, task, quotas.able(book, live, step, task, nodes))
        if not able:
            break
        node = _choose(book, live, step, task, able)
        if node is None:
            live.unready(task)
            continue
        book.commit(records.Assigned(live.key, task.id, node.name, parting.parts(book, live, step, task)))
        if step.kind == TASK and (task.remake or live.run.known):
            damage.done_over(book, live, task, node.name)
        if step.kind == SPLIT and (node.disk_size or quotas.of(book, live)):
            stuck.look_after(book, live)  # it may wait in the middle
        if node.holds:
            preempting.make_way(book, live, node)
        send(book, live, step, task)
        served += 1
        if step.index in live.starved:
            live.starved[step.index] = book.now
        if step.pool_max:
            nodes = _with_room(book, live, step, depth)
        elif not _has_room(book, live, step, node, depth):
            nodes.remove(node)
    if not queue:
        live.starved.pop(step.index, None)
        live.short.pop(step.index, None)
    return served


def _depth(book: Book, live: LiveRun, step: Step) -> int:
    """How many times its room a node is given of the step's tasks."""
    state = live.run.steps[step.index]
    if not state.executed:
        return 1
    waiting = book.policy.ahead_seconds * state.executed / max(state.busy, _EPSILON)
    return 1 + min(book.policy.ahead_most, int(waiting))


def _with_room(book: Book, live: LiveRun, step: Step, depth: int) -> list[Node]:
    if book.no_execute and not tainting.begins(book, step):
        return []
    bound = step.pool_max > 0
    if bound:
        running = [node.running.get(step.definition, 0) for node in book.nodes.values()]
        if sum(running) >= (holding.pool_room(book, live, step) if book.claims else step.pool_max) * depth:
            return []
        bound = sum(count > 0 for count in running) >= step.pool_max  # each of those needs one of the workers
    found = []
    possible = False
    for node in book.nodes.values():
        if not _can_hold(step, node):
            continue
        possible = True
        if bound and not node.running.get(step.definition):
            continue
        if _has_room(book, live, step, node, depth):
            found.append(node)
    if not possible:
        _lacks(book, live, step)
    return found


def begins_at_once(book: Book, live: LiveRun, step: Step, node: Node, before: int) -> bool:
    """Whether a task of the step would begin on the node at once, and nowhere sooner, behind so many others."""
    if pressure.holds_back(book, live, step) or (book.no_execute and not tainting.begins(book, step)):
        return False
    if not quotas.goes_by_itself(book, live, step):
        return False
    if disks.is_short(book, node) or ((node.holds or step.pool_max) and (before or book.claims)):
        return False
    if step.pool_max and sum(each.running.get(step.definition, 0) for each in book.nodes.values()) >= step.pool_max:
        return False
    nodes = [each for each in book.nodes.values() if _can_hold(step, each) and _has_room(book, live, step, each, 1)]
    if node not in nodes or not _has_room(book, live, step, node, 1, before):
        return False
    wait = book.pools.wait(step.definition, node.name, book.now)
    return all(wait <= book.pools.wait(step.definition, each.name, book.now) for each in nodes)


def _can_hold(step: Step, node: Node) -> bool:
    """Whether the node is connected, and large enough for a task of the step."""
    return node.connected and node.fits(step)


def _is_full(book: Book, node: Node, step: Step, depth: int, before: int = 0) -> bool:
    """Whether a node has no place for another worker of the step, and those that it has are given enough."""
    workers = book.pools.most(step.definition, node.name)
    return workers is not None and node.running.get(step.definition, 0) + before >= workers * depth


def _has_room(book: Book, live: LiveRun, step: Step, node: Node, depth: int, before: int = 0) -> bool:
    """Whether a connected node that can hold the step's tasks may be given one more, behind `before` others."""
    if node.cordoned or _is_full(book, node, step, depth, before):
        return False
    if node.holds:
        return holding.may_use(node, live.key, step, depth)
    if not node.has_cpus(step, depth, before):
        return False
    return not step.memory or node.used_memory + (before + 1) * step.memory <= node.memory * depth


def _choose(book: Book, live: LiveRun, step: Step, task: Task, nodes: list[Node]) -> Node | None:
    """The best of `nodes`, or None after the task was parked."""
    units = live.run.units
    there: dict[str, int] = {}
    size = 0
    for ids in live.inputs(task):
        for unit_id in ids:
            unit = units[unit_id]
            reachable = False
            for name in unit.copies:
                if book.nodes[name].connected:
                    reachable = True
                    there[name] = there.get(name, 0) + unit.size + 1
            if not reachable and not sharing.reachable(book, unit):
                live.parked.setdefault(unit_id, []).append(task.id)
                return None
            size += unit.size + 1
    if len(nodes) == 1:
        return nodes[0]
    state = live.run.steps[step.index]
    service = state.busy / state.executed if state.executed else 1.0
    best, best_cost = nodes[0], float("inf")
    for node in nodes:
        away = size - there.get(node.name, 0)
        cost = _SPREAD * node.used_cpus / node.cpus if node.cpus else 0.0
        cost += max(0.0, node.used_cpus + step.cpus - node.cpus) / max(node.cpus, _EPSILON) * service
        if away:
            cost += _WORD + away / _WITHIN_CLUSTER
        cost += book.pools.wait(step.definition, node.name, book.now)
        if task.failed and node.name == task.node:
            cost += _AGAIN
        if cost < best_cost:
            best, best_cost = node, cost
    return best


def send(book: Book, live: LiveRun, step: Step, task: Task) -> None:
    """Have the task's inputs brought to its node, and the task started once they are there."""
    missing = 0
    for ids in live.inputs(task):
        for unit_id in ids:
            if task.node not in live.run.units[unit_id].copies:
                missing += 1
                fetching.bring(book, live, live.run.units[unit_id], task)
    if missing:
        live.missing[task.id] = missing
    else:
        ordering.order(book, live, step, task)


def apply_assigned(book: Book, record: records.Assigned) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks[record.task]
    live.unready(task)
    task.parts = task.parts or record.parts
    attempts.begin(book, live, task, record.node)


def _lacks(book: Book, live: LiveRun, step: Step) -> None:
    if step.index in live.lacking or not any(node.connected for node in book.nodes.values()):
        return
    live.lacking.add(step.index)
    book.wake(book.now + book.policy.lacking_after, "lacking", live.key, step.index)


def expect_nodes(book: Book, live: LiveRun) -> None:
    """A cluster that never had a node has a while to get one."""
    if live.going and not book.state.incarnations:
        book.wake(book.now + book.policy.no_node_after, "no-node", live.key)


def on_no_node(book: Book, run: RunKey) -> None:
    """The while is over."""
    live = book.lives.get(run)
    if live is None or book.state.incarnations or not (live.waiting or live.pending_parts):
        return
    message = (
        f"no node of {book.cluster} has ever joined its agent, so nothing can be executed there; "
        "start a node, or keep the run's steps from that cluster"
    )
    fail(book, live, Failure("start", message))


def on_lacking(book: Book, run: RunKey, index: int) -> None:
    """A step could be held by no node some time ago; if that is still so, its run can't move."""
    live = book.lives.get(run)
    if live is None or not live.going:
        return
    live.lacking.discard(index)
    step = live.graph.steps[index]
    nodes = [node for node in book.nodes.values() if node.connected]
    if not live.ready[index]:
        return
    if not nodes or any(node.fits(step) for node in nodes):
        book.touch(live)
        return
    cpus, memory = max(node.cpus for node in nodes), max(node.memory for node in nodes)
    message = (
        f"step {step.name} needs {step.cpus:g} cpus and {step.memory} bytes of memory, and no node of {book.cluster} "
        f"has that: the largest have {cpus:g} cpus and {memory} bytes; ask for less or add a node"
    )
    fail(book, live, Failure("start", message), step=step.name)
