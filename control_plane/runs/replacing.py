"""How a run begins again without clusters that are lost, pure: which are, and the one write that decides it.

    RUNNING ─ a cluster was silent for its `lost_after`, and may be replaced ─▶ `verdict`: plan without it
            ─ Replaced ─▶ a newer revision of the plan: all fragments are new, and so are all epochs

What the fragments of an older revision say counts no more, whoever says it: the run's table of epochs has no place for
it. So it does not matter whether a lost cluster is dead, or works on and comes back. What the others have done they do
not do again: see the coordinator's `remembering`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs import lines
from control_plane.runs.forms import FRAGMENT_ENDED, copy_of, needs, take_part, trimmed
from control_plane.runs.messages import (
    Action,
    HandOut,
    Irreplaceable,
    LogLost,
    Refuse,
    Replaced,
    SetDesired,
    StoreRun,
)
from wire.lines import line_name

_WAITS = "waits for a lost cluster: "
_GOES_ON = (m.RUN_STATE_RUNNING, m.RUN_STATE_SUSPENDED)
STOPPED = "stopped"  # the kind of failure that a coordinator tells
MOST_FRAGMENTS = 100
MOST_BYTES = 600 << 10  # of all fragments: they are written in one transaction


@dataclass(frozen=True)
class Verdict:
    """The clusters that are lost to a run, and those that have stopped their part: without any of them it begins again.

    `next_in`: seconds until the next will be lost, if nothing is heard.
    """

    lost: tuple[str, ...]
    stopped: tuple[str, ...]
    next_in: float | None


def verdict(run: m.Run, silence: Mapping[str, float], gone: Collection[str] = ()) -> Verdict:
    """What is lost to a run.

    `silence`: for how many seconds nothing was heard of a cluster. `gone`: those that don't come back to what they
    have, because they should be empty by now or are revoked; they are lost at once.
    """
    if run.state not in _GOES_ON:
        return Verdict((), (), None)
    lost = []
    left: list[float] = []
    for cluster, after in run.replace_after.items():
        if cluster not in run.fragments or not needs(run, cluster):
            continue
        if cluster in gone and run.fragments[cluster].state not in FRAGMENT_ENDED:
            lost.append(cluster)
        elif cluster not in silence:
            continue
        elif silence[cluster] >= after:
            lost.append(cluster)
        else:
            left.append(after - silence[cluster])
    return Verdict(tuple(sorted(lost)), tuple(run.stopped), min(left, default=None))


def objection(lost: Collection[str], fragments: Mapping[str, m.Fragment], out_of_touch: Collection[str]) -> str | None:
    """Why a plan without the lost clusters can't replace them just now; None: it can."""
    names = ", ".join(sorted(lost))
    if bound := sorted(set(lost) & fragments.keys()):
        where = bound[0]
        data = sorted({part.step for part in fragments[where].sources}) or ["its input"]
        return f"{where} can't be replaced: {', '.join(data)} is read there and lies nowhere else"
    if absent := sorted(fragments.keys() & set(out_of_touch)):
        return f"{names} can't be replaced before {', '.join(absent)} is back: the run needs it to begin again"
    if len(fragments) > MOST_FRAGMENTS or sum(each.ByteSize() for each in fragments.values()) > MOST_BYTES:
        return f"{names} can't be replaced: the plan is too large to be changed at once"
    return None


def replaced(run: m.Run, event: Replaced) -> list[Action]:
    """The run begins again by this plan."""
    if run.state not in _GOES_ON or event.revision != run.plan_revision + 1:
        return [Refuse(f"the run {run.name} has come further than it was when it was planned without a lost cluster")]
    line = event.fragments[0].run
    beside = line != lines.name_of(run)
    if beside and run.stopped:  # while the plan was made: what would go on beside it could not come to its end
        return [Refuse(f"a part of the run {run.name} was stopped when it was planned without a lost cluster")]
    fresh = copy_of(run)
    fresh.plan_revision = event.revision
    fresh.plan = event.plan
    fresh.message = f"began again: {_why(run, event)}"
    if beside:
        lines.put_beside(fresh, run, event.lost)
        fresh.line = line
        fresh.message += f"; what was there goes on beside it (keep: {fresh.original.keep})"
    take_part(fresh, event.fragments)
    fresh.replaced.extend(each for each in event.lost if each not in fresh.replaced)
    del fresh.stopped[:]
    gone = tuple(sorted(run.fragments.keys() - fresh.fragments.keys()))
    return [
        HandOut(event.fragments, fresh.desired),
        *([SetDesired(gone, m.DESIRED_STATE_FORGOTTEN)] if gone and not beside else []),
        StoreRun(fresh),
    ]


def _why(run: m.Run, event: Replaced) -> str:
    """What has become of the parts that others have now: what those that stopped have said, else that nothing came."""
    said = {run.fragments[each].failures[-1].message for each in run.stopped if run.fragments[each].failures}
    if not event.lost and said:
        return f"{', '.join(run.stopped)}: {'; '.join(sorted(said))}"
    return f"{', '.join(event.lost) or ', '.join(run.stopped)} was out of touch, or is drained or revoked"


def line_of_next(run: m.Run, lost: Collection[str], gone: Collection[str]) -> str:
    """The name of the line of which the run's next fragments are.

    A line is begun beside the one that there is if the clusters may come back to it: not where they are drained or
    revoked, have stopped their part or lost their log. The replacement that stands beside a line is replaced in its
    place.
    """
    comes_back = lost and not run.stopped and not set(lost) & set(gone)
    if comes_back and lines.rule_of(run, lost) and not run.HasField("original"):
        return line_name(run.name, run.plan_revision + 1)
    return lines.name_of(run)


def stopped_by_itself(run: m.Run, status: m.FragmentStatus) -> bool:
    """Whether a fragment ended because its cluster was without the hub for too long, and the run may begin again."""
    kinds = [failure.kind for failure in status.failures[-1:]]
    return kinds == [STOPPED] and status.cluster in run.replace_after and run.state in _GOES_ON


def stopped(run: m.Run, status: m.FragmentStatus) -> list[Action]:
    """The part has ended, and the run has not failed by that: whoever is there gets it, perhaps the same cluster."""
    fresh = copy_of(run)
    fresh.fragments[status.cluster].CopyFrom(trimmed(status))
    if status.cluster not in fresh.stopped:
        fresh.stopped.append(status.cluster)
    return [StoreRun(fresh)]


def log_lost(run: m.Run, event: LogLost) -> list[Action] | None:
    """Its part begins again, with all others; None: that is not the run's policy.

    What was said to peers and nodes under the epoch that is lost must meet no other coordinator under the same epoch.
    So the fragment is taken back until there is a newer one.
    """
    if event.cluster not in run.replace_after or run.state not in _GOES_ON:
        return None
    status = without_log(run.fragments[event.cluster])
    return [SetDesired((event.cluster,), m.DESIRED_STATE_FORGOTTEN), *stopped(run, status)]


def without_log(kept: m.FragmentStatus) -> m.FragmentStatus:
    """How a fragment stands once the log of its coordinator is lost: also one that had ended, with its units."""
    status = m.FragmentStatus()
    status.CopyFrom(kept)
    status.state = m.FRAGMENT_STATE_FAILED
    message = "its coordinator has lost its log and begun a new one"
    status.failures.add(cluster=kept.cluster, kind="lost", message=message)
    return status


def irreplaceable(run: m.Run, event: Irreplaceable) -> list[Action]:
    """The run says what it waits for, or does not any more."""
    message = _WAITS + event.reason if event.reason else ""
    if run.state not in _GOES_ON or run.message == message or (not message and not waits(run)):
        return []
    fresh = copy_of(run)
    fresh.message = message
    return [StoreRun(fresh)]


def waits(run: m.Run) -> bool:
    """Whether the run says that it waits for a lost cluster."""
    return run.message.startswith(_WAITS)
