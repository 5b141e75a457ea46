"""Two lines of a run's history, pure: the original, which waits for a lost cluster, and the replacement beside it.

    RUNNING ─ Replaced, and the policy may come back (`keep`) ─▶ two lines: `fragments`, and `original` beside them
            ─ the clusters of the original are back: `back` ─ Kept ─▶ one of them, by the rule
            ─ one has ended ─▶ that is the result

Lines share nothing: to agents each is a run of its own (see wire.lines), and epochs are never the same in two of them.
One write of the run says which line counts, together with the word that nothing of the other is wanted; it is not
looked at again, whatever is still said of it. A line can't fail the run while the other lives, since the run goes on
there; but the replacement is what was put in the place of what may never come back, so its failure is the run's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs.forms import ENDED, FRAGMENT_ENDED, copy_of, needs, trimmed
from control_plane.runs.messages import (
    Action,
    Event,
    FragmentAccepted,
    FragmentEnded,
    Kept,
    LogLost,
    OutputMade,
    Refuse,
    SetDesired,
    StoreOutputs,
    StoreRun,
)

ORIGINAL, FURTHEST = "original", "furthest"


def name_of(run: m.Run) -> str:
    """Under which name agents know the run's fragments."""
    return run.line or run.name


def rule_of(run: m.Run, lost: Collection[str]) -> str:
    """By which rule a line counts once these clusters are back; empty: it never does."""
    rules = {run.keep[cluster] for cluster in lost if cluster in run.keep}
    return ORIGINAL if ORIGINAL in rules else FURTHEST if rules else ""


def put_beside(fresh: m.Run, run: m.Run, lost: Collection[str]) -> None:
    """Keep what the run was, while `fresh` becomes its replacement."""
    fresh.original.Clear()
    original = fresh.original
    original.line = name_of(run)
    for cluster, status in run.fragments.items():
        original.fragments[cluster].CopyFrom(status)
    original.replace_after.update(run.replace_after)
    original.keeps.update(run.keep)
    original.plan = run.plan
    original.keep = rule_of(run, lost)
    original.lost.extend(sorted(lost))


def clusters(run: m.Run) -> list[str]:
    """All clusters that have a part in the run, in whichever line."""
    return sorted({*run.fragments, *run.original.fragments})


def goes_on_at(run: m.Run, cluster: str) -> bool:
    """Whether a part of the run on the cluster has not ended, in whichever line."""
    return any(
        cluster in line.fragments and line.fragments[cluster].state not in FRAGMENT_ENDED
        for line in (run, run.original)
    )


def waits_for(run: m.Run) -> tuple[str, ...]:
    """The clusters that the original still needs: it can go on to its end when all of them are there."""
    return tuple(sorted(each for each in run.original.fragments if needs(run.original, each)))


def back(run: m.Run) -> Kept:
    """What counts, now that all clusters of the original are there again and have told how far they are."""
    original = _done(run.original.fragments.values()) >= _done(run.fragments.values())
    return Kept(run.plan_revision, original=run.original.keep == ORIGINAL or original)


def _done(fragments: Collection[m.FragmentStatus]) -> int:
    return sum(step.done for fragment in fragments for step in fragment.steps)


# ------------------------------------------------------------------------------------------------- events


def of_original(run: m.Run, event: Event) -> list[Action] | None:
    """What follows from an event of the original; None: it is not of the original alone.

    What ends the original well is left to the core, on the run as it then is: `restored` before.
    """
    match event:
        case Kept():
            return _kept(run, event)
        case FragmentAccepted(cluster, epoch, _) if _is_its(run, cluster, epoch):
            return _accepted(run, cluster)
        case OutputMade(status, number) if _is_its(run, status.cluster, status.epoch):
            told = tuple(status.outputs)  # of one that is through: that they lie elsewhere now, or nowhere any more
            return [StoreOutputs(status.cluster, status.epoch, number, told)] if told else []
        case FragmentEnded(status, _, _, _) if _is_its(run, status.cluster, status.epoch):
            return _ended(run, event)
        case LogLost(cluster, epoch, _) if _is_its(run, cluster, epoch):
            return discarded(run)
        case _:
            return None


def ends_it(run: m.Run, event: Event) -> bool:
    """Whether the event is the last word of the original, or somebody's who cancels the run there."""
    if not isinstance(event, FragmentEnded) or not _is_its(run, event.status.cluster, event.status.epoch):
        return False
    left = going(run.original)
    if event.status.state == m.FRAGMENT_STATE_CANCELLED:
        return event.status.cluster in left
    return event.status.state == m.FRAGMENT_STATE_SUCCEEDED and left == {event.status.cluster}


def together(run: m.Run, actions: list[Action]) -> list[Action]:
    """What follows from an event of the run, for both of its lines: they are suspended, and end, together."""
    stored = [action.run for action in actions if isinstance(action, StoreRun)]
    if not stored or not stored[0].HasField("original"):
        return actions
    fresh = stored[0]
    if fresh.state in ENDED or fresh.state == m.RUN_STATE_STOPPING:
        left = forgotten(fresh.original)
        fresh.ClearField("original")
        return [*left, *actions]
    if fresh.desired != run.desired:
        switched = SetDesired(tuple(sorted(going(fresh.original))), fresh.desired, fresh.original.line)
        return [switched, *actions]
    return actions


def named(run: m.Run, actions: list[Action]) -> list[Action]:
    """The same, with the name of the run's line where it was taken for granted."""
    return [
        replace(action, line=name_of(run)) if isinstance(action, SetDesired) and not action.line else action
        for action in actions
    ]


def restored(run: m.Run) -> tuple[m.Run, list[Action]]:
    """The run as its original line, and what discards the other one.

    The revision is not turned back, so that no newer plan is ever taken for one that is gone.
    """
    fresh = copy_of(run)
    dropped = [SetDesired(tuple(sorted(run.fragments)), m.DESIRED_STATE_FORGOTTEN, name_of(run))]
    for table in (fresh.fragments, fresh.replace_after, fresh.keep):
        table.clear()
    for cluster, status in run.original.fragments.items():
        fresh.fragments[cluster].CopyFrom(status)
    fresh.replace_after.update(run.original.replace_after)
    fresh.keep.update(run.original.keeps)
    fresh.line = "" if run.original.line == run.name else run.original.line
    fresh.plan = run.original.plan
    replaced = [cluster for cluster in run.replaced if cluster not in fresh.fragments]
    del fresh.replaced[:]
    fresh.replaced.extend(replaced)
    del fresh.stopped[:]
    fresh.ClearField("original")
    return fresh, list(dropped)


def discarded(run: m.Run) -> list[Action]:
    """The original does not count, whatever comes of it."""
    fresh = copy_of(run)
    fresh.ClearField("original")
    return [*forgotten(run.original), StoreRun(fresh)]


def forgotten(line: m.RunLine) -> list[Action]:
    """Nothing of a line is wanted any more, wherever it is heard."""
    return [SetDesired(tuple(sorted(line.fragments)), m.DESIRED_STATE_FORGOTTEN, line.line)]


def _is_its(run: m.Run, cluster: str, epoch: int) -> bool:
    return cluster in run.original.fragments and run.original.fragments[cluster].epoch == epoch


def going(line: m.RunLine) -> set[str]:
    """The clusters whose part in the line has not ended."""
    return {cluster for cluster, status in line.fragments.items() if status.state not in FRAGMENT_ENDED}


def _kept(run: m.Run, event: Kept) -> list[Action]:
    if event.revision != run.plan_revision:
        return [Refuse(f"the run {run.name} has come further than it was when a line of it was chosen")]
    if not event.original:
        return discarded(run)
    fresh, dropped = restored(run)
    fresh.message = f"goes on as it was: {', '.join(run.original.lost)} is back (keep: {run.original.keep})"
    return [*dropped, StoreRun(fresh)]


def _accepted(run: m.Run, cluster: str) -> list[Action]:
    if run.original.fragments[cluster].state != m.FRAGMENT_STATE_ASSIGNED:
        return []
    fresh = copy_of(run)
    fresh.original.fragments[cluster].state = m.FRAGMENT_STATE_RUNNING
    return [StoreRun(fresh)]


def _ended(run: m.Run, event: FragmentEnded) -> list[Action]:
    """One of its fragments has ended, and others have not; or it has failed."""
    status = event.status
    if run.original.fragments[status.cluster].state in FRAGMENT_ENDED or status.state not in FRAGMENT_ENDED:
        return []
    if status.state != m.FRAGMENT_STATE_SUCCEEDED:
        return discarded(run)
    fresh = copy_of(run)
    fresh.original.fragments[status.cluster].CopyFrom(trimmed(status))
    outputs = [StoreOutputs(status.cluster, status.epoch, event.number, tuple(status.outputs))]
    return [*(outputs if status.outputs else []), StoreRun(fresh)]
