"""How a run that has failed, or was cancelled, is tried again, pure: it begins again by a new revision of its plan.

As when a cluster is replaced, all fragments are new, with new epochs, and what a coordinator has kept of the run's data
(`policy.retain`) it does not make again. Without it, or later, the run begins at its beginning.
"""

from __future__ import annotations

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs.forms import copy_of, state_word, take_part
from control_plane.runs.messages import Action, HandOut, Refuse, Retried, SetDesired, StoreRun
from control_plane.runs.replacing import MOST_BYTES, MOST_FRAGMENTS

_NOT_SUCCEEDED = (m.RUN_STATE_FAILED, m.RUN_STATE_CANCELLED)


def objection(run: m.Run) -> str | None:
    """Why a run can't be tried again; None: it can."""
    again = f"`bdw-fed resubmit {run.name}` makes a new one of the same workflow"
    if run.state not in _NOT_SUCCEEDED:
        why = "only one that has failed or was cancelled is tried again"
        return f"the run {run.name} is {state_word(run.state)}: {why}; {again}"
    if run.reservation.mode:
        return f"the run {run.name} reserved its slots, which is done once: {again}"
    if not run.plan_revision:
        return f"the run {run.name} never had a plan: {again}"
    return None


def retried(run: m.Run, event: Retried) -> list[Action]:
    """The run goes on by this plan."""
    if why := objection(run):
        return [Refuse(why)]
    if event.revision != run.plan_revision + 1:
        return [Refuse(f"the run {run.name} was tried again meanwhile")]
    size = sum(fragment.ByteSize() for fragment in event.fragments)
    if len(event.fragments) > MOST_FRAGMENTS or size > MOST_BYTES:
        return [Refuse(f"the plan of {run.name} is too large to be changed at once: submit it again")]
    fresh = copy_of(run)
    fresh.state = m.RUN_STATE_RUNNING
    fresh.desired = m.DESIRED_STATE_RUNNING
    fresh.ending = m.RUN_STATE_UNSPECIFIED
    fresh.ended_at = 0.0
    fresh.message = ""
    fresh.plan_revision = event.revision
    fresh.plan = event.plan
    fresh.tries = run.tries + 1
    del fresh.hooks_due[:]
    del fresh.outputs[:]
    fresh.outputs_left_out = 0
    take_part(fresh, event.fragments)
    gone = tuple(sorted(run.fragments.keys() - fresh.fragments.keys()))
    return [
        HandOut(event.fragments, m.DESIRED_STATE_RUNNING),
        *([SetDesired(gone, m.DESIRED_STATE_FORGOTTEN)] if gone else []),
        StoreRun(fresh),
    ]
