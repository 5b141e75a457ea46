"""Which queued run tries to reserve its slots next, pure.

    runs as they change, clusters that have room again ─▶ Try: plan it, and order its slots everywhere
                                                      └─▶ GiveUp: somebody has not answered in time

Runs are tried in the order in which they were submitted. Two whose plans share a cluster never try at once, and none
passes an earlier one with which it shares a cluster; so of runs that want each other's slots the first gets all of
its own, and no two can keep each other from it by trying at the same time. One that was denied is planned again without
the clusters that denied it; where that can't be it waits until one of these says that it has room again. Only a run
that waits for a cluster that does not answer, or can't be planned at all, lets others pass.

Everything here is derived from the runs in the store, so a hub that starts anew merely tries again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bdw_fed.v1 import model_pb2 as m

Name = tuple[str, str]  # namespace, run


@dataclass(frozen=True)
class RunSeen:
    """A run as it is stored now."""

    run: m.Run


@dataclass(frozen=True)
class RunGone:
    """The run has ended or was deleted."""

    name: Name


@dataclass(frozen=True)
class Roomier:
    """A cluster says that it has more room than when it denied somebody, or its agent has just connected."""

    cluster: str


@dataclass(frozen=True)
class NoOtherPlan:
    """There is no plan for the run without the clusters that denied it, or none at all just now."""

    name: Name


@dataclass(frozen=True)
class Tick:
    """The time that `WakeAt` named has come."""


Event = RunSeen | RunGone | Roomier | NoOtherPlan | Tick


@dataclass(frozen=True)
class Try:
    """Plan the run without the clusters in `denied` (with why), and order its slots; or say NoOtherPlan."""

    name: Name
    denied: Mapping[str, str]


@dataclass(frozen=True)
class GiveUp:
    """These clusters have not answered the attempt of this epoch: it is over."""

    name: Name
    epoch: int
    silent: tuple[str, ...]


@dataclass(frozen=True)
class WakeAt:
    """Send a Tick then."""

    at: float


Action = Try | GiveUp | WakeAt


@dataclass
class _Queued:
    """A run that waits."""

    name: Name
    order: tuple[float, Name]
    clusters: frozenset[str]
    attempts: int  # made so far
    epoch: int = 0  # of the attempt under way
    reserved: frozenset[str] = frozenset()
    deadline: float = 0.0  # of that attempt
    trying: bool = False  # an attempt was asked for, and is not stored yet
    tried_at: int = 0  # how much had happened when it was
    outdated: bool = False  # it was asked for without a cluster that has room again
    denied: dict[str, str] = field(default_factory=dict)  # since it was last tried on all clusters of its choice
    waits: bool = False  # until a cluster that denied it has room
    silent: frozenset[str] = frozenset()  # those of `denied` that did not answer
    ask_again: float = 0.0  # when those are asked again at the latest

    @property
    def lets_pass(self) -> bool:
        """What it waits for is no slot, so others need not wait for it."""
        return bool(self.silent) or not self.denied


class Queue:
    """All queued runs. `patience`: seconds within which every cluster of an attempt must answer."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._runs: dict[Name, _Queued] = {}
        self._happened = 0
        self._roomier: dict[str, int] = {}  # cluster -> when it last said so

    def handle(self, event: Event, now: float) -> list[Action]:
        """What is to be done now."""
        self._happened += 1
        actions: list[Action] = []
        match event:
            case RunSeen(run):
                self._seen(run, now)
            case RunGone(name):
                self._runs.pop(name, None)
            case Roomier(cluster):
                self._roomier[cluster] = self._happened
                for queued in self._runs.values():
                    if not queued.epoch and (cluster in queued.denied or not queued.denied):
                        _start_over(queued)
            case NoOtherPlan(name):
                if name in self._runs:
                    self._wait(self._runs[name], now)
            case Tick():
                actions += self._late(now)
        actions += self._next()
        if due := self._due():
            actions.append(WakeAt(min(due)))
        return actions

    def _seen(self, run: m.Run, now: float) -> None:
        name = (run.namespace, run.name)
        if run.state != m.RUN_STATE_QUEUED:
            self._runs.pop(name, None)
            return
        told = run.reservation
        queued = self._runs.get(name)
        if queued is None:
            order = (run.submitted_at, name)
            queued = self._runs[name] = _Queued(name, order, frozenset(told.clusters), told.attempts)
        before, queued.epoch = queued.epoch, told.epoch
        is_over = not told.epoch and (before or told.attempts > queued.attempts)  # its beginning may not have been seen
        queued.attempts = told.attempts
        queued.reserved = frozenset(told.reserved)
        queued.clusters |= frozenset(told.clusters)
        if queued.epoch or is_over:
            queued.trying = False
        if queued.epoch and queued.epoch != before:
            queued.deadline = now + self._patience
        if is_over:
            queued.denied = dict(told.denied)
            queued.silent &= frozenset(told.denied)
            self._missed(queued)

    def _wait(self, queued: _Queued, now: float) -> None:
        queued.trying = False
        if queued.outdated:
            return
        queued.waits = True
        queued.ask_again = now + 2 * self._patience
        self._missed(queued)

    def _missed(self, queued: _Queued) -> None:
        """A cluster may have got room while it denied the run."""
        if any(self._roomier.get(cluster, 0) > queued.tried_at for cluster in queued.denied):
            _start_over(queued)

    def _late(self, now: float) -> list[Action]:
        found: list[Action] = []
        for queued in self._runs.values():
            if queued.epoch and queued.deadline <= now:
                silent = queued.clusters - queued.reserved
                queued.silent |= silent
                queued.deadline = now + self._patience
                found.append(GiveUp(queued.name, queued.epoch, tuple(sorted(silent))))
            elif queued.waits and queued.lets_pass and queued.ask_again <= now:
                _start_over(queued)
        return found

    def _next(self) -> list[Action]:
        """The runs that may try now. Each keeps the later ones from its clusters."""
        found: list[Action] = []
        taken: set[str] = set()
        for queued in self._runs.values():
            if queued.epoch or queued.trying:
                taken |= queued.clusters
        for queued in sorted(self._runs.values(), key=lambda each: each.order):
            if queued.epoch or queued.trying:
                continue
            if queued.waits:
                if not queued.lets_pass:
                    taken |= queued.clusters
                continue
            if not queued.clusters & taken:
                queued.trying = True
                queued.outdated = False
                queued.tried_at = self._happened
                found.append(Try(queued.name, dict(queued.denied)))
            taken |= queued.clusters
        return found

    def _due(self) -> list[float]:
        attempts = [queued.deadline for queued in self._runs.values() if queued.epoch]
        return attempts + [queued.ask_again for queued in self._runs.values() if queued.waits and queued.lets_pass]


def _start_over(queued: _Queued) -> None:
    queued.denied = {}
    queued.silent = frozenset()
    queued.waits = False
    queued.outdated = queued.trying
