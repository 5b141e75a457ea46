"""A run in its various forms, pure: with newer progress laid over it, bounded for the store, its outputs sorted."""

from __future__ import annotations

from collections.abc import Iterable

from bdw_fed.v1 import model_pb2 as m

ENDED = frozenset([m.RUN_STATE_SUCCEEDED, m.RUN_STATE_FAILED, m.RUN_STATE_CANCELLED])
FRAGMENT_ENDED = frozenset([m.FRAGMENT_STATE_SUCCEEDED, m.FRAGMENT_STATE_FAILED, m.FRAGMENT_STATE_CANCELLED])
_FAILURES_KEPT = 3
_DETAIL_CHARACTERS = 1024


def overlaid(run: m.Run, statuses: Iterable[m.FragmentStatus]) -> m.Run:
    """The run with newer counters laid over those that are stored; the run itself where none are newer."""
    shown: m.Run | None = None
    for status in statuses:
        if run.state in ENDED:
            continue
        kept = (shown or run).fragments.get(status.cluster)
        beside = (shown or run).original.fragments.get(status.cluster)
        if kept is not None and _is_news(kept, status):
            shown = shown or copy_of(run)
            shown.fragments[status.cluster].CopyFrom(trimmed(status))
        elif beside is not None and _is_news(beside, status):
            shown = shown or copy_of(run)
            shown.original.fragments[status.cluster].CopyFrom(trimmed(status))
    return shown or run


def compacted(run: m.Run, most_bytes: int) -> m.Run:
    """The run, without details of its fragments as far as that is needed to make it small enough to be stored."""
    fresh = run
    for detail in ("traffic", "failures", "steps", "unheard"):
        if fresh.ByteSize() <= most_bytes:
            break
        fresh = copy_of(fresh) if fresh is run else fresh
        for fragment in (*fresh.fragments.values(), *fresh.original.fragments.values()):
            fragment.ClearField(detail)
    return fresh


def trimmed(status: m.FragmentStatus) -> m.FragmentStatus:
    """A status as it is kept in a run: bounded, and without outputs, which are kept by themselves."""
    kept = m.FragmentStatus()
    kept.CopyFrom(status)
    del kept.outputs[:]
    dropped = max(0, len(kept.failures) - _FAILURES_KEPT)
    del kept.failures[:dropped]
    kept.failures_left_out += dropped
    for failure in kept.failures:
        failure.detail = failure.detail[-_DETAIL_CHARACTERS:]
    return kept


def published(outputs: Iterable[m.RunOutput]) -> list[m.RunOutput]:
    """Outputs in the order people see them, each unit once per output name."""
    distinct = {(output.name, output.unit.id): output for output in outputs}
    return sorted(distinct.values(), key=lambda output: (output.name, output.file, output.unit.id))


def _is_news(kept: m.FragmentStatus, status: m.FragmentStatus) -> bool:
    return kept.epoch == status.epoch and kept.state not in FRAGMENT_ENDED and status.state not in FRAGMENT_ENDED


def assigned(fragment: m.Fragment) -> m.FragmentStatus:
    """The status of a fragment of which nothing was heard."""
    return m.FragmentStatus(
        namespace=fragment.namespace,
        run=fragment.run,
        cluster=fragment.cluster,
        epoch=fragment.epoch,
        state=m.FRAGMENT_STATE_ASSIGNED,
    )


def counts(run: m.Run | m.RunLine, cluster: str, epoch: int) -> bool:
    """Whether what a fragment of that epoch says is of the run as it is now, or of this line of it."""
    return cluster in run.fragments and run.fragments[cluster].epoch == epoch


def needs(line: m.Run | m.RunLine, cluster: str) -> bool:
    """Whether a line of a run may still need a cluster that has a part in it.

    It does until the part has ended, and for as long as one that goes on elsewhere lacks something that it has said:
    should the cluster be lost, nobody can say that again.
    """
    part = line.fragments[cluster]
    return part.state not in FRAGMENT_ENDED or any(
        other in line.fragments and line.fragments[other].state not in FRAGMENT_ENDED for other in part.unheard
    )


def kept_until(run: m.Run, output: m.RunOutput) -> float:
    """Until when an output is kept, as Unix time; 0: as long as the run is, or it is not known yet."""
    return run.ended_at + output.retain if run.ended_at and output.retain else 0.0


def absence(run: m.Run, absent: Iterable[str]) -> str:
    """What it means for the run that these clusters of it are out of touch; empty: nothing."""
    needed = [cluster for cluster in absent if needs(run, cluster)]
    going = [name for name, part in sorted(run.fragments.items()) if part.state not in FRAGMENT_ENDED]
    at_work = [cluster for cluster in needed if cluster in going]
    said = [f"{', '.join(at_work)} out of touch: what goes on there is not known"] if at_work else []
    for cluster in needed:
        if cluster not in going:
            others = ", ".join(name for name in going if name in run.fragments[cluster].unheard)
            said.append(f"{cluster} out of touch: its part has ended, but its last words have not reached {others}")
    return "; ".join(said)


def of_line(run: m.Run, cluster: str, epoch: int) -> m.Run | m.RunLine:
    """The line of which a cluster's fragment of that epoch is: the original, or else the run as it is."""
    beside = run.original.fragments.get(cluster) if run.HasField("original") else None
    return run.original if beside is not None and beside.epoch == epoch else run


def heard(run: m.Run, cluster: str, epoch: int) -> m.Run:
    """The run once nobody lacks anything that a fragment of it has said; the run itself where nobody did."""
    line = of_line(run, cluster, epoch)
    if not counts(line, cluster, epoch) or not line.fragments[cluster].unheard:
        return run
    fresh = copy_of(run)
    del of_line(fresh, cluster, epoch).fragments[cluster].unheard[:]
    return fresh


def take_part(fresh: m.Run, fragments: Iterable[m.Fragment]) -> None:
    """These are the run's fragments now, and nothing was heard of them."""
    fresh.fragments.clear()
    fresh.replace_after.clear()
    fresh.keep.clear()
    for fragment in fragments:
        fresh.retain = fragment.policy.retain
        fresh.retain_outputs = max((step.execution.output.retain for step in fragment.steps), default=0.0)
        fresh.fragments[fragment.cluster].CopyFrom(assigned(fragment))
        if fragment.policy.replace:
            fresh.replace_after[fragment.cluster] = fragment.policy.lost_after
        if fragment.policy.keep in ("original", "furthest"):
            fresh.keep[fragment.cluster] = fragment.policy.keep


def state_word(state: m.RunState.ValueType) -> str:
    """A run's state as people read it."""
    return m.RunState.Name(state).removeprefix("RUN_STATE_").lower()


def copy_of(run: m.Run) -> m.Run:
    """A run that may be changed."""
    fresh = m.Run()
    fresh.CopyFrom(run)
    return fresh
