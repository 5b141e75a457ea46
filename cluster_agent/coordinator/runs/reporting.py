"""What people are told of a run on this cluster: counters, traffic, failures, results, and single tasks."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from bdw_fed.v1 import control_plane_pb2, model_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import CONTINUE, OUTPUT, SOURCE, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes import holding
from cluster_agent.coordinator.space import disks, narrow
from cluster_agent.coordinator.state import ASSIGNED, DONE, OPENED, READY, RETRYING, Task
from cluster_agent.coordinator.units import shared
from cluster_agent.coordinator.units.infos import unit_proto
from cluster_agent.orders.messages import Failure
from wire.lines import is_second
from workflow.formats import DIRECTORY

_INPUTS_SHOWN: Final = 20
_LOST: Final = "its bytes were damaged or lost where they lay, and the run that made them is over"
_TASKS_SHOWN: Final = 100
_RANKS: Final = {RETRYING: 0, ASSIGNED: 1, READY: 2, DONE: 3}
_RUN_STATES: Final = {
    model_pb2.FRAGMENT_STATE_SUSPENDED: model_pb2.RUN_STATE_SUSPENDED,
    model_pb2.FRAGMENT_STATE_SUCCEEDED: model_pb2.RUN_STATE_SUCCEEDED,
    model_pb2.FRAGMENT_STATE_FAILED: model_pb2.RUN_STATE_FAILED,
    model_pb2.FRAGMENT_STATE_CANCELLED: model_pb2.RUN_STATE_CANCELLED,
}
_SUSPENDED: Final = model_pb2.DESIRED_STATE_SUSPENDED


def fragment_status(
    book: Book, live: LiveRun, *, only: Iterable[tuple[int, bytes]] | None = None
) -> model_pb2.FragmentStatus:
    """The fragment's status; with `only`, nothing but these results."""
    run = live.run
    status = model_pb2.FragmentStatus(
        namespace=live.key.namespace, run=live.key.run, cluster=book.cluster, epoch=live.graph.epoch
    )
    suspended = live.going and run.desired == _SUSPENDED
    status.state = model_pb2.FRAGMENT_STATE_SUSPENDED if suspended else model_pb2.FragmentState.ValueType(run.state)
    _put_outputs(book, live, status, run.outputs if only is None else only)
    if only is not None:
        return status
    status.stored, status.quota = live.stored, live.graph.quota
    for step in live.graph.concerned:
        _put_progress(book, live, status, step)
    _put_slots(book, live, status)
    for cluster, traffic in run.traffic.items():
        status.traffic.add(
            from_cluster=cluster,
            to_cluster=book.cluster,
            units=traffic.units,
            bytes=traffic.bytes,
            seconds=traffic.seconds,
        )
    for mishap in run.failures:
        status.failures.append(
            failure_proto(book, mishap.step, mishap.task, mishap.node, mishap.attempt, mishap.failure)
        )
    status.failures_left_out = run.failures_left_out
    return status


def _put_outputs(
    book: Book, live: LiveRun, status: model_pb2.FragmentStatus, outputs: Iterable[tuple[int, bytes]]
) -> None:
    for step_index, unit_id in outputs:
        unit = live.run.units[unit_id]
        step = live.graph.steps[step_index]
        name = step.name.removeprefix("outputs.")
        status.outputs.add(
            name=name,
            file=step.file or unit.name or name,
            unit=unit_proto(unit),
            cluster=book.cluster,
            node=unit.copies[0] if unit.copies else "",
            line=live.key.run if is_second(live.key.run) else "",
            directory=any(edge.format == DIRECTORY for edge in step.inputs),
            retain=step.retain,
            lost="" if unit.copies or live.going or shared.lasts(unit.shared) else _LOST,
        )


def _put_progress(book: Book, live: LiveRun, status: model_pb2.FragmentStatus, step: Step) -> None:
    """The counters of a step."""
    state = live.run.steps[step.index]
    progress = status.steps.add(
        step=step.name,
        done=state.done - state.surrendered,
        failed=state.failed,
        closed=state.closed,
        busy_seconds=state.busy,
        bytes_in=state.bytes_in,
        bytes_out=state.bytes_out,
        cached=state.cached,
    )
    progress.unmet = state.unmet
    if step.on_failure == CONTINUE:
        progress.given_up = state.surrendered - state.unmet
    else:
        progress.skipped = state.surrendered - state.unmet
    status.skipped += progress.skipped
    status.given_up += progress.given_up
    if step.kind == SOURCE:
        progress.waiting = sum(part.step == step.index and part.state != OPENED for part in live.run.parts)
    elif step.kind != OUTPUT and live.going:
        progress.running = live.assigned[step.index]
        progress.waiting = max(0, state.open - live.assigned[step.index])
        progress.workers = book.pools.workers(step.definition)
        progress.waits_for = narrow.words(book, live, step) or disks.words(book, live, step)


def _put_slots(book: Book, live: LiveRun, status: model_pb2.FragmentStatus) -> None:
    """What its steps hold of the slots that it has reserved."""
    claim = book.claims.get(live.key)
    if claim is None or claim.half:
        return
    by_name = {progress.step: progress for progress in status.steps}
    for each, held, used, lent in holding.figures(book, claim):
        if each.name in by_name:
            by_name[each.name].held, by_name[each.name].used, by_name[each.name].lent = held, used, lent


def run_here(book: Book, live: LiveRun) -> model_pb2.Run:
    """The run as far as it is known here: this cluster's part of it."""
    status = fragment_status(book, live)
    run = model_pb2.Run(
        namespace=live.key.namespace,
        name=live.key.run,
        workflow=live.graph.workflow,
        plan_revision=live.graph.revision,
        state=_RUN_STATES.get(status.state, model_pb2.RUN_STATE_RUNNING),
        desired=model_pb2.DesiredState.ValueType(live.run.desired),
        message=f"of this run only the part of {book.cluster} is known here",
    )
    if status.failures and not live.going:
        run.message = status.failures[-1].message
    run.fragments[book.cluster].CopyFrom(status)
    return run


def failure_proto(book: Book, step: str, task: bytes, node: str, attempt: int, failure: Failure) -> model_pb2.Failure:
    """A failure as it is shown to people."""
    return model_pb2.Failure(
        step=step,
        task=task,
        cluster=book.cluster,
        node=node,
        attempt=attempt,
        kind=failure.kind,
        message=failure.message,
        detail=failure.detail,
    )


def task_infos(book: Book, live: LiveRun) -> list[control_plane_pb2.TaskInfo]:
    """The tasks that are worth a look: failed ones, then those with nodes, then those that wait longest."""
    ranked = heapq.nsmallest(_TASKS_SHOWN, live.run.tasks.values(), key=_interest)
    return [_task_info(book, live, task) for task in ranked]


def _interest(task: Task) -> tuple[int, int]:
    """nsmallest is stable: among equals, the ones that were formed first come first."""
    return (_RANKS[task.state], -(task.failed + task.lost))


def _task_info(book: Book, live: LiveRun, task: Task) -> control_plane_pb2.TaskInfo:
    step = live.graph.steps[task.step]
    started = live.started.get(task.id)
    info = control_plane_pb2.TaskInfo(
        step=step.name,
        task=task.id,
        cluster=book.cluster,
        node=task.node,
        state=_state(live, task),
        attempt=task.attempt,
        seconds=book.now - started if started is not None else 0.0,
    )
    for unit_id in (unit_id for units in task.inputs for unit_id in units[:_INPUTS_SHOWN]):
        unit = live.run.units.get(unit_id)
        info.inputs.append((unit.name if unit is not None else "") or unit_id.hex())
    if task.failure is not None:
        info.failure.CopyFrom(failure_proto(book, step.name, task.id, task.node, task.attempt, task.failure))
    return info


def _state(live: LiveRun, task: Task) -> str:
    if task.state == DONE:
        return "skipped" if task.surrendered else "done"
    if task.state == ASSIGNED:
        if task.id in live.missing:
            return "fetching"
        return "running" if task.id in live.started else "waiting"
    if task.state == READY:
        return "waiting"
    assert task.state == RETRYING
    return "retrying" if live.going else "failed"
