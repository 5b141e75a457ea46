"""The life of a run, pure: what is to be stored and wanted after something happened to it.

`handle(run, event)` gets the run as it is stored and one event, and returns the actions that follow; it never changes
the run that it was given. The driver commits all actions of one event in one transaction that is conditional on the
revision of the run it read, so two hubs, or a frame that comes twice, can't both decide.

    Submitted ─▶ PENDING ─Planned─▶ RUNNING ⇄ SUSPENDED
                    │ Queued           ▲ │ a fragment failed, or somebody cancelled
                    ▼                  │ ▼
                  QUEUED ─all reserved─┘ STOPPING ─every fragment has ended─▶ FAILED | CANCELLED
                   ⟲ Reserving, denied   RUNNING ─every fragment succeeded──▶ SUCCEEDED

How slots are reserved stands in `reserving`, how a run begins again without clusters that are lost in `replacing`, and
how it may have two lines for a while in `lines`; how one that has failed is tried again in `retrying`.

A fragment that has ended well may have said what others have not heard: see `forms.needs`.

What a fragment says counts only under the epoch that the run has for its cluster, and only until the fragment has
ended; an ended run changes only when its hooks are executed, or it is tried again.
"""

from __future__ import annotations

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs import hooks, lines, replacing, reserving, retrying
from control_plane.runs.forms import ENDED, FRAGMENT_ENDED, copy_of, heard, overlaid, published, take_part, trimmed
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
    TakeBack,
    Unanswered,
    Unplannable,
)

INLINE_OUTPUTS = 100


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
            return _abandoned(run, event)
        case FragmentAccepted():
            return _accepted(run, event)
        case Progress():
            return _progress(run, event)
        case OutputMade():
            return _output(run, event)
        case FragmentEnded():
            return _fragment_ended(run, event)
        case FragmentHeard():
            return _heard(run, event)
        case LogLost():
            return _log_lost(run, event)
        case OutOfTouch():
            return _out_of_touch(run, event)
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
            return _cancel(run, event)
        case SuspendRequested():
            return _switch(run, m.RUN_STATE_RUNNING, m.RUN_STATE_SUSPENDED, m.DESIRED_STATE_SUSPENDED, "suspended")
        case ResumeRequested():
            return _switch(run, m.RUN_STATE_SUSPENDED, m.RUN_STATE_RUNNING, m.DESIRED_STATE_RUNNING, "resumed")


def concerned(run: m.Run) -> tuple[str, ...]:
    """The clusters whose fragments are to do what is wanted of the run: those that live, or all once it has ended."""
    return tuple(
        sorted(
            name
            for name, fragment in run.fragments.items()
            if run.state in ENDED or fragment.state not in FRAGMENT_ENDED
        )
    )


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


def _abandoned(run: m.Run, event: Abandoned) -> list[Action]:
    if run.state != m.RUN_STATE_PENDING:
        return []
    fresh = copy_of(run)
    actions = _stop(fresh, m.RUN_STATE_FAILED, event.reason)
    if not fresh.fragments:
        fresh.state = m.RUN_STATE_FAILED
        fresh.ended_at = event.at
    return [*actions, StoreRun(fresh)]


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


def _fragment_ended(run: m.Run, event: FragmentEnded) -> list[Action]:
    status = event.status
    kept = run.fragments.get(status.cluster)
    if run.state in ENDED or kept is None or kept.epoch != status.epoch or kept.state in FRAGMENT_ENDED:
        return []
    if run.state == m.RUN_STATE_QUEUED:
        return []  # nothing of it runs
    if status.state not in FRAGMENT_ENDED:
        return []
    if replacing.stopped_by_itself(run, status):
        return replacing.stopped(run, status)
    fresh = copy_of(run)
    fresh.fragments[status.cluster].CopyFrom(trimmed(status))
    actions: list[Action] = []
    if status.outputs:
        actions.append(StoreOutputs(status.cluster, status.epoch, event.number, tuple(status.outputs)))
    if status.state != m.FRAGMENT_STATE_SUCCEEDED and fresh.state != m.RUN_STATE_STOPPING:
        actions += _stop(fresh, *_why(status))
    if _all_ended(fresh) and (not fresh.stopped or fresh.state == m.RUN_STATE_STOPPING):
        actions = [action for action in actions if not isinstance(action, SetDesired)]
        actions += _end(fresh, event)
    return [*actions, StoreRun(fresh)]


def _heard(run: m.Run, event: FragmentHeard) -> list[Action]:
    fresh = heard(run, event.cluster, event.epoch)
    return [] if fresh is run or run.state in ENDED else [StoreRun(fresh)]


def _log_lost(run: m.Run, event: LogLost) -> list[Action]:
    """The run begins again if it may, and fails at once otherwise: others may wait for what was lost for ever."""
    kept = run.fragments.get(event.cluster)
    if run.state in ENDED or run.state == m.RUN_STATE_QUEUED or kept is None or kept.epoch != event.epoch:
        return []
    if (begun_again := replacing.log_lost(run, event)) is not None:
        return begun_again
    living = copy_of(run)
    living.fragments[event.cluster].state = m.FRAGMENT_STATE_RUNNING
    ended = FragmentEnded(replacing.without_log(kept), 0, event.at, ())
    return [SetDesired((event.cluster,), m.DESIRED_STATE_FORGOTTEN), *_fragment_ended(living, ended)]


def _out_of_touch(run: m.Run, event: OutOfTouch) -> list[Action]:
    """A run that is being stopped does not wait for who can't be told: it will hear on its return."""
    kept = run.fragments.get(event.cluster)
    if run.state != m.RUN_STATE_STOPPING or kept is None or kept.state in FRAGMENT_ENDED:
        return []
    status = m.FragmentStatus()
    status.CopyFrom(kept)
    status.state = m.FRAGMENT_STATE_CANCELLED
    message = "the agent was out of touch when the run was stopped; it stops its part when it is back"
    status.failures.add(cluster=event.cluster, kind="lost", message=message)
    return _fragment_ended(run, FragmentEnded(status, 0, event.at, ()))


def _all_ended(run: m.Run) -> bool:
    return all(fragment.state in FRAGMENT_ENDED for fragment in run.fragments.values())


def _why(status: m.FragmentStatus) -> tuple[m.RunState.ValueType, str]:
    """How a run ends whose fragment ended otherwise than well, and the sentence that says why."""
    if status.state == m.FRAGMENT_STATE_CANCELLED:
        reasons = [failure.message for failure in status.failures[-1:] if failure.kind == "cancelled"]
        return m.RUN_STATE_CANCELLED, ": ".join([f"cancelled on {status.cluster}", *reasons])
    if not status.failures:
        return m.RUN_STATE_FAILED, f"failed on {status.cluster}, which gave no reason"
    failure = status.failures[-1]
    where = f"{failure.cluster or status.cluster}{'/' + failure.node if failure.node else ''}"
    step = f"step {failure.step} failed" if failure.step else "failed"
    attempt = f", attempt {failure.attempt}" if failure.attempt else ""
    return m.RUN_STATE_FAILED, f"{step} on {where}{attempt} ({failure.kind or 'unknown'}): {failure.message}"


def _stop(fresh: m.Run, ending: m.RunState.ValueType, message: str) -> list[Action]:
    """Turn `fresh` into a run that is being stopped."""
    fresh.state = m.RUN_STATE_STOPPING
    fresh.ending = ending
    fresh.message = message
    fresh.desired = m.DESIRED_STATE_CANCELLED
    live = tuple(sorted(name for name, fragment in fresh.fragments.items() if fragment.state not in FRAGMENT_ENDED))
    return [SetDesired(live, m.DESIRED_STATE_CANCELLED)] if live else []


def _end(fresh: m.Run, event: FragmentEnded) -> list[Action]:
    """Turn `fresh`, whose fragments have all ended, into an ended run."""
    fresh.ended_at = event.at
    if fresh.state == m.RUN_STATE_STOPPING:
        fresh.state = fresh.ending
    else:
        fresh.state, fresh.message = _how_it_went(fresh)
        outputs = published([*event.outputs, *event.status.outputs])
        del fresh.outputs[:]
        fresh.outputs.extend(outputs[:INLINE_OUTPUTS])
        fresh.outputs_left_out = max(0, len(outputs) - INLINE_OUTPUTS)
    fresh.desired = _wanted_in_the_end(fresh)
    hooks.fall_due(fresh)
    return [SetDesired(concerned(fresh), fresh.desired)]


def _wanted_in_the_end(run: m.Run) -> m.DesiredState.ValueType:
    """What is wanted of the fragments of a run that has ended: that they keep its data, if it may be tried again."""
    retains = run.retain and run.state != m.RUN_STATE_SUCCEEDED
    return m.DESIRED_STATE_RETAINED if retains else m.DESIRED_STATE_FINISHED


def _how_it_went(run: m.Run) -> tuple[m.RunState.ValueType, str]:
    """How a run ends whose fragments have all come to their end: some may have gone on without tasks that failed."""
    given_up = sum(fragment.given_up for fragment in run.fragments.values())
    if given_up:
        return m.RUN_STATE_FAILED, f"{_tasks(given_up)} failed, and the run went on without them (on_failure: continue)"
    skipped = sum(fragment.skipped for fragment in run.fragments.values())
    if skipped:
        return m.RUN_STATE_SUCCEEDED, f"{_tasks(skipped)} failed, and the run went on without (on_failure: skip)"
    return m.RUN_STATE_SUCCEEDED, ""


def _tasks(count: int) -> str:
    return f"{count} task{'s' if count > 1 else ''}"


def _cancel(run: m.Run, event: CancelRequested) -> list[Action]:
    if run.state in ENDED:
        return [Refuse(f"the run {run.name} has ended ({_word(run.state)}): there is nothing to cancel")]
    if run.state == m.RUN_STATE_STOPPING:
        return []
    fresh = copy_of(run)
    if run.state == m.RUN_STATE_QUEUED:
        attempt = tuple(sorted(fresh.fragments))
        fresh.fragments.clear()
        fresh.reservation.epoch = 0
        taken_back: list[Action] = [TakeBack(attempt)] if attempt else []
        return [*taken_back, *_cancelled(fresh, event)]
    return _cancelled(fresh, event)


def _cancelled(fresh: m.Run, event: CancelRequested) -> list[Action]:
    actions = _stop(fresh, m.RUN_STATE_CANCELLED, event.reason or "cancelled")
    if _all_ended(fresh):
        fresh.state = m.RUN_STATE_CANCELLED
        fresh.ended_at = event.at
        hooks.fall_due(fresh)
        fresh.desired = _wanted_in_the_end(fresh)
        if left := concerned(fresh):
            actions.append(SetDesired(left, fresh.desired))
    return [*actions, StoreRun(fresh)]


def _switch(
    run: m.Run, before: m.RunState.ValueType, after: m.RunState.ValueType, desired: m.DesiredState.ValueType, word: str
) -> list[Action]:
    if run.state == after:
        return []
    if run.state != before:
        return [Refuse(f"the run {run.name} is {_word(run.state)}: it can't be {word}")]
    fresh = copy_of(run)
    fresh.state = after
    fresh.desired = desired
    live = tuple(sorted(name for name, fragment in fresh.fragments.items() if fragment.state not in FRAGMENT_ENDED))
    return [SetDesired(live, desired), StoreRun(fresh)]


def _word(state: m.RunState.ValueType) -> str:
    return m.RunState.Name(state).removeprefix("RUN_STATE_").lower()
