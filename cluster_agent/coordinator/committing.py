"""What becomes of a task's results: they are committed once, and everything that follows from them follows then.

A result counts if it is of the attempt that we know of, from the node that we gave it to. Any other is late: it is
acknowledged, so that the node stops repeating it, and what it made is freed there, unless that is what we hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster_agent.coordinator import records, routing
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import SAME_CLUSTER, Step
from cluster_agent.coordinator.freeing import drop_use, end_use
from cluster_agent.coordinator.grouping import add
from cluster_agent.coordinator.live import LiveRun, give_room
from cluster_agent.coordinator.making import make
from cluster_agent.coordinator.messages import RunKey, TaskDone, TaskProduced, TaskStarted
from cluster_agent.coordinator.state import ASSIGNED, DONE, RETRYING, Task
from cluster_agent.orders.messages import Output


def current(book: Book, node: str, run: RunKey, task: bytes, attempt: int) -> tuple[LiveRun, Task] | None:
    """The run and the task that a node speaks of, if the word is of the attempt that counts."""
    live = book.lives.get(run)
    if live is None or not live.going:
        return None
    known = live.run.tasks.get(task)
    if known is None or known.attempt != attempt or known.node != node or known.state not in (ASSIGNED, RETRYING):
        return None
    return live, known


def on_started(book: Book, event: TaskStarted) -> None:
    """A worker took a task."""
    found = current(book, event.node, event.run, event.task, event.attempt)
    if found is None or found[1].state != ASSIGNED:
        return
    live, task = found
    live.started[task.id] = book.now
    step = live.graph.steps[task.step]
    book.note(live)
    book.publish(live, "task.started", step.name, task.id, {"node": event.node, "attempt": event.attempt})


def on_produced(book: Book, event: TaskProduced) -> None:
    """A task that still runs has made units: they move on at once."""
    found = current(book, event.node, event.run, event.task, event.attempt)
    if found is None:
        return  # its end will be told, and all of its units with it
    live, task = found
    step = live.graph.steps[task.step]
    chosen = routing.routes(book, live, step, event.outputs)
    book.commit(records.Produced(live.key, task.id, event.node, event.outputs, chosen))


def on_done(book: Book, event: TaskDone) -> None:
    """A task ended well."""
    book.ack(event.node, event.run, event.task, event.attempt)
    found = current(book, event.node, event.run, event.task, event.attempt)
    if found is None:
        free_late(book, event.node, event.run, event.task, event.outputs)
        return
    live, task = found
    step = live.graph.steps[task.step]
    chosen = routing.routes(book, live, step, event.outputs)
    book.commit(
        records.Committed(
            live.key,
            task.id,
            event.attempt,
            event.node,
            event.outputs,
            event.seconds,
            event.bytes_in,
            chosen,
        )
    )
    if book.policy.publish:
        data: dict[str, object] = {
            "node": event.node,
            "attempt": event.attempt,
            "seconds": event.seconds,
            "units": len(event.outputs),
        }
        book.publish(live, "task.done", step.name, task.id, data)


def free_late(book: Book, node: str, run: RunKey, task: bytes, outputs: Iterable[Output]) -> None:
    """Free what a late result left on a node, but for what we hold there, or are making there again just now."""
    live = book.lives.get(run)
    if live is None:
        for output in outputs:
            book.free(node, run, output.unit.id)
        return
    known = live.run.tasks.get(task)
    if known is not None and known.state == ASSIGNED and known.node == node:
        return
    for output in outputs:
        unit = live.run.units.get(output.unit.id)
        if unit is None or not (node in unit.copies or live.fetching(unit.id, node)):
            book.free(node, run, output.unit.id)


def apply_produced(book: Book, record: records.Produced) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks[record.task]
    step = live.graph.steps[task.step]
    make(book, live, step, task.id, record.outputs, record.routes, node=record.node, origin=task.origin)
    book.touch(live)


def apply_committed(book: Book, record: records.Committed) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks[record.task]
    step = live.graph.steps[task.step]
    state = live.run.steps[step.index]
    if task.state == ASSIGNED:
        leave_node(book, live, task)
    elif task.id in live.requeued:
        live.unready(task)
    task.state = DONE
    made = make(book, live, step, task.id, record.outputs, record.routes, node=record.node, origin=task.origin)
    if task.remake:
        task.remake = False
        for units in live.inputs(task):
            for unit in units:
                drop_use(book, live, live.run.units[unit])
    else:
        task.outputs = made
        state.done += 1
        state.busy += record.seconds
        state.bytes_in += record.bytes_in
        _consume(book, live, step, task)
    if not state.open:
        live.check.add(step.index)
    book.touch(live)


def _consume(book: Book, live: LiveRun, step: Step, task: Task) -> None:
    state = live.run.steps[step.index]
    units = live.run.units
    for edge, taken in zip(step.inputs, task.inputs, strict=True):
        if edge.pairing == SAME_CLUSTER:
            continue
        state.open -= len(taken)
        for unit in taken:
            add(state.consumed, edge.port, unit)
            end_use(book, live, edge, units[unit])


def leave_node(book: Book, live: LiveRun, task: Task) -> None:
    """The node is done with the task, or shall be. Part of applying a record."""
    live.assigned[task.step] -= 1
    book.stirred[live, task.step] = None
    give_room(book.nodes, live, task)
