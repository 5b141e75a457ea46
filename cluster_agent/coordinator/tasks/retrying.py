"""Attempts that ended badly: when a task is tried again, and when no more.

What the step itself did wrong uses up its attempts, with a wait that grows as the step says; so does a step that can't
be started, since who wrote it waits for that word. A parameter that another step has made, and that is none that the
step takes, is a reason to stop at once, and so is a file that a splitter or a merger can't read. What happened to it (a
node or a worker lost, bytes that did not come) does not, up to a bound, so that a broken node can't spin for ever. An
attempt that a node has given back, because it has no place for it, was never made. One that met a full disk waits for
room there, as long as it takes (see `disks`, `stuck`). The wait is not logged: after a restart it begins anew.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.runs.ending import fail, keep_mishap
from cluster_agent.coordinator.space import disks
from cluster_agent.coordinator.state import ASSIGNED, RETRYING, Mishap, Task
from cluster_agent.coordinator.tasks import attempts, records
from cluster_agent.coordinator.tasks.committing import publish_started
from cluster_agent.coordinator.tasks.judging import may_try_again, wait_after
from cluster_agent.coordinator.tasks.surrendering import leave_out, surrender
from cluster_agent.coordinator.units import mending
from cluster_agent.orders.messages import UNMET, Failure, Result

NOT_THE_STEPS_FAULT: Final = frozenset(("data", "lost"))
FINAL: Final = frozenset(("value", "content", UNMET))  # another attempt would end in the same way
GIVEN_BACK: Final = "room"

NEVER_MADE: Final = 0
BLAMELESS: Final = 1
COUNTED: Final = 2
WAITED: Final = 3  # for room on a disk: it is shown, and uses up nothing

FULL: Final = "full"  # the node's disk


def on_failed(book: Book, live: LiveRun, task: Task, result: Result, failure: Failure) -> None:
    """The current attempt of a task failed on its node, or was not made."""
    if failure.kind == UNMET and leave_out(book, live, task, failure):
        return
    if result.seconds and task.id not in live.started:
        publish_started(book, live, task, ago=result.seconds)
    counts = BLAMELESS if failure.kind in NOT_THE_STEPS_FAULT else COUNTED
    if failure.kind == GIVEN_BACK:
        counts = NEVER_MADE
    elif failure.kind == FULL:
        counts = WAITED if book.nodes[task.node].disk_size else BLAMELESS
        disks.fell_short(live, task, book.nodes[task.node])
    end_attempt(book, live, task, failure, counts)
    if failure.kind == "data":
        mending.distrust(book, live, task)


def end_attempt(book: Book, live: LiveRun, task: Task, failure: Failure, counts: int) -> None:
    """Give up the current attempt of an assigned task; try again, or fail the run."""
    step = live.graph.steps[task.step]
    data: dict[str, object] = {
        "node": task.node,
        "attempt": task.attempt,
        "kind": failure.kind,
        "message": failure.message,
    }
    book.commit(records.AttemptEnded(live.key, task.id, task.attempt, failure, counts))
    if counts != NEVER_MADE:
        book.publish(live, "task.failed", step.name, task.id, data)
    if failure.kind in FINAL:
        fail(book, live, failure, step=step.name, task=task.id)
        return
    again = counts == NEVER_MADE or may_try_again(step, failure, blamed=counts == COUNTED)
    if not again or task.failed >= step.attempts or task.lost >= book.policy.lost_bound:
        if surrender(book, live, task, failure):
            return
        last = f"that was the last of {task.failed + task.lost} attempts"
        why = last if again else f"the step's retry says that this is not tried again (attempt {task.attempt})"
        last_words = Failure(failure.kind, f"{failure.message}; {why}", failure.detail, failure.code)
        fail(book, live, last_words, step=step.name, task=task.id)
        return
    delay = wait_before_next(book, live, task, counts)
    book.wake(book.now + delay, "retry", live.key, task.id, task.attempt)
    if counts != NEVER_MADE:
        book.publish(live, "task.retrying", step.name, task.id, {**data, "after_seconds": delay})


def wait_before_next(book: Book, live: LiveRun, task: Task, counts: int) -> float:
    """Seconds until the task may be tried again."""
    if counts == NEVER_MADE:
        return book.policy.settle_after_join
    if counts == WAITED:
        return book.policy.first_backoff
    if counts == COUNTED:
        return wait_after(live.graph.steps[task.step], task.id, task.failed)
    return book.policy.wait(task.lost)


def on_retry_due(book: Book, run: RunKey, task: bytes, attempt: int) -> None:
    """The wait is over."""
    live = book.lives.get(run)
    if live is None or not live.going:
        return
    known = live.run.tasks.get(task)
    if known is None or known.state != RETRYING or known.attempt != attempt or task in live.requeued:
        return
    live.requeued.add(task)
    live.make_ready(known)
    book.touch(live)


def resume(book: Book, live: LiveRun) -> None:
    """After a restart: all waits begin anew."""
    for task in live.run.tasks.values():
        if task.state == RETRYING and live.going:
            counts = COUNTED if task.failed else NEVER_MADE
            book.wake(book.now + wait_before_next(book, live, task, counts), "retry", live.key, task.id, task.attempt)


def apply_attempt_ended(book: Book, record: records.AttemptEnded) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks[record.task]
    step = live.graph.steps[task.step]
    if task.state == ASSIGNED:
        attempts.leave(book, live, task)
    task.state = RETRYING
    if record.counts != NEVER_MADE:
        task.failure = record.failure
    if record.counts in (BLAMELESS, COUNTED):
        live.run.steps[task.step].failed += 1
        keep_mishap(book, live, Mishap(step.name, task.id, task.node, record.attempt, record.failure))
        if record.counts == COUNTED:
            task.failed += 1
        else:
            task.lost += 1
    book.touch(live)
