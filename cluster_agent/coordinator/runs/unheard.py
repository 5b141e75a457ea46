"""What this cluster has said of each run, and the logs of other clusters do not have yet.

    SendPeer ── said ──▶ Unheard ◀── heard ── acks of the peers' sessions
    a fragment ends well ── ended ──▶ who lacks something, for the hub;  heard ──▶ the ended runs of which nobody does

A fragment that has ended well owes nobody a unit, but its last words (sums, closings, releases) may still be on their
way when the hub hears of its end. If the cluster is lost then, they are lost with it, and whoever needs them waits for
ever. So the hub is told whose logs lack something, and once none does: until then the cluster is not done with the run.

Nothing here is stored: it follows from the outbox. Numbers to a cluster have no gaps, so it is enough to know the runs
of the messages that it has not acknowledged, in their order, and the number of the next one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from cluster_agent.coordinator.messages import RunKey


class Unheard:
    """See the module."""

    def __init__(self) -> None:
        self._said: dict[str, deque[RunKey]] = {}
        self._next: dict[str, int] = {}
        self._lacking: dict[RunKey, Counter[str]] = {}  # run -> cluster -> messages of it that its log lacks
        self._ended: set[RunKey] = set()

    @property
    def awaited(self) -> bool:
        """Whether somebody is to be told as soon as more is heard."""
        return bool(self._ended)

    def begin(self, cluster: str, following: int, runs: Iterable[RunKey]) -> None:
        """The outbox to a cluster has messages of these runs, in this order, and the next one gets that number."""
        for run in self._said.pop(cluster, ()):
            self._drop(cluster, run)
        self._next[cluster] = following
        queue = self._said[cluster] = deque(runs)
        for run in queue:
            self._lacking.setdefault(run, Counter())[cluster] += 1

    def said(self, cluster: str, run: RunKey) -> None:
        """The next message to a cluster is of this run."""
        self._said.setdefault(cluster, deque()).append(run)
        self._next[cluster] = self._next.get(cluster, 1) + 1
        self._lacking.setdefault(run, Counter())[cluster] += 1

    def ended(self, run: RunKey) -> list[str]:
        """The run's fragment has ended well: the clusters whose logs lack something of it. `heard` tells when none do.

        None at all: nobody needs to be told.
        """
        lacking = self._lacking.get(run)
        if lacking is None:
            return []
        self._ended.add(run)
        return sorted(lacking)

    def heard(self, cluster: str, number: int) -> list[RunKey]:
        """A cluster's log has all up to this number. The ended runs of which nobody's log lacks anything now."""
        queue = self._said.get(cluster, deque())
        complete = []
        while queue and self._next[cluster] - len(queue) <= number:
            run = queue.popleft()
            self._drop(cluster, run)
            if run in self._ended and run not in self._lacking:
                self._ended.discard(run)
                complete.append(run)
        return complete

    def _drop(self, cluster: str, run: RunKey) -> None:
        lacking = self._lacking[run]
        lacking[cluster] -= 1
        if not lacking[cluster]:
            del lacking[cluster]
        if not lacking:
            del self._lacking[run]
