"""What may take only so long: a run as a whole, tasks that wait for a node, and an attempt that waits for a worker.

How long a run has gone on is counted by `timing`; whichever cluster's count is over first ends the run. The two other
waits begin anew after a restart, as the waits before a retry do.

    queue   a step has tasks that wait, and none of them was given to a node for so long: the run fails
    start   a node has a task and all its inputs, and no worker has taken it for so long: the attempt fails
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.runs import timing
from cluster_agent.coordinator.runs.ending import fail
from cluster_agent.coordinator.state import ASSIGNED
from cluster_agent.coordinator.tasks import retrying
from cluster_agent.orders.messages import Failure

# ---------------------------------------------------------------------------------------------------- the whole run


def on_run_due(book: Book, run: RunKey, since: float) -> None:
    """It is time to keep the count, or to end the run."""
    live = book.lives.get(run)
    if live is None or live.counted_since != since or not live.going:
        return
    timing.keep(book, live)
    limit = live.graph.timeout
    if live.run.elapsed >= limit:
        message = (
            f"the run has gone on for {limit:g} s on {book.cluster}, which is all that its policy allows (timeout)"
        )
        fail(book, live, Failure("timeout", message))
        return
    live.counted_since = None
    timing.begin(book, live)


# --------------------------------------------------------------------------------------------- tasks without a node


def watch_queues(book: Book) -> None:
    """After a dispatch: steps whose tasks still wait are looked at when their time is over."""
    for live in book.hungry.values():
        for step in live.graph.hurried:
            if not live.ready[step.index]:
                continue
            live.starved.setdefault(step.index, book.now)
            if step.index not in live.queues_watched:
                _watch_queue(book, live, step)


def _watch_queue(book: Book, live: LiveRun, step: Step) -> None:
    live.queues_watched.add(step.index)
    book.wake(live.starved[step.index] + step.queue_timeout, "queue", live.key, step.index)


def on_queue_due(book: Book, run: RunKey, index: int) -> None:
    """A step's tasks may have waited for long."""
    live = book.lives.get(run)
    if live is None or not live.going:
        return
    live.queues_watched.discard(index)
    step = live.graph.steps[index]
    since = live.starved.get(index)
    if since is None or not live.ready[index]:
        return
    if not live.dispatching:
        del live.starved[index]  # it is suspended; the wait begins anew with the run
        return
    if book.now < since + step.queue_timeout:
        _watch_queue(book, live, step)
        return
    message = (
        f"{len(live.ready[index])} tasks of step {step.name} wait on {book.cluster}, and none could be given to a node "
        f"for {step.queue_timeout:g} s (timeout.queue); see `bdw-fed describe` of the cluster for what occupies it"
    )
    fail(book, live, Failure("timeout", message), step=step.name)


# ----------------------------------------------------------------------------------------- attempts without a worker


def on_start_due(book: Book, run: RunKey, task_id: bytes, attempt: int) -> None:
    """A worker should have taken an attempt that was ordered."""
    live = book.lives.get(run)
    task = live.run.tasks.get(task_id) if live is not None and live.going else None
    if live is None or task is None or task.state != ASSIGNED or task.attempt != attempt or task_id in live.started:
        return
    step = live.graph.steps[task.step]
    book.tell(task.node, commands.cancel(run, task_id, attempt))
    message = f"no worker on node {task.node} has taken it within {step.start_timeout:g} s (timeout.start)"
    retrying.end_attempt(book, live, task, Failure("timeout", message), retrying.COUNTED)


def resume(book: Book, live: LiveRun) -> None:
    """After a restart: what was counted stands, and the waits begin anew."""
    timing.begin(book, live)
    if not live.going or not any(step.start_timeout for step in live.graph.steps):
        return
    for task in live.run.tasks.values():
        limit = live.graph.steps[task.step].start_timeout
        if task.state == ASSIGNED and limit:
            book.wake(book.now + limit, "start", live.key, task.id, task.attempt)
