"""The hub of a federation on virtual time: production planner, runs and queue; what the store would keep outlives it.

    federation ─ submit, heard, misses ─▶ Hub ─ want ─▶ federation ─▶ agents

What of a real hub are tasks that go on beside each other happens here in turn, each at its moment of the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from bdw_fed.v1 import federation_pb2, model_pb2
from control_plane.planner.core import Planned, plan
from control_plane.reservations.core import Event as QueueEvent
from control_plane.reservations.core import (
    GiveUp,
    Name,
    NoOtherPlan,
    Queue,
    Roomier,
    RunGone,
    RunSeen,
    Tick,
    Try,
    WakeAt,
)
from control_plane.runs import core, forms, lines
from control_plane.runs import messages as told
from control_plane.runs.replacing import line_of_next, objection, verdict
from simulator.clock import Clock
from simulator.cluster import Cluster
from simulator.job import Job
from wire.errors import ProblemError
from wire.lines import run_of

TIME_TO_LIVE = 10.0


class Hub:
    """Runs and assignments. `want` tells an agent, if it is connected, that what is wanted of it has changed."""

    def __init__(self, clock: Clock, clusters: Mapping[str, Cluster], want: Callable[[str, Name], None]) -> None:
        self.runs: dict[Name, model_pb2.Run] = {}
        self.assignments: dict[tuple[str, Name], model_pb2.Assignment] = {}
        self.jobs: dict[Name, Job] = {}
        self._clock = clock
        self._clusters = clusters
        self._want = want
        self._revision = 0
        self._lives = 0
        self._looks = False  # it will look again for clusters that are lost
        self._silent: dict[str, float] = {}  # cluster that is not heard -> since when
        self._new_logs: set[str] = set()  # clusters whose log is another than the one that is known
        self._queue = Queue(TIME_TO_LIVE / 2)

    def submit(self, name: str, job: Job) -> None:
        """As `bdw-fed submit` does it."""
        run_name = ("default", name)
        self.jobs[run_name] = job
        run = model_pb2.Run(namespace="default", name=name, submitted_at=self._clock.now)
        self._happened(run_name, told.Submitted(run))
        planned = self._plan(run_name, {})
        fragments = tuple(planned.fragments.values())
        mode = fragments[0].policy.reserve
        if mode == "none":
            self._happened(run_name, told.Planned(1, b"plan", fragments, self._clock.now))
        else:
            self._happened(run_name, told.Queued(1, b"plan", mode, tuple(sorted(planned.fragments))))

    def cancel(self, name: str) -> None:
        """As `bdw-fed cancel` does it."""
        self._happened(("default", name), told.CancelRequested("cancelled", self._clock.now))

    def crash(self) -> None:
        """Another hub takes its place."""
        self._lives += 1
        self._silent = dict.fromkeys(self._silent, self._clock.now)
        self._queue = Queue(TIME_TO_LIVE / 2)
        for run in self.runs.values():
            if run.state not in forms.ENDED:
                self._ask(RunSeen(run))

    @property
    def ended(self) -> bool:
        """All runs have."""
        return all(run.state in forms.ENDED for run in self.runs.values())

    # ------------------------------------------------------------------------------------------------ its agents

    def misses(self, cluster: str) -> None:
        """From now on the agent is not heard, unless that was so before."""
        self._silent.setdefault(cluster, self._clock.now)

    def has_new_log(self, cluster: str) -> None:
        """The agent's log is gone; it is learnt when the agent is heard again."""
        self._new_logs.add(cluster)

    def hears(self, cluster: str) -> None:
        """The agent is connected."""
        self._silent.pop(cluster, None)
        if cluster in self._new_logs:
            self._new_logs.remove(cluster)
            for (where, name), lost in list(self.assignments.items()):
                if where == cluster:
                    event = told.LogLost(cluster, lost.fragment.epoch, self._clock.now)
                    self._happened((name[0], run_of(name[1])), event)
            self.look()

    def is_roomier(self, cluster: str) -> None:
        """The cluster may have slots for runs that wait for some."""
        self._ask(Roomier(cluster))

    def wanted(self, cluster: str) -> federation_pb2.AssignmentSet:
        """All that is wanted of an agent."""
        assignments = [each for (where, _), each in sorted(self.assignments.items()) if where == cluster]
        return federation_pb2.AssignmentSet(assignments=assignments)

    def heard(self, cluster: str, kind: str, message: bytes) -> None:
        """What an agent says reliably."""
        now = self._clock.now
        match kind:
            case "reservation":
                answer = federation_pb2.ReservationAnswer.FromString(message)
                said: told.Event = told.Answered(cluster, answer.epoch, answer.reserved, answer.reason, now)
                self._happened((answer.namespace, answer.run), said)
            case "freed":
                self._ask(Roomier(cluster))
            case "accepted":
                accepted = federation_pb2.FragmentAccepted.FromString(message)
                name = accepted.namespace, run_of(accepted.run)
                self._happened(name, told.FragmentAccepted(cluster, accepted.epoch, now))
            case "ended":
                status = model_pb2.FragmentStatus.FromString(message)
                name = status.namespace, run_of(status.run)
                self._happened(name, told.FragmentEnded(status, 0, now, ()))
                if self.runs[name].stopped:
                    self.look()
            case _:
                pass

    # ------------------------------------------------------------------------------------------------ its tasks

    def look(self) -> None:
        """Have runs begin again without clusters that are lost."""
        now = self._clock.now
        silence = {cluster: now - since for cluster, since in self._silent.items()}
        for name, run in list(self.runs.items()):
            found = verdict(run, silence)
            if run.HasField("original") and not self._silent.keys() & set(lines.waits_for(run)):
                self._happened(name, lines.back(self._shown(run)))
            elif found.lost or found.stopped:
                self._begin_again(name, found.lost)
        if self._silent and not self.ended and not self._looks:
            self._looks = True
            self._clock.after(1.0, self._look_again)

    def _shown(self, run: model_pb2.Run) -> model_pb2.Run:
        """The run with the newest that its clusters, all of which are there, have told of it."""
        statuses = [
            cluster.core.status(key)
            for cluster in self._clusters.values()
            for key in cluster.core.runs()
            if (key.namespace, run_of(key.run)) == (run.namespace, run.name)
        ]
        return forms.overlaid(run, statuses)

    def _look_again(self) -> None:
        self._looks = False
        self.look()

    def _begin_again(self, name: Name, lost: tuple[str, ...]) -> None:
        revision = self.runs[name].plan_revision + 1
        line = line_of_next(self.runs[name], lost, ())
        try:
            fragments = self._plan(name, {}, lost=lost, revision=revision).fragments
        except ProblemError:
            return
        if objection(lost, fragments, self._silent) is None:
            for fragment in fragments.values():
                fragment.run = line
                table = model_pb2.EpochTable(namespace=name[0], run=line, revision=revision, epochs=fragment.epochs)
                fragment.table.table = table.SerializeToString()  # the network is played, and nobody lies
            event = told.Replaced(lost, revision, b"plan", tuple(fragments.values()), self._clock.now)
            self._happened(name, event)

    def _plan(self, name: Name, denied: Mapping[str, str], *, lost: Collection[str] = (), revision: int = 1) -> Planned:
        self._revision += 1
        statuses = {cluster: each.status() for cluster, each in self._clusters.items()}
        for cluster in lost:
            statuses[cluster].state = "unknown"
        request = replace(self.jobs[name].request, run=name[1], clusters=statuses, denied=denied, epoch=self._revision)
        return plan(replace(request, revision=revision))

    def _happened(self, name: Name, event: told.Event) -> None:
        """The writer of runs: the actions of one event are one transaction."""
        run = self.runs.get(name)
        changed: dict[tuple[str, Name], None] = {}
        for action in core.handle(run, event):
            match action:
                case told.StoreRun(fresh):
                    self.runs[name] = fresh
                case told.StoreFragments(fragments, desired, seconds):
                    for fragment in fragments:
                        assignment = model_pb2.Assignment(fragment=fragment, desired=desired, time_to_live=seconds)
                        self.assignments[fragment.cluster, name] = assignment
                        changed[fragment.cluster, name] = None
                case told.HandOut(fragments, desired):
                    for fragment in fragments:
                        part = fragment.cluster, (fragment.namespace, fragment.run)
                        self.assignments[part] = model_pb2.Assignment(fragment=fragment, desired=desired)
                        changed[part] = None
                case told.SetDesired(clusters, desired, line):
                    for cluster in clusters:
                        part = cluster, (name[0], line or (lines.name_of(run) if run is not None else name[1]))
                        before = self.assignments[part]
                        self.assignments[part] = model_pb2.Assignment(fragment=before.fragment, desired=desired)
                        changed[part] = None
                case told.TakeBack(clusters):
                    for cluster in clusters:
                        del self.assignments[cluster, name]
                        changed[cluster, name] = None
                case _:
                    pass
        for part in changed:
            self._want(*part)
        if self.runs[name] is not run:
            self._ask(RunGone(name) if self.runs[name].state in forms.ENDED else RunSeen(self.runs[name]))

    def _ask(self, event: QueueEvent) -> None:
        """The hub's task that drives the queue: each thing in its turn."""
        life = self._lives
        self._clock.after(0.0, lambda: self._next(event) if life == self._lives else None)

    def _next(self, event: QueueEvent) -> None:
        for action in self._queue.handle(event, self._clock.now):
            match action:
                case Try():
                    self._try(action)
                case GiveUp(name, epoch, silent):
                    self._happened(name, told.Unanswered(epoch, silent))
                case WakeAt(at):
                    life = self._lives
                    self._clock.at(at, lambda life=life: self._ask(Tick()) if life == self._lives else None)  # type: ignore[misc]

    def _try(self, order: Try) -> None:
        try:
            fragments = tuple(self._plan(order.name, order.denied).fragments.values())
        except ProblemError:
            self._ask(NoOtherPlan(order.name))
            return
        epoch = fragments[0].epoch
        attempt = self.runs[order.name].reservation.attempts + 1
        event = told.Reserving(attempt, epoch, 1, b"plan", fragments, dict(order.denied), TIME_TO_LIVE)
        self._happened(order.name, event)
