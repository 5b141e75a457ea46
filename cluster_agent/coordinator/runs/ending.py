"""How a fragment ends: with all of its steps closed and nothing owed, by a failure, or because nobody wants it.

A fragment that ended well keeps everything until the whole run has: `FINISHED` frees all but the results, `FORGOTTEN`
those too; some results go earlier (see `expiring`). One that failed or was cancelled frees all but results at once,
since nothing will come of the rest; or if it retains, when nobody has tried it again for long (see `retaining`).
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator.actions import SendHub
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import early
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import DesiredChanged, RunKey
from cluster_agent.coordinator.nodes import commands, following, holding, ordering
from cluster_agent.coordinator.nodes.room import give_room
from cluster_agent.coordinator.runs import expiring, records, reserving, retaining, timing
from cluster_agent.coordinator.runs.reporting import fragment_status
from cluster_agent.coordinator.space import copies, underway
from cluster_agent.coordinator.state import ASSIGNED, DONE, RETRYING, Mishap
from cluster_agent.coordinator.tasks import broadcasting
from cluster_agent.coordinator.units import clearing, shared
from cluster_agent.coordinator.units.freeing import drop_use, let_go_if_due
from cluster_agent.orders.messages import Failure

SUCCEEDED: Final = int(model_pb2.FRAGMENT_STATE_SUCCEEDED)
FAILED: Final = int(model_pb2.FRAGMENT_STATE_FAILED)
CANCELLED: Final = int(model_pb2.FRAGMENT_STATE_CANCELLED)

WANT_SUSPENDED: Final = int(model_pb2.DESIRED_STATE_SUSPENDED)
WANT_RETAINED: Final = retaining.WANT_RETAINED
WANT_CANCELLED: Final = int(model_pb2.DESIRED_STATE_CANCELLED)
WANT_FINISHED: Final = retaining.WANT_FINISHED
WANT_FORGOTTEN: Final = int(model_pb2.DESIRED_STATE_FORGOTTEN)

_FORGOTTEN_KEPT: Final = 10_000
_NAMES: Final = {SUCCEEDED: "succeeded", FAILED: "failed", CANCELLED: "cancelled"}


def on_desired(book: Book, event: DesiredChanged) -> None:
    """The run is wanted in another state."""
    live = book.lives.get(event.run)
    if event.desired == WANT_FORGOTTEN:
        reserving.forget(book, event.run)
    if live is None or live.run.desired == event.desired:
        return
    want(book, live, event.desired, event.reason)


def want(book: Book, live: LiveRun, desired: int, reason: str) -> None:
    """Bring the run into the desired state, as far as it has not ended."""
    if live.going and desired in (WANT_CANCELLED, WANT_RETAINED, WANT_FINISHED, WANT_FORGOTTEN):
        asked = Failure("cancelled", reason) if reason and desired == WANT_CANCELLED else None
        end(book, live, CANCELLED, asked)
    if live.going and desired == WANT_SUSPENDED:
        timing.hold(book, live)
    if _frees(live, desired) or desired == WANT_FORGOTTEN:
        _end_on_nodes(book, live, keep=desired != WANT_FORGOTTEN)
    ended = bool(live.run.over)
    book.commit(records.DesiredSet(live.key, desired, reason, book.wall, live.graph.revision))
    timing.begin(book, live)
    retaining.watch(book, live)
    if live.run.over and not ended:
        expiring.begin(book, live)
    if live.going:
        for node in book.nodes:
            following.say_hold(book, live, node)


def forget_unheard(book: Book, run: RunKey, revision: int) -> None:
    """The hub wants nothing of a fragment that we have not got: nor will what peers have said of it be heard."""
    if book.state.forgotten.get(run_name(run.namespace, run.run), -1) < revision:
        book.commit(records.DesiredSet(run, WANT_FORGOTTEN, "", book.wall, revision))


def _frees(live: LiveRun, desired: int) -> bool:
    """Whether this word frees all but the run's results."""
    return desired == WANT_FINISHED or (desired == WANT_RETAINED and not live.graph.retain)


def end_if_due(book: Book, live: LiveRun) -> None:
    """End the fragment well if all that concerns it is closed, it owes nobody, and its results have their bytes."""
    if not live.going or live.unclosed or live.owed or broadcasting.owed_to_us(live):
        return
    if all(live.run.units[unit].copies for _, unit in live.run.outputs):
        end(book, live, SUCCEEDED, None)


def say_results(book: Book, live: LiveRun) -> None:
    """Tell the hub of new results."""
    if live.results:
        status = fragment_status(book, live, only=live.results)
        live.results.clear()
        book.actions.append(SendHub("output", status.SerializeToString()))


def fail(book: Book, live: LiveRun, failure: Failure, *, step: str = "", task: bytes = b"") -> None:
    """End the fragment by a failure that cannot be mended."""
    if live.going:
        end(book, live, FAILED, failure, step=step, task=task)


def end(book: Book, live: LiveRun, state: int, failure: Failure | None, *, step: str = "", task: bytes = b"") -> None:
    """End the fragment and tell the hub."""
    if state != SUCCEEDED and live.graph.retain:
        retaining.stop_on_nodes(book, live)
    elif state != SUCCEEDED:
        _end_on_nodes(book, live, keep=True)
    else:
        _cancel_remakes(book, live)
    book.commit(records.Ended(live.key, state, failure, step, task))
    book.actions.append(SendHub("ended", fragment_status(book, live).SerializeToString()))
    data: dict[str, object] = {"state": _NAMES[state]}
    if failure is not None:
        data["message"] = failure.message
    book.publish(live, "fragment.ended", step, task, data)


def _cancel_remakes(book: Book, live: LiveRun) -> None:
    for node in book.nodes.values():
        for run, task in node.tasks:
            if run == live.key:
                book.tell(node.name, commands.cancel(run, task, live.run.tasks[task].attempt))


def _end_on_nodes(book: Book, live: LiveRun, *, keep: bool) -> None:
    kept = [unit for _, unit in live.run.outputs] if keep else []
    sweeper = next((node.name for node in book.nodes.values() if node.connected and node.places), "")
    away = live.going_away()
    command = commands.end_run(live.key, kept, away=away)
    for node in book.nodes:
        book.tell(node, command if node != sweeper else commands.end_run(live.key, kept, sweep=True, away=away))


def apply_desired(book: Book, record: records.DesiredSet) -> None:
    """See records."""
    name = run_name(record.run.namespace, record.run.run)
    live = book.lives.get(record.run)
    if record.desired == WANT_FORGOTTEN:
        early.forget(book, name, record.revision)
        if live is not None:
            clearing.leave_all(book, live)
            drop(book, live)
        _remember_forgotten(book.state.forgotten, name, record.revision)
        return
    if live is None:
        return
    live.run.desired = record.desired
    expiring.note_end(live, record.desired, record.at)
    for step in live.graph.steps:
        book.stirred[live, step.index] = None
    if _frees(live, record.desired):
        _sweep(book, live, forget_tasks=True)
    book.touch(live)


def _remember_forgotten(forgotten: dict[str, int], name: str, revision: int) -> None:
    """So that what peers still say of the run is not kept for a fragment that never comes. The newest are enough."""
    forgotten.pop(name, None)
    forgotten[name] = revision
    if len(forgotten) > _FORGOTTEN_KEPT:
        del forgotten[next(iter(forgotten))]


def on_retention_due(book: Book, run: RunKey, epoch: int) -> None:
    """Nobody has tried the run again for as long as it retains its data."""
    live = book.lives.get(run)
    if live is None or live.graph.epoch != epoch or not retaining.retains(live):
        return
    _end_on_nodes(book, live, keep=True)
    book.commit(records.RetentionOver(live.key))


def apply_retention_over(book: Book, record: records.RetentionOver) -> None:
    """See records."""
    live = book.lives[record.run]
    _sweep(book, live, forget_tasks=True)
    book.touch(live)


def apply_ended(book: Book, record: records.Ended) -> None:
    """See records."""
    live = book.lives[record.run]
    run = live.run
    run.state = record.state
    if record.failure is not None:
        task = run.tasks.get(record.task)
        node, attempt = (task.node, task.attempt) if task is not None else ("", 0)
        if run.failures and (run.failures[-1].task, run.failures[-1].attempt) == (record.task, attempt):
            run.failures.pop()  # the attempt's own word: what ends the run says it too
        keep_mishap(book, live, Mishap(record.step, record.task, node, attempt, record.failure))
    stop_work(book, live)
    if record.state != SUCCEEDED and not live.graph.retain:
        _sweep(book, live, forget_tasks=False)
    book.touch(live)


def keep_mishap(book: Book, live: LiveRun, mishap: Mishap) -> None:
    """Keep the newest failures for people. Part of applying a record."""
    live.run.failures.append(mishap)
    if len(live.run.failures) > book.policy.failures_kept:
        del live.run.failures[0]
        live.run.failures_left_out += 1


def stop_work(book: Book, live: LiveRun) -> None:
    """Take the run's tasks from their nodes and queues. Part of applying a record."""
    book.lives.set_aside(live.key)
    for task in live.run.tasks.values():
        if task.state == ASSIGNED:
            give_room(book.nodes, live, task)
            task.state = RETRYING
        if task.remake:
            task.remake = False
            task.state = DONE
            for ids in live.inputs(task):
                for unit in ids:
                    drop_use(book, live, live.run.units[unit])
    for step in live.graph.steps:
        let_go_if_due(book, live, step)
    holding.drop(book, live.key)
    steps = len(live.graph.steps)
    for index in range(steps):
        book.stirred[live, index] = None
    live.assigned = [0] * steps
    for queue in live.ready:
        queue.clear()
    live.waiting = 0
    underway.end_all(book, live)
    for waiting in (live.requeued, live.parked, live.queued, live.offered, live.check, live.started):
        waiting.clear()
    for sought in (live.formed, live.sought, live.sought_units, live.listings):
        sought.clear()
    for lacking in (live.short, live.needs, live.unanswered, live.bounded):
        lacking.clear()
    for coming in [coming for coming in book.awaited if coming[0] == live.key]:
        del book.awaited[coming]
    live.batches.clear()
    live.pending_parts.clear()


def drop(book: Book, live: LiveRun) -> None:
    """The run is not ours any more. Part of applying a record."""
    if live.going:
        stop_work(book, live)
    ordering.forget(book, live)
    del book.lives[live.key]
    del book.state.runs[run_name(live.key.namespace, live.key.run)]
    book.due.pop(live.key, None)


def _sweep(book: Book, live: LiveRun, *, forget_tasks: bool) -> None:
    run = live.run
    run.swept = True
    run.units = {unit.id: unit for unit in run.units.values() if unit.kept}
    for unit in run.units.values():
        if not shared.lasts(unit.shared):
            unit.shared = ""  # the nodes sweep the run's directories, but for outputs in a bucket
    run.incoming = {}
    run.pushes = {}
    run.known, run.bare, run.makers = {}, {}, {}
    copies.recount(book, live)
    for edge in run.edges:
        edge.outs = {}
        edge.held = {}
        edge.copies = {}
        edge.pairs = {}
    live.sides.clear()
    live.owed = 0
    live.sent.clear()
    if forget_tasks:
        run.tasks = {}


def run_name(namespace: str, run: str) -> str:
    """The run's key in the durable state."""
    return f"{namespace}/{run}"
