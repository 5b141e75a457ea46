"""How a run comes by its slots, pure: the hub's part of the two phases, as a part of the run's life.

    QUEUED ─Reserving─▶ every cluster of the plan is ordered to hold its slots
             │ all have answered that they do: the commit, one conditional write. The fragments are wanted RUNNING
             │ one has denied, or is silent: all orders are taken back, and the run is QUEUED with the reason

Nothing runs before the commit, and the commit is the only word that makes it run; whatever a cluster says of an
attempt counts only under that attempt's epoch and before its end.
"""

from __future__ import annotations

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs.forms import copy_of, take_part
from control_plane.runs.messages import (
    Action,
    Answered,
    Queued,
    Refuse,
    Reserving,
    SetDesired,
    StoreFragments,
    StoreRun,
    TakeBack,
    Unanswered,
    Unplannable,
)


def queued(run: m.Run, event: Queued) -> list[Action]:
    """The run waits for its slots."""
    if run.state != m.RUN_STATE_PENDING:
        return []
    fresh = copy_of(run)
    fresh.state = m.RUN_STATE_QUEUED
    fresh.desired = m.DESIRED_STATE_RESERVED
    fresh.message = f"waits until slots are reserved on {', '.join(event.clusters)}"
    fresh.plan_revision = event.revision
    fresh.plan = event.plan
    fresh.reservation.mode = event.mode
    fresh.reservation.clusters.extend(event.clusters)
    return [StoreRun(fresh)]


def reserving(run: m.Run, event: Reserving) -> list[Action]:
    """An attempt begins; one at a time, and each planned when the one before was over.

    Several hubs may have planned the same attempt, perhaps on the same revision of the store, and so under one epoch:
    one of them begins it. A plan that is older than another hub's attempt begins nothing after it, or late words about
    that attempt would count for this.
    """
    told = run.reservation
    orders = StoreFragments(event.fragments, m.DESIRED_STATE_RESERVED, event.time_to_live)
    if _under_way(run, event.epoch) and told.attempts == event.attempt and run.plan == event.plan:
        return [orders]
    if run.state != m.RUN_STATE_QUEUED or told.epoch or event.attempt != told.attempts + 1:
        return [Refuse(f"the run {run.name} has come further than it was when attempt {event.attempt} was planned")]
    fresh = copy_of(run)
    fresh.plan_revision = event.revision
    fresh.plan = event.plan
    fresh.reservation.epoch = event.epoch
    fresh.reservation.attempts = event.attempt
    del fresh.reservation.clusters[:]
    fresh.reservation.clusters.extend(sorted(fragment.cluster for fragment in event.fragments))
    del fresh.reservation.reserved[:]
    fresh.reservation.denied.clear()
    fresh.reservation.denied.update(event.denied)
    take_part(fresh, event.fragments)
    return [orders, StoreRun(fresh)]


def unplannable(run: m.Run, event: Unplannable) -> list[Action]:
    """It goes on waiting, and says why."""
    message = f"waits until it can be planned: {event.reason}"
    if run.state != m.RUN_STATE_QUEUED or run.reservation.epoch or run.message == message:
        return []
    fresh = copy_of(run)
    fresh.message = message
    return [StoreRun(fresh)]


def answered(run: m.Run, event: Answered) -> list[Action]:
    """A cluster holds its slots, or does not."""
    if not _under_way(run, event.epoch) or event.cluster not in run.fragments:
        return []
    if not event.reserved:
        return _over(run, {event.cluster: event.reason})
    if event.cluster in run.reservation.reserved:
        return []
    fresh = copy_of(run)
    fresh.reservation.reserved.append(event.cluster)
    if len(fresh.reservation.reserved) < len(fresh.fragments):
        return [StoreRun(fresh)]
    fresh.state = m.RUN_STATE_RUNNING
    fresh.desired = m.DESIRED_STATE_RUNNING
    fresh.message = ""
    fresh.started_at = event.at
    fresh.reservation.epoch = 0
    fresh.reservation.denied.clear()
    return [SetDesired(tuple(sorted(fresh.fragments)), m.DESIRED_STATE_RUNNING), StoreRun(fresh)]


def unanswered(run: m.Run, event: Unanswered) -> list[Action]:
    """Clusters were silent for too long. One that has answered meanwhile is none of them."""
    if not _under_way(run, event.epoch):
        return []
    silent = [name for name in event.clusters if name in run.fragments and name not in run.reservation.reserved]
    return _over(run, {name: f"{name} has not answered whether it holds the run's slots" for name in silent})


def _under_way(run: m.Run, epoch: int) -> bool:
    return run.state == m.RUN_STATE_QUEUED and run.reservation.epoch == epoch != 0


def _over(run: m.Run, denied: dict[str, str]) -> list[Action]:
    """The attempt has failed."""
    if not denied:
        return []
    fresh = copy_of(run)
    taken_back = tuple(sorted(fresh.fragments))
    fresh.fragments.clear()
    fresh.reservation.epoch = 0
    del fresh.reservation.reserved[:]
    fresh.reservation.denied.update(denied)
    fresh.message = f"waits for slots: {'; '.join(fresh.reservation.denied[name] for name in sorted(denied))}"
    return [TakeBack(taken_back), StoreRun(fresh)]
