"""What lies on the nodes of each cluster, held against the quotas that its coordinator has been told.

A unit enters a journal ─▶ Bounds ─ all journals of the cluster, its coordinator's quotas ─▶ Ledger.violated

It may be passed by one task's outputs, where nothing else is left to do, and by what comes of a run's first split or
task, of which nobody knew how much that would be. Counted is what really lies there, whether its coordinator has heard
of it or not; but neither files of datasets, wherever they were copied to, nor what it has told a node to free, which
goes as soon as that hears of it. Where a run has begun again, or a store was lost, nothing is promised: what is lost is
made again all the same, since others wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.space import quotas
from cluster_agent.coordinator.space.bounds import Quota
from simulator.trials.bulk import UNIT_BYTES

if TYPE_CHECKING:
    from cluster_agent.coordinator.book import Book
    from simulator.trials.disk import Journal


class Bounds:
    """`journals`: of each cluster's nodes; `book_of`: what its agent knows, if it is alive."""

    def __init__(
        self,
        journals: Mapping[str, Sequence[tuple[str, Journal]]],
        book_of: Callable[[str], Book | None],
        violated: Callable[[str], None],
    ) -> None:
        self._journals = journals
        self._book_of = book_of
        self._violated = violated
        self._excused: set[str] = set()  # clusters on which lost units were made again

    def look(self, cluster: str) -> None:
        """Something has come to a node of the cluster."""
        book = self._book_of(cluster)
        if book is None:
            return
        if any(task.remake for live in book.lives.values() for task in live.run.tasks.values()):
            self._excused.add(cluster)
        if cluster in self._excused or any(live.run.remembers for live in book.lives.values()):
            return
        stored = {key: sum(self._stored(cluster, live)) for key, live in book.lives.items()}
        for live in book.lives.values():
            for quota in quotas.of(book, live) if live.going else ():
                found, runs = stored[live.key], 1
                if quota.namespace:
                    found = sum(size for key, size in stored.items() if key.namespace == quota.namespace)
                    # What one has stored beyond the quota stays when it has ended.
                    runs = sum(size > 0 or book.lives[key].going for key, size in stored.items())
                if found > quota.limit + (1 + runs) * UNIT_BYTES:
                    self._violated(_words(cluster, live, quota, found))

    def _stored(self, cluster: str, live: LiveRun) -> Iterator[int]:
        key = live.key
        for node, journal in self._journals[cluster]:
            for (namespace, run, identifier), (_, size) in journal.units.items():
                if (namespace, run) == (key.namespace, key.run):
                    unit = live.run.units.get(identifier)
                    if unit is None or (node in unit.copies and unit.part < 0):
                        yield size


def _words(cluster: str, live: LiveRun, quota: Quota, found: int) -> str:
    whose = f"namespace {quota.namespace}" if quota.namespace else live.key.run
    return f"{found} bytes are stored on {cluster}, where the quota of {whose} is {quota.limit}"
