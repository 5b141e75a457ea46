"""How a run comes to its end, pure: a part of it has ended, or it is cancelled, or can't begin.

    RUNNING ─ a fragment failed, or somebody cancelled ─▶ STOPPING ─ every fragment has ended ─▶ FAILED | CANCELLED
    RUNNING ─ every fragment succeeded ─▶ SUCCEEDED, or FAILED where the run went on without tasks

Each function that takes an event answers it, as `core.handle` does. Those that take a `fresh` run change it.
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs import hooks, replacing
from control_plane.runs.forms import ENDED, FRAGMENT_ENDED, copy_of, published, state_word, trimmed
from control_plane.runs.messages import (
    Abandoned,
    Action,
    CancelRequested,
    FragmentEnded,
    LogLost,
    OutOfTouch,
    Refuse,
    SetDesired,
    StoreOutputs,
    StoreRun,
    TakeBack,
)

INLINE_OUTPUTS: Final = 100  # that the run itself has; the others are beside it


def fragment_ended(run: m.Run, event: FragmentEnded) -> list[Action]:
    """The run is stopped if its part has not gone well, and has ended with the last of its parts."""
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


def log_lost(run: m.Run, event: LogLost) -> list[Action]:
    """The run begins again if it may, and fails at once otherwise: others may wait for what was lost for ever."""
    kept = run.fragments.get(event.cluster)
    if run.state in ENDED or run.state == m.RUN_STATE_QUEUED or kept is None or kept.epoch != event.epoch:
        return []
    if (begun_again := replacing.log_lost(run, event)) is not None:
        return begun_again
    living = copy_of(run)
    living.fragments[event.cluster].state = m.FRAGMENT_STATE_RUNNING
    ended = FragmentEnded(replacing.without_log(kept), 0, event.at, ())
    return [SetDesired((event.cluster,), m.DESIRED_STATE_FORGOTTEN), *fragment_ended(living, ended)]


def out_of_touch(run: m.Run, event: OutOfTouch) -> list[Action]:
    """A run that is being stopped does not wait for who can't be told: it will hear on its return."""
    kept = run.fragments.get(event.cluster)
    if run.state != m.RUN_STATE_STOPPING or kept is None or kept.state in FRAGMENT_ENDED:
        return []
    status = m.FragmentStatus()
    status.CopyFrom(kept)
    status.state = m.FRAGMENT_STATE_CANCELLED
    message = "the agent was out of touch when the run was stopped; it stops its part when it is back"
    status.failures.add(cluster=event.cluster, kind="lost", message=message)
    return fragment_ended(run, FragmentEnded(status, 0, event.at, ()))


def abandoned(run: m.Run, event: Abandoned) -> list[Action]:
    """Who was handing the run out has given up."""
    if run.state != m.RUN_STATE_PENDING:
        return []
    fresh = copy_of(run)
    actions = _stop(fresh, m.RUN_STATE_FAILED, event.reason)
    if not fresh.fragments:
        fresh.state = m.RUN_STATE_FAILED
        fresh.ended_at = event.at
    return [*actions, StoreRun(fresh)]


def cancelled(run: m.Run, event: CancelRequested) -> list[Action]:
    """Somebody wants it to end; if it is queued its slots are given back."""
    if run.state in ENDED:
        return [Refuse(f"the run {run.name} has ended ({state_word(run.state)}): there is nothing to cancel")]
    if run.state == m.RUN_STATE_STOPPING:
        return []
    fresh = copy_of(run)
    if run.state == m.RUN_STATE_QUEUED:
        attempt = tuple(sorted(fresh.fragments))
        fresh.fragments.clear()
        fresh.reservation.epoch = 0
        taken_back: list[Action] = [TakeBack(attempt)] if attempt else []
        return [*taken_back, *_cancel(fresh, event)]
    return _cancel(fresh, event)


def _cancel(fresh: m.Run, event: CancelRequested) -> list[Action]:
    actions = _stop(fresh, m.RUN_STATE_CANCELLED, event.reason or "cancelled")
    if _all_ended(fresh):
        fresh.state = m.RUN_STATE_CANCELLED
        fresh.ended_at = event.at
        hooks.fall_due(fresh)
        fresh.desired = _wanted_in_the_end(fresh)
        if left := concerned(fresh):
            actions.append(SetDesired(left, fresh.desired))
    return [*actions, StoreRun(fresh)]


def concerned(run: m.Run) -> tuple[str, ...]:
    """The clusters whose fragments are to do what is wanted of the run: those that live, or all once it has ended."""
    return tuple(
        sorted(
            name
            for name, fragment in run.fragments.items()
            if run.state in ENDED or fragment.state not in FRAGMENT_ENDED
        )
    )


def _stop(fresh: m.Run, ending: m.RunState.ValueType, message: str) -> list[Action]:
    """Turn `fresh` into a run that is being stopped."""
    fresh.state = m.RUN_STATE_STOPPING
    fresh.ending = ending
    fresh.message = message
    fresh.desired = m.DESIRED_STATE_CANCELLED
    live = concerned(fresh)
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


def _all_ended(run: m.Run) -> bool:
    return all(fragment.state in FRAGMENT_ENDED for fragment in run.fragments.values())


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


def _tasks(count: int) -> str:
    return f"{count} task{'s' if count > 1 else ''}"
