"""What must always hold, checked as it happens: each commit of each coordinator is entered, and must fit the others.

    WatchedCoordinator ─ records it has decided ─▶ Ledger ◀─ what of it is committed ─ LogDisk
                                                      └─▶ violations, and the story of a trial

Only what is in a log counts: what a crash has taken with it was never decided. A run that begins again is another line
of history, which its epoch names: each line is entered by itself.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.actions import Action, Append
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.cache.records import Recalled, Reused
from cluster_agent.coordinator.clusters.records import GrantGiven, GrantTaken, Rerouted
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.runs.records import FragmentTaken
from cluster_agent.coordinator.tasks.records import Committed
from cluster_agent.coordinator.units.records import Remade
from cluster_agent.log import Batch
from simulator.audit import audit

_AUDIT_EVERY = 16  # batches of a coordinator
_DEAF_SECONDS = 1.0  # after which nothing is heard any more of a cluster that is known to be revoked
Line = tuple[RunKey, int]


class WatchedCoordinator(Coordinator):
    """The production coordinator, whose records are seen, and whose books are added up now and then."""

    def __init__(self, cluster: str, policy: Policy, ledger: Ledger) -> None:
        super().__init__(cluster, policy)
        self._ledger = ledger
        self._cluster = cluster
        self._batches = 0

    def handle_all(self, events: Iterable[messages.Event], now: float) -> list[Action]:
        events = list(events)
        for event in events:
            if isinstance(event, messages.PeerSaid):
                self._ledger.heard(self._cluster, event.cluster)
        actions = super().handle_all(events, now)
        self._ledger.decided(self._cluster, actions)
        self._batches += 1
        if self._batches % _AUDIT_EVERY == 0:
            self._ledger.audit(self._cluster, self)
        return actions

    def resume(self, now: float) -> list[Action]:
        actions = super().resume(now)
        self._ledger.decided(self._cluster, actions)
        return actions


class Ledger:
    """All commits of a trial. `note` hears the story: cluster, what happened, and what it is about."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.violations: list[str] = []
        self.tasks: dict[tuple[Line, bytes], str] = {}  # committed, and where
        self.epochs: dict[tuple[str, RunKey], int] = {}
        self.commits = 0
        self.note: Callable[[str, object], None] = lambda _where, _what: None
        self._clock = clock
        self._decided: dict[str, deque[object]] = {}
        self._given: Counter[tuple[Line, int, bytes]] = Counter()
        self._granted: set[tuple[str, Line, int, bytes]] = set()
        self.out: set[str] = set()  # clusters that were revoked
        self._known: dict[tuple[str, str], float] = {}  # who knows that a cluster was, since when

    def violated(self, what: str) -> None:
        """Something that must hold does not."""
        self.violations.append(f"{self._clock():.3f}: {what}")

    def started(self, cluster: str) -> None:
        """A new life of an agent: what the one before had not committed was never decided."""
        self._decided[cluster] = deque()
        self.forgets(cluster)
        self.note(cluster, "the agent starts")

    def decided(self, cluster: str, actions: Iterable[Action]) -> None:
        """A coordinator wants these records committed."""
        waiting = self._decided[cluster]
        waiting.extend(action.record for action in actions if isinstance(action, Append))

    def committed(self, cluster: str, batch: Batch) -> None:
        """A batch is in the log."""
        waiting = self._decided[cluster]
        for _ in range(batch.count):
            record = waiting.popleft()
            self.commits += 1
            self._enter(cluster, record)
            self.note(cluster, record)

    def audit(self, cluster: str, core: Coordinator) -> None:
        """Add up a coordinator's books."""
        try:
            audit(core)
        except AssertionError as error:
            self.violated(f"the books of {cluster} are wrong: {error}")

    # ------------------------------------------------------------------------------------------------ revocations

    def revoked(self, cluster: str) -> None:
        """A cluster's certificates are worth nothing from now on."""
        self.out.add(cluster)
        self.note("operator", f"{cluster} is revoked")

    def knows(self, who: str, clusters: Iterable[str]) -> None:
        """An agent, by its cluster, or a hub knows that these are revoked."""
        for cluster in clusters:
            self._known.setdefault((who, cluster), self._clock())
            self.note(who, f"knows that {cluster} is revoked")

    def heard(self, who: str, cluster: str) -> None:
        """Somebody believes what a cluster has said, or still speaks to it."""
        known = self._known.get((who, cluster))
        if known is not None and self._clock() > known + _DEAF_SECONDS:
            self.violated(f"{who} has to do with {cluster}, which it knows to be revoked since {known:.3f}")

    def ignorant(self, names: Iterable[str]) -> list[str]:
        """Who of these does not know what is revoked."""
        pairs = [(who, out) for who in names for out in sorted(self.out) if who != out]
        return [f"{who} does not know that {out} is revoked" for who, out in pairs if (who, out) not in self._known]

    def forgets(self, who: str) -> None:
        """A new life of its: what it knows is what it finds written."""
        for name, cluster in [each for each in self._known if each[0] == who]:
            del self._known[name, cluster]

    # ------------------------------------------------------------------------------------------------ records

    def _line(self, cluster: str, run: RunKey) -> Line:
        return run, self.epochs.get((cluster, run), 0)

    def _enter(self, cluster: str, record: Any) -> None:
        match record:
            case FragmentTaken(fragment=fragment):
                taken = m.Fragment.FromString(fragment)
                key = (cluster, RunKey(taken.namespace, taken.run))
                if taken.epoch < self.epochs.get(key, 0):
                    self.violated(f"{cluster} took epoch {taken.epoch} of {taken.run} after {self.epochs[key]}")
                self.epochs[key] = taken.epoch
            case Committed(run=run, task=task) | Recalled(run=run, task=task) | Reused(run=run, task=task):
                line = self._line(cluster, run)
                where = self.tasks.get((line, task))
                if where is not None:
                    self.violated(f"task {task.hex()} of {run.run} is committed on {cluster}, and was on {where}")
                self.tasks[line, task] = cluster
            case Remade(run=run, tasks=tasks):
                for task in tasks:
                    self.tasks.pop((self._line(cluster, run), task), None)
            case GrantGiven(run=run, edge=edge, unit=unit):
                line = self._line(cluster, run)
                self._given[line, edge, unit] += 1
                self._granted.add((cluster, line, edge, unit))
            case GrantTaken(run=run, edge=edge, unit=unit):
                line = self._line(cluster, run)
                self._given[line, edge, unit] -= 1
                if self._given[line, edge, unit] < 0:
                    self.violated(f"{cluster} took unit {unit.hex()} of {run.run} that nobody has granted")
            case Rerouted(run=run, edge=edge, unit=unit):
                if (cluster, self._line(cluster, run), edge, unit) in self._granted:
                    self.violated(f"{cluster} took unit {unit.hex()} of {run.run} back, which it had granted")
            case _:
                pass
