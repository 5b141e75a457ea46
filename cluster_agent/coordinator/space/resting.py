"""Clusters of a run that a quota bounds tell each other when nothing moves: only together they know that nothing will.

    a look finds that nothing was done for long, and nothing is under way ─▶ Load.resting ─▶ the run's clusters
    a look here, or such a word, with what all said of themselves ─▶ `stuck`: who rests takes nothing over, and sends
    nothing

A word is repeated at each look, and counts for little longer than until the next; it is taken back as soon as anything
moves. Who hears it, and has done its part of that run, answers so (`Load.ended`): it rests as well, and not every
cluster hears of every step that has closed. None of it is durable.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import early, telling
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.space import quotas

_LOOKS: Final = 4  # until a run that stands still is found to
_COUNTS: Final = 2.5  # looks: so long a word does


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
    """The other clusters on which the run rests, or has ended, as they said not long ago."""
    since = book.now - _COUNTS * look_every(book)
    name = early.run_name(live.key)
    peers = book.loads.peers.items()
    return {
        cluster for cluster, told in peers if told.heard >= since and name in (*told.load.resting, *told.load.ended)
    }


def look_every(book: Book) -> float:
    """Seconds between two looks at a run."""
    return book.policy.stuck_after / _LOOKS
