"""What becomes of a task's results: they are committed once, and everything that follows from them follows then.

A result counts if it is of the attempt that we know of, from the node that we gave it to. Any other is late: it is
acknowledged, so that the node stops repeating it, and what it made is freed there, unless that is what we hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cluster_agent.coordinator import attempts, loads, records, routing
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import SAME_CLUSTER, Step
from cluster_agent.coordinator.freeing import drop_use, end_use
from cluster_agent.coordinator.grouping import add
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.making import make
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.state import ASSIGNED, DONE, RETRYING, Task
from cluster_agent.orders.messages import Output, Produced, Result, Started

_UNITS_TOLD: Final = 4  # of each port, in an event


def current(book: Book, node: str, run: RunKey, task: bytes, attempt: int) -> tuple[LiveRun, Task] | None:
    """The run and the task that a node speaks of, if the word is of the attempt that counts."""
    live = book.lives.get(run)
    if live is None or not live.going:
        return None
    known = live.run.tasks.get(task)
    if known is None or known.attempt != attempt or known.node != node or known.state not in (ASSIGNED, RETRYING):
        return None
    return live, known


def on_started(book: Book, node: str, said: Started) -> None:
    """A worker took tasks that did not end at once."""
    run = RunKey(said.namespace, said.run)
    for task_id, attempt in said.tasks:
        found = current(book, node, run, task_id, attempt)
        if found is None or found[1].state != ASSIGNED:
            continue
        live, task = found
        live.started[task.id] = book.now
        book.note(live)
        publish_started(book, live, task)


def publish_started(book: Book, live: LiveRun, task: Task, *, ago: float = 0.0) -> None:
    """Tell that a worker has taken a task, so many seconds ago."""
    if book.policy.publish:
        data: dict[str, object] = {"node": task.node, "attempt": task.attempt}
        book.publish(live, "task.started", live.graph.steps[task.step].name, task.id, data, ago=ago)


def on_produced(book: Book, node: str, said: Produced) -> None:
    """A task that still runs has made units: they move on at once."""
    found = current(book, node, RunKey(said.namespace, said.run), said.task, said.attempt)
    if found is None:
        return  # its end will be told, and all of its units with it
    live, task = found
    step = live.graph.steps[task.step]
    chosen = routing.routes(book, live, step, said.outputs)
    book.commit(records.Produced(live.key, task.id, node, said.outputs, chosen))


def on_done(book: Book, live: LiveRun, task: Task, node: str, result: Result) -> None:
    """The current attempt of a task ended well."""
    if task.id not in live.started:
        publish_started(book, live, task, ago=result.seconds)
    step = live.graph.steps[task.step]
    if step.free:
        loads.observe_task(book, step, result)
    chosen = routing.routes(book, live, step, result.outputs)
    followed = tuple(edge.index for edge in step.follow.values()) if result.followed else ()
    record = records.Committed(
        live.key, task.id, result.attempt, node, result.outputs, result.seconds, result.bytes_in, chosen, followed
    )
    book.commit(record)
    if book.policy.publish:
        data: dict[str, object] = {
            "node": node,
            "attempt": result.attempt,
            "seconds": result.seconds,
            "queued": result.queued,
            "starting": result.starting,
            "bytes": result.bytes_in,
            "units": len(result.outputs),
            "made": [output.unit.id for output in result.outputs[:_UNITS_TOLD]],
            "of": [unit for units in task.inputs for unit in units[:_UNITS_TOLD]],
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
        attempts.leave(book, live, task)
    elif task.id in live.requeued:
        live.unready(task)
    task.state = DONE
    made = make(
        book,
        live,
        step,
        task.id,
        record.outputs,
        record.routes,
        node=record.node,
        origin=task.origin,
        followed=record.followed,
        retried=record.attempt > 1,
    )
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
