"""Between the runs and the pools: what the steps need is told to the autoscaler, what it wants is told to the nodes.

    tasks queued, given, ended ─▶ need, took ─┐
    what will come (foreseeing) ─────────────▶├─▶ pools/core ─▶ SizePool to nodes
    nodes' workers ─▶ told ───────────────────┘

Woken by what happens: a step is *stirred* when a task of it is queued, given or ended, and looked after once, at the
end of the batch. A pool whose workers can't be started anywhere fails the runs that have tasks for it, in the worker's
own words; a run to which that step's tasks may never come goes on. A node that says that no start can ever go well is
not asked twice.
"""

from __future__ import annotations

from bdw_fed.v1 import control_plane_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import TASK, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import PoolTold
from cluster_agent.coordinator.nodes import commands, foreseeing
from cluster_agent.coordinator.runs.ending import fail
from cluster_agent.coordinator.state import RETRYING
from cluster_agent.orders.messages import Failure
from cluster_agent.pools.core import Limits, Room


def look_after(book: Book) -> None:
    """At the end of a batch, before its orders leave: resize the pools whose steps were stirred."""
    for live in book.hungry.values():
        for index, queue in enumerate(live.ready):
            if queue:
                book.stirred[live, index] = None
    if not book.stirred:
        return
    for live in {live: None for live, _ in book.stirred}:
        if live.going:
            for index in foreseeing.look(book, live):
                book.stirred[live, index] = None
    definitions: dict[str, None] = {}
    for live, index in book.stirred:
        step = live.graph.steps[index]
        if step.kind == TASK:
            _tell_needs(book, live, step)
            definitions[step.definition] = None
    book.stirred.clear()
    for definition in definitions:
        resize(book, definition)


def _tell_needs(book: Book, live: LiveRun, step: Step) -> None:
    who = (live.key, step.index)
    state = live.run.steps[step.index]
    if not live.going or state.closed or not step.here:
        book.pools.release(step.definition, who)
        return
    book.pooled[step.definition] = step
    limits = Limits(
        step.pool_min,
        step.pool_max,
        step.pool_idle,
        step.cpus,
        step.memory,
        step.pool_step,
        step.pool_pause,
        step.attempts,
    )
    queued = len(live.ready[step.index]) if live.dispatching else 0
    arriving = live.arriving[step.index] if live.arriving else None
    book.pools.need(step.definition, who, queued, limits, arriving)
    tasks, seconds = live.measured.get(step.index, (0, 0.0))
    if state.executed > tasks:
        book.pools.took(step.definition, state.executed - tasks, state.busy - seconds)
        live.measured[step.index] = (state.executed, state.busy)


def resize(book: Book, definition: str) -> None:
    """Tell the nodes what the pool of a definition wants now."""
    step = book.pooled.get(definition)
    if step is None:
        return
    told, again = book.pools.resize(definition, _rooms(book, step), book.now)
    for change in told:
        book.tell_first(change.node, commands.size_pool(step, change.workers))
    if again is not None:
        known = book.pool_timers.get(definition)
        if known is None or known <= book.now or again < known:
            book.pool_timers[definition] = again
            book.wake(again, "pool", definition)


def _rooms(book: Book, step: Step) -> dict[str, Room]:
    return {
        name: Room(
            0.0 if node.cordoned else node.cpus,
            node.memory,
            node.running.get(step.definition, 0),
            node.cpus - node.used_cpus,
            float(sum(node.running.get(producer.definition, 0) for producer in step.producers)),
        )
        for name, node in book.nodes.items()
        if node.connected
    }


def on_due(book: Book, definition: str) -> None:
    """The time has come at which a pool's size may be different."""
    if book.pool_timers.get(definition, book.now + 1) <= book.now:
        del book.pool_timers[definition]
    resize(book, definition)


def on_told(book: Book, event: PoolTold) -> None:
    """A node told of its workers."""
    node = book.nodes[event.node]
    if not node.connected:
        return
    most = book.pools.most(event.definition, event.node)
    book.pools.told(
        event.definition,
        event.node,
        event.starting,
        event.idle,
        event.busy,
        book.now,
        start_seconds=event.start_seconds,
        error=event.error,
        full=event.full,
        final=event.final,
    )
    if book.pools.most(event.definition, event.node) != most:
        book.slots_known.clear()
    if event.error:
        _give_up(book, event.definition)
    resize(book, event.definition)


def _give_up(book: Book, definition: str) -> None:
    """Fail the runs that have tasks for a pool of which no worker can be started."""
    step = book.pooled.get(definition)
    if step is None:
        return
    error = book.pools.hopeless(definition, _rooms(book, step))
    if not error:
        return
    for live in list(book.lives.going.values()):
        for own in live.graph.steps:
            if own.definition == definition and own.kind == TASK and _wants_worker(live, own):
                message = f"no worker of {definition} can be started on {book.cluster}: {error}"
                fail(book, live, Failure("start", message), step=own.name)
                break


def _wants_worker(live: LiveRun, step: Step) -> bool:
    """Whether tasks of the step are there: they wait, are given to a node, or are about to be tried again."""
    if live.ready[step.index] or live.assigned[step.index]:
        return True
    return any(task.step == step.index and task.state == RETRYING for task in live.run.tasks.values())


def node_changed(book: Book, name: str) -> None:
    """A node came or went: what it was told is void, and its share goes to others."""
    book.pools.forget_node(name)
    for definition in book.pools.definitions():
        resize(book, definition)


def statuses(book: Book) -> list[control_plane_pb2.PoolStatus]:
    """All pools, as people see them."""
    return [
        control_plane_pb2.PoolStatus(
            definition=pool.definition,
            desired=pool.desired,
            starting=pool.starting,
            idle=pool.idle,
            busy=pool.busy,
            queued=pool.queued,
            service_seconds=pool.service,
            start_seconds=pool.start,
            reason=pool.reason,
        )
        for pool in book.pools.figures()
    ]
