"""What must always hold, checked as it happens: each commit of each coordinator is entered, and must fit the others.

    WatchedCoordinator ─ records it has decided ─▶ Ledger ◀─ what of it is committed ─ LogDisk
                                                      └─▶ violations, and the story of a trial

Only what is in a log counts: what a crash has taken with it was never decided.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator import messages, records
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.log import Batch
from simulator.audit import audit

_AUDIT_EVERY = 16  # batches of a coordinator


class WatchedCoordinator(Coordinator):
    """The production coordinator, whose records are seen, and whose books are added up now and then."""

    def __init__(self, cluster: str, policy: Policy, ledger: Ledger) -> None:
        super().__init__(cluster, policy)
        self._ledger = ledger
        self._cluster = cluster
        self._batches = 0

    def handle_all(self, events: Iterable[messages.Event], now: float) -> list[messages.Action]:
        actions = super().handle_all(events, now)
        self._ledger.decided(self._cluster, actions)
        self._batches += 1
        if self._batches % _AUDIT_EVERY == 0:
            self._ledger.audit(self._cluster, self)
        return actions

    def resume(self, now: float) -> list[messages.Action]:
        actions = super().resume(now)
        self._ledger.decided(self._cluster, actions)
        return actions


class Ledger:
    """All commits of a trial. `note` hears the story: cluster, what happened, and what it is about."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.violations: list[str] = []
        self.tasks: dict[tuple[RunKey, bytes], str] = {}  # committed, and where
        self.epochs: dict[tuple[str, RunKey], int] = {}
        self.commits = 0
        self.note: Callable[[str, object], None] = lambda _where, _what: None
        self._clock = clock
        self._decided: dict[str, deque[object]] = {}
        self._given: Counter[tuple[RunKey, int, bytes]] = Counter()
        self._granted: set[tuple[str, RunKey, int, bytes]] = set()
        self._ended: set[tuple[str, RunKey]] = set()

    def violated(self, what: str) -> None:
        """Something that must hold does not."""
        self.violations.append(f"{self._clock():.3f}: {what}")

    def started(self, cluster: str) -> None:
        """A new life of an agent: what the one before had not committed was never decided."""
        self._decided[cluster] = deque()
        self.note(cluster, "the agent starts")

    def decided(self, cluster: str, actions: Iterable[messages.Action]) -> None:
        """A coordinator wants these records committed."""
        waiting = self._decided[cluster]
        waiting.extend(action.record for action in actions if isinstance(action, messages.Append))

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

    def _enter(self, cluster: str, record: Any) -> None:
        match record:
            case records.FragmentTaken(fragment=fragment):
                taken = m.Fragment.FromString(fragment)
                key = (cluster, RunKey(taken.namespace, taken.run))
                if taken.epoch < self.epochs.get(key, 0):
                    self.violated(f"{cluster} took epoch {taken.epoch} of {taken.run} after {self.epochs[key]}")
                self.epochs[key] = taken.epoch
            case records.Committed(run=run, task=task):
                where = self.tasks.get((run, task))
                if where is not None:
                    self.violated(f"task {task.hex()} of {run.run} is committed on {cluster}, and was on {where}")
                self.tasks[run, task] = cluster
            case records.Remade(run=run, tasks=tasks):
                for task in tasks:
                    self.tasks.pop((run, task), None)
            case records.GrantGiven(run=run, edge=edge, unit=unit):
                self._given[run, edge, unit] += 1
                self._granted.add((cluster, run, edge, unit))
            case records.GrantTaken(run=run, edge=edge, unit=unit):
                self._given[run, edge, unit] -= 1
                if self._given[run, edge, unit] < 0:
                    self.violated(f"{cluster} took unit {unit.hex()} of {run.run} that nobody has granted")
            case records.Rerouted(run=run, edge=edge, unit=unit):
                if (cluster, run, edge, unit) in self._granted:
                    self.violated(f"{cluster} took unit {unit.hex()} of {run.run} back, which it had granted")
            case _:
                pass
