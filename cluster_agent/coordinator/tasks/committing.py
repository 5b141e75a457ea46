"""What becomes of a task's results: they are committed once, and everything that follows from them follows then.

A result counts if it is of the attempt that we know of, from the node that we gave it to. Any other is late: it is
acknowledged, so that the node stops repeating it, and what it made is freed there, unless that is what we hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster_agent.coordinator.actions import TaskEnd
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import caching, remembering
from cluster_agent.coordinator.clusters import loads, routing
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.state import ASSIGNED, DONE, RETRYING, Task
from cluster_agent.coordinator.tasks import attempts, crossing, records, tracing
from cluster_agent.coordinator.tasks.grouping import add
from cluster_agent.coordinator.tasks.making import make
from cluster_agent.coordinator.units import damage
from cluster_agent.coordinator.units.freeing import drop_use, end_use, let_go_if_due, let_inputs_go
from cluster_agent.orders.messages import Output, Produced, Result, Started


def current(live: LiveRun | None, node: str, task: bytes, attempt: int) -> Task | None:
    """The task of a run that a node speaks of, if the word is of the attempt that counts."""
    if live is None or not live.going:
        return None
    known = live.run.tasks.get(task)
    if known is None or known.attempt != attempt or known.node != node or known.state not in (ASSIGNED, RETRYING):
        return None
    return known


def on_started(book: Book, node: str, said: Started) -> None:
    """A worker took tasks that did not end at once."""
    live = book.lives.get(RunKey(said.namespace, said.run))
    for task_id, attempt in said.tasks:
        task = current(live, node, task_id, attempt)
        if live is not None and task is not None and task.state == ASSIGNED:
            live.started[task.id] = book.now
            book.note(live)
            publish_started(book, live, task)


def publish_started(book: Book, live: LiveRun, task: Task, *, ago: float = 0.0) -> None:
    """Tell that a worker has taken a task, so many seconds ago."""
    data: dict[str, object] = {"node": task.node, "attempt": task.attempt}
    book.publish(live, "task.started", live.graph.steps[task.step].name, task.id, data, ago=ago)


def on_produced(book: Book, node: str, said: Produced) -> None:
    """A task that still runs has made units: they move on at once."""
    run = RunKey(said.namespace, said.run)
    live = book.lives.get(run)
    task = current(live, node, said.task, said.attempt)
    if live is None or task is None:
        free_late(book, node, run, said.task, said.outputs)  # it is stopped in the middle, and never tells its end
        return
    step = live.graph.steps[task.step]
    chosen = routing.routes(book, live, step, said.outputs, tracing.of_task(live, step, task))
    book.commit(records.Produced(live.key, task.id, node, said.outputs, chosen))


def on_done(book: Book, live: LiveRun, task: Task, node: str, result: Result) -> None:
    """The current attempt of a task ended well."""
    if task.id not in live.started:
        publish_started(book, live, task, ago=result.seconds)
    step = live.graph.steps[task.step]
    if step.free:
        loads.observe_task(book, step, result)
    chosen = routing.routes(book, live, step, result.outputs, tracing.of_task(live, step, task), ends=True)
    followed = tuple(edge.index for edge in step.follow.values()) if result.followed else ()
    record = records.Committed(
        live.key, task.id, result.attempt, node, result.outputs, result.seconds, result.bytes_in, chosen, followed
    )
    again = task.remake
    book.commit(record)
    if step.cache_key and not again:
        caching.fill(book, live, step, task, node)
    book.publish(live, "task.done", step.name, task.id, TaskEnd(node, result, task.inputs))


def free_late(book: Book, node: str, run: RunKey, task: bytes, outputs: Iterable[Output]) -> None:
    """Free what a late result left on a node, but for what we hold there, or are making there again just now.

    Of what we hold there it may have other bytes, in the place of those that were there before.
    """
    live = book.lives.get(run)
    if live is None:
        for output in outputs:
            book.free(node, run, output.unit.id)
        return
    known = live.run.tasks.get(task)
    if known is not None and known.state == ASSIGNED and known.node == node:
        return
    damage.lose(book, live, node, [output.unit.id for output in outputs if _is_other(live, output)])
    for output in outputs:
        unit = live.run.units.get(output.unit.id)
        if unit is None and live.stocked(output.unit.id, node):
            continue
        if unit is None or not (node in unit.copies or live.fetching(unit.id, node)):
            book.free(node, run, output.unit.id)


def _is_other(live: LiveRun, output: Output) -> bool:
    """Whether a unit has other bytes than the one of that name which we know."""
    identifier = output.unit.id
    ours = live.run.units.get(identifier) or (live.stock[identifier].unit if identifier in live.stock else None)
    return ours is not None and ours.digest != output.unit.digest


def apply_produced(book: Book, record: records.Produced) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks[record.task]
    step = live.graph.steps[task.step]
    maker = tracing.of_task(live, step, task)
    make(book, live, step, task.id, record.outputs, record.routes, maker, node=record.node)
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
    else:
        live.leave_parked(task)
    task.state = DONE
    live.needs.pop(task.id, None)
    if live.run.known:
        remembering.executed(book, live, task.id, record.node)
    made = make(
        book,
        live,
        step,
        task.id,
        record.outputs,
        record.routes,
        tracing.of_task(live, step, task),
        node=record.node,
        followed=record.followed,
        retried=record.attempt > 1,
    )
    if task.remake:
        task.remake = False
        for units in live.inputs(task):
            for unit in units:
                drop_use(book, live, live.run.units[unit])
        if task.id in live.run.bare:
            let_inputs_go(book, live, task)
        let_go_if_due(book, live, step)
    else:
        task.outputs = made
        state.done += 1
        state.busy += record.seconds
        state.bytes_in += record.bytes_in
        consume(book, live, step, task)
    if not state.open:
        live.check.add(step.index)
    book.touch(live)


def consume(book: Book, live: LiveRun, step: Step, task: Task, *, hold: bool = False) -> None:
    """A task's inputs are consumed; `hold`: but they are still needed. Part of applying a record."""
    state = live.run.steps[step.index]
    units = live.run.units
    for edge, taken in zip(step.inputs, task.inputs, strict=True):
        if edge.side or (step.crosses is not None and not crossing.whole(live, step, taken[0])):
            continue
        state.open -= len(taken)
        for unit in taken:
            add(state.consumed, edge.port, unit)
            if not hold:
                end_use(book, live, edge, units[unit])
