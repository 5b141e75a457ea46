"""The life of a run, pure: what is to be stored and wanted after something happened to it.

`handle(run, event)` gets the run as it is stored and one event, and returns the actions that follow; it never changes
the run that it was given. The driver commits all actions of one event in one transaction that is conditional on the
revision of the run it read, so two hubs, or a frame that comes twice, can't both decide.

    Submitted ─▶ PENDING ─Planned─▶ RUNNING ⇄ SUSPENDED
                    │ Queued           ▲ │ a fragment failed, or somebody cancelled
                    ▼                  │ ▼
                  QUEUED ─all reserved─┘ STOPPING ─every fragment has ended─▶ FAILED | CANCELLED
                   ⟲ Reserving, denied   RUNNING ─every fragment succeeded──▶ SUCCEEDED

How it ends stands in `ending`, how slots are reserved in `reserving`, how a run begins again without clusters that are
lost in `replacing`, how it may have two lines for a while in `lines`, how one that has failed is tried again in
`retrying`.

A fragment that has ended well may have said what others have not heard: see `forms.needs`.

What a fragment says counts only under the epoch that the run has for its cluster, and only until the fragment has
ended; an ended run changes only when its hooks are executed, or it is tried again.
"""

from __future__ import annotations

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs import ending, hooks, lines, replacing, reserving, retrying
from control_plane.runs.forms import ENDED, FRAGMENT_ENDED, copy_of, heard, overlaid, state_word, take_part
from control_plane.runs.messages import (
    Abandoned,
    Action,
    Answered,
    CancelRequested,
    Event,
    FragmentAccepted,
    FragmentEnded,
    FragmentHeard,
    HookBegun,
    Irreplaceable,
    Kept,
    LogLost,
    OutOfTouch,
    OutputMade,
    Planned,
    Progress,
    Queued,
    Refuse,
    Replaced,
    Reserving,
    ResumeRequested,
    Retried,
    SetDesired,
    StoreFragments,
    StoreOutputs,
    StoreRun,
    Submitted,
    SuspendRequested,
    Unanswered,
    Unplannable,
)


def handle(run: m.Run | None, event: Event) -> list[Action]:
    """What follows from `event` for `run` (None: it does not exist). An empty list: nothing, it is old news."""
    if run is None:
        return _submitted(run, event) if isinstance(event, Submitted) else [Refuse("there is no such run")]
    if not run.HasField("original"):
        return _of_line(run, event)
    if lines.ends_it(run, event):
        original, dropped = lines.restored(run)
        return [*dropped, *lines.named(original, _of_line(original, event))]
    of_original = lines.of_original(run, event)
    return lines.together(run, _of_line(run, event)) if of_original is None else of_original


def _of_line(run: m.Run, event: Event) -> list[Action]:
    """What follows for a run with one line, or for the one that `fragments` are of."""
    match event:
        case Submitted():
            return _submitted(run, event)
        case Planned():
            return _planned(run, event)
        case Queued():
            return reserving.queued(run, event)
        case Reserving():
            return reserving.reserving(run, event)
        case Unplannable():
            return reserving.unplannable(run, event)
        case Answered():
            return reserving.answered(run, event)
        case Unanswered():
            return reserving.unanswered(run, event)
        case Abandoned():
            return ending.abandoned(run, event)
        case FragmentAccepted():
            return _accepted(run, event)
        case Progress():
            return _progress(run, event)
        case OutputMade():
            return _output(run, event)
        case FragmentEnded():
            return ending.fragment_ended(run, event)
        case FragmentHeard():
            return _heard(run, event)
        case LogLost():
            return ending.log_lost(run, event)
        case OutOfTouch():
            return ending.out_of_touch(run, event)
        case Replaced():
            return replacing.replaced(run, event)
        case Kept():
            return []  # one of its lines is gone already
        case Irreplaceable():
            return replacing.irreplaceable(run, event)
        case HookBegun():
            return hooks.begun(run, event)
        case Retried():
            return retrying.retried(run, event)
        case CancelRequested():
            return ending.cancelled(run, event)
        case SuspendRequested():
            return _switch(run, m.RUN_STATE_RUNNING, m.RUN_STATE_SUSPENDED, m.DESIRED_STATE_SUSPENDED, "suspended")
        case ResumeRequested():
            return _switch(run, m.RUN_STATE_SUSPENDED, m.RUN_STATE_RUNNING, m.DESIRED_STATE_RUNNING, "resumed")


def _submitted(run: m.Run | None, event: Submitted) -> list[Action]:
    if run is not None:
        return [Refuse(f"there is a run {run.name} already")]
    fresh = copy_of(event.run)
    fresh.state = m.RUN_STATE_PENDING
    fresh.desired = m.DESIRED_STATE_RUNNING
    return [StoreRun(fresh)]


def _planned(run: m.Run, event: Planned) -> list[Action]:
    if run.state != m.RUN_STATE_PENDING or event.revision < run.plan_revision:
        return []
    fresh = copy_of(run)
    if event.handed_out:
        fresh.state = m.RUN_STATE_RUNNING
        fresh.handed_out_by = b""
    if event.revision == run.plan_revision:
        return [StoreRun(fresh)] if event.handed_out else []
    fresh.started_at = event.at
    fresh.plan_revision = event.revision
    fresh.plan = event.plan
    take_part(fresh, event.fragments)
    return [StoreFragments(event.fragments, m.DESIRED_STATE_RUNNING), StoreRun(fresh)]


def _accepted(run: m.Run, event: FragmentAccepted) -> list[Action]:
    kept = run.fragments.get(event.cluster)
    if run.state in ENDED or kept is None or kept.epoch != event.epoch:
        return []
    if kept.state != m.FRAGMENT_STATE_ASSIGNED:
        return []
    fresh = copy_of(run)
    fresh.fragments[event.cluster].state = m.FRAGMENT_STATE_RUNNING
    return [StoreRun(fresh)]


def _progress(run: m.Run, event: Progress) -> list[Action]:
    fresh = overlaid(run, event.statuses)
    return [] if fresh is run or fresh == run else [StoreRun(fresh)]


def _output(run: m.Run, event: OutputMade) -> list[Action]:
    status = event.status
    kept = run.fragments.get(status.cluster)
    if kept is None or kept.epoch != status.epoch or not status.outputs:
        return []
    if kept.state in FRAGMENT_ENDED:
        return _moved_or_lost(run, event)
    if run.state in ENDED:
        return []
    return [StoreOutputs(status.cluster, status.epoch, event.number, tuple(status.outputs))]


def _moved_or_lost(run: m.Run, event: OutputMade) -> list[Action]:
    """A cluster that is through says that outputs of its lie elsewhere now, or nowhere any more."""
    status = event.status
    told = {(output.name, output.unit.id): output for output in status.outputs}
    stored = [StoreOutputs(status.cluster, status.epoch, event.number, tuple(told.values()))]
    if run.state not in ENDED:
        return [*stored]
    fresh = copy_of(run)
    for output in fresh.outputs:
        output.CopyFrom(told.get((output.name, output.unit.id), output))
    if fresh != run:
        return [*stored, StoreRun(fresh)]
    return [*stored] if run.outputs_left_out else []


def _heard(run: m.Run, event: FragmentHeard) -> list[Action]:
    fresh = heard(run, event.cluster, event.epoch)
    return [] if fresh is run or run.state in ENDED else [StoreRun(fresh)]


def _switch(
    run: m.Run, before: m.RunState.ValueType, after: m.RunState.ValueType, desired: m.DesiredState.ValueType, word: str
) -> list[Action]:
    if run.state == after:
        return []
    if run.state != before:
        return [Refuse(f"the run {run.name} is {state_word(run.state)}: it can't be {word}")]
    fresh = copy_of(run)
    fresh.state = after
    fresh.desired = desired
    return [SetDesired(ending.concerned(fresh), desired), StoreRun(fresh)]
