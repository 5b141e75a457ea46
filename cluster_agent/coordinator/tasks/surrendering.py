"""A task that has no attempts left, where its step says that the run goes on without it (`on_failure`).

    fail       the run fails: nothing of this module
    skip       the task is done and has made nothing; what it read is consumed
    continue   the same, and when all else is done the run has failed

It is counted apart from what is done, and its last failure is kept for people. What comes after just does not have its
units: a step that gathers gets the rest. So it is with a task of which a node says that the condition of its step does
not hold, but that it has not failed.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import FAIL
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import ASSIGNED, DONE, Task
from cluster_agent.coordinator.tasks import attempts, records
from cluster_agent.coordinator.tasks.committing import consume
from cluster_agent.orders.messages import Failure


def surrender(book: Book, live: LiveRun, task: Task, failure: Failure) -> bool:
    """Go on without the task, if its step says so. A task that only made lost units again was done: it can't be."""
    if live.graph.steps[task.step].on_failure == FAIL:
        return False
    return _go_on(book, live, task, failure, unmet=False)


def leave_out(book: Book, live: LiveRun, task: Task, why: Failure) -> bool:
    """Go on without a task since the condition of its step does not hold. When it was executed before, it did."""
    return _go_on(book, live, task, why, unmet=True)


def _go_on(book: Book, live: LiveRun, task: Task, why: Failure, *, unmet: bool) -> bool:
    if task.remake:
        return False
    data: dict[str, object] = {"node": task.node, "attempt": task.attempt, "kind": why.kind, "message": why.message}
    book.commit(records.Surrendered(live.key, task.id, unmet))
    book.publish(live, "task.skipped", live.graph.steps[task.step].name, task.id, data)
    return True


def apply_surrendered(book: Book, record: records.Surrendered) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks[record.task]
    step = live.graph.steps[task.step]
    state = live.run.steps[step.index]
    if task.state == ASSIGNED:
        attempts.leave(book, live, task)
    task.state = DONE
    task.surrendered = True
    state.done += 1
    state.surrendered += 1
    state.unmet += record.unmet
    consume(book, live, step, task)
    live.check.add(step.index)
    book.touch(live)
