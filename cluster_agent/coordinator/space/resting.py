"""Clusters of a run that a quota bounds tell each other when nothing moves: only together they know that nothing will.

    a look finds that nothing was done since the last, and nothing is under way ─▶ Load.resting ─▶ the run's clusters
    a look here, with what they said of themselves ─▶ `stuck`: who rests takes nothing over, and sends nothing

A word that is not repeated counts for little longer than the time between two looks; it is taken back as soon as
anything moves. None of it is durable.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import early, telling
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.space import quotas

_LOOKS: Final = 1.5  # for which a word counts


def concerns(book: Book, live: LiveRun) -> bool:
    """Whether others want to know if the run rests here."""
    return live.going and len(live.graph.epochs) > 1 and bool(quotas.of(book, live))


def say(book: Book, live: LiveRun, *, rests: bool) -> None:
    """Tell the run's other clusters that it rests here; or that it does so no more, if they were told."""
    if rests:
        book.resting[live.key] = live
    elif book.resting.pop(live.key, None) is None:
        return
    for cluster in live.graph.epochs:
        if cluster != book.cluster:
            telling.tell(book, cluster)


def others(book: Book, live: LiveRun) -> set[str]:
    """The other clusters on which the run rests, as they said not long ago."""
    since = book.now - _LOOKS * book.policy.stuck_after
    name = early.run_name(live.key)
    peers = book.loads.peers.items()
    return {cluster for cluster, told in peers if told.heard >= since and name in told.load.resting}
