"""A run that waits for a quota and can't move any more: how that is known, and the words in which it fails. Pure.

Other than of a disk it is known which runs' room counts: the run's own, or those of its namespace. Whether another
cluster can help, `stuck` knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import SPLIT, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.space import disks, footprint, quotas
from cluster_agent.coordinator.space.bounds import OFFERS, Quota
from cluster_agent.orders.messages import Failure

_NAMED: Final = 4  # runs, of those that have most


def holding(book: Book, live: LiveRun) -> tuple[Quota, Step | None] | None:
    """The quota that holds the run back, and the step that waits for it; no step: units of other clusters do."""
    for index in sorted(live.bounded, reverse=True):
        if index == OFFERS and live.unanswered:
            return live.bounded[index], None
        if index != OFFERS and live.short.get(index) == () and live.ready[index]:
            return live.bounded[index], live.graph.steps[index]
    for step in paused(live):
        return min(quotas.of(book, live), key=lambda quota: quotas.left(book, live, quota)), step
    return None


def paused(live: LiveRun) -> Iterator[Step]:
    """The splits that wait for their windows."""
    for identifier in live.windows:
        task = live.run.tasks[identifier]
        step = live.graph.steps[task.step]
        if quotas.pauses(live, step, task):
            yield step


def rivals(book: Book, live: LiveRun, quota: Quota) -> Iterator[LiveRun]:
    """The other runs that go on and might give some of it back."""
    for other in book.lives.going.values():
        if other is not live and quota.namespace == other.key.namespace and other.run.units:
            yield other


def never_fits(book: Book, live: LiveRun) -> tuple[Failure, str] | None:
    """Why a run must fail at once, and at which step: it is offered a unit that is larger than a quota. None: not."""
    for quota in quotas.of(book, live) if live.unanswered else ():
        for edge, identifier in live.unanswered:
            size = live.run.units[identifier].size
            if size > quota.limit:
                lacks = f"a unit of {disks.in_words(size)} is to come from another cluster"
                step = live.graph.edges[edge].consumer.name
                return Failure("full", _sentence(book, live, quota, f"{lacks} to {step}")), step
    return None


def words(book: Book, live: LiveRun, step: Step) -> str:
    """What a step's waiting tasks lack, if it is a quota, for people; else ""."""
    quota = live.bounded.get(step.index) if live.short.get(step.index) == () and live.ready[step.index] else None
    if quota is None and step.kind == SPLIT and step in paused(live):
        quota = min(quotas.of(book, live), key=lambda each: quotas.left(book, live, each))
    if quota is None:
        return ""
    used, limit = disks.in_words(quotas.stored(book, live, quota)), disks.in_words(quota.limit)
    whose = f"namespace {quota.namespace}" if quota.namespace else "the run"
    return f"quota of {whose} on {book.cluster} ({used} of {limit} stored)"


def failure(book: Book, live: LiveRun, quota: Quota, step: Step | None) -> Failure:
    """That the run can't go on, and why."""
    if step is not None and not live.ready[step.index]:
        lacks = f"{step.name} waits in the middle of a file"
    elif step is not None:
        task = live.run.tasks[live.ready[step.index][0]]
        writes = footprint.likely(live, task).expected or footprint.part(live, step)
        lacks = f"{len(live.ready[step.index])} tasks of step {step.name} wait, and one would write "
        lacks += disks.in_words(writes)
    else:
        units = [live.run.units[unit].size for _, unit in live.unanswered]
        lacks = f"{len(units)} units of other clusters, of {disks.in_words(sum(units))}, have no place"
    return Failure("full", _sentence(book, live, quota, lacks))


def _sentence(book: Book, live: LiveRun, quota: Quota, lacks: str) -> str:
    used, limit = disks.in_words(quotas.stored(book, live, quota)), disks.in_words(quota.limit)
    if not quota.namespace:
        return (
            f"the run can't go on within its quota: it may store {limit} on {book.cluster} (policy.quota of its "
            f"workflow), has stored {used} there, and {lacks}. Raise policy.quota, make the units smaller (split), or "
            "let the steps make less"
        )
    held = {key: other.stored for key, other in book.lives.items() if key.namespace == quota.namespace and other.stored}
    most = sorted(held.items(), key=lambda each: -each[1])[:_NAMED]
    told = ", ".join(f"run {key.run} has {disks.in_words(size)}" for key, size in most)
    return (
        f"the run can't go on within the quota of namespace {quota.namespace}: its runs may store {limit} on "
        f"{book.cluster}, have stored {used} there{f' ({told})' if told else ''}, and {lacks}. Delete runs whose "
        "outputs lie there, let the steps make less, or have an operator raise the quota (kind: Quota)"
    )
