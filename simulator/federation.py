"""A federation on virtual time: production planner, runs, queue and coordinators; store, links and nodes are played.

What the store would keep, the runs and the assignments, outlives the hub; what agents say is kept by them until the hub
has it; what the hub wants of an agent is told again when they connect. So the hub and agents may die, and links break,
at any moment (`crash_hub`, `Cluster.crash`, `cut`), as they may in production.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from bdw_fed.v1 import federation_pb2, model_pb2
from cluster_agent.coordinator import messages
from cluster_agent.link.assignments import all_assigned, assigned, forgotten
from control_plane.federation.directory import StoredTopology, directory
from control_plane.planner.authored import Definition
from control_plane.planner.base import Request
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
from simulator.links import LINK_SECONDS, Links
from topology.model import Topology
from wire.errors import ProblemError
from wire.lines import run_of
from workflow.load import load
from workflow.model import Step, Workflow

TIME_TO_LIVE = 10.0


@dataclass(frozen=True)
class Job:
    """What is submitted: a request of the planner, how long tasks take by step, in seconds, and how large units are.

    Tasks of a step take a part `varies` more or less than that; which one how long follows from its id.
    """

    request: Request
    seconds: Mapping[str, float]
    unit_bytes: int = 1000
    varies: float = 0.0

    @classmethod
    def written(cls, text: str, seconds: Mapping[str, float], *, unit_bytes: int = 1000, varies: float = 0.0) -> Job:
        """A job as its users write it: topology, workflow and steps as YAML. ValueError if that has problems."""
        loaded = load(text, "job.yaml")
        if loaded.problems:
            raise ValueError(loaded.problems)
        models = [document.model for document in loaded.documents]
        request = Request(
            namespace="default",
            run="",
            workflow=next(model for model in models if isinstance(model, Workflow)),
            definitions={model.reference: Definition(model) for model in models if isinstance(model, Step)},
            parameters={},
            topology=next(model for model in models if isinstance(model, Topology)),
            clusters={},
        )
        return cls(request, seconds, unit_bytes, varies)


class Federation:
    """Clusters with their nodes (name -> cpus), and one hub. `changed` is called when a coordinator did something.

    With a `topology` the clusters are told its links, and these are so, unless `links` are others in truth; without,
    all are equally near, and bytes weigh nothing. `start_seconds`: until a worker is up.
    """

    def __init__(
        self,
        clusters: Mapping[str, Mapping[str, float]],
        changed: Callable[[Cluster], None] = lambda _: None,
        *,
        topology: Topology | None = None,
        links: Topology | None = None,
        start_seconds: float = 0.0,
    ) -> None:
        self.clock = Clock()
        self.links = Links(self.clock, links or topology)
        self.start_seconds = start_seconds
        self._topology = topology
        self.clusters = {name: Cluster(self, name, dict(nodes)) for name, nodes in clusters.items()}
        self.runs: dict[Name, model_pb2.Run] = {}
        self.assignments: dict[tuple[str, Name], model_pb2.Assignment] = {}
        self.jobs: dict[Name, Job] = {}
        self.on_changed = changed
        self._revision = 0
        self._session_numbers = itertools.count(1)
        self._sessions = {cluster: next(self._session_numbers) for cluster in clusters}  # 0 while the link is cut
        self._lives = 0
        self._looks = False  # it will look again for clusters that are lost
        self._silent: dict[str, float] = {}  # cluster that the hub does not hear -> since when
        self._new_logs: set[str] = set()  # clusters whose log is another than the one that the hub knows
        self._queue = Queue(TIME_TO_LIVE / 2)
        for cluster in self.clusters.values():
            cluster.know()
            cluster.start()

    @classmethod
    def of(cls, topology: Topology, *, links: Topology | None = None, start_seconds: float = 0.0) -> Federation:
        """The federation that a topology describes; in truth its links may be others."""
        clusters = {each.name: {node.name: node.cpus for node in each.nodes} for each in topology.spec.clusters}
        return cls(clusters, topology=topology, links=links, start_seconds=start_seconds)

    # ------------------------------------------------------------------------------------------------ what is done

    def submit(self, name: str, job: Job) -> None:
        """As `bdw-fed submit` does it."""
        run_name = ("default", name)
        self.jobs[run_name] = job
        run = model_pb2.Run(namespace="default", name=name, submitted_at=self.clock.now)
        self._happened(run_name, told.Submitted(run))
        planned = self._plan(run_name, {})
        fragments = tuple(planned.fragments.values())
        mode = fragments[0].policy.reserve
        if mode == "none":
            self._happened(run_name, told.Planned(1, b"plan", fragments, self.clock.now))
        else:
            self._happened(run_name, told.Queued(1, b"plan", mode, tuple(sorted(planned.fragments))))

    def cancel(self, name: str) -> None:
        """As `bdw-fed cancel` does it."""
        self._happened(("default", name), told.CancelRequested("cancelled", self.clock.now))

    def apply(self, topology: Topology) -> None:
        """As `bdw-fed apply` does it: taints and what is declared of links change, the links themselves do not."""
        self._topology = topology
        for cluster in self.clusters.values():
            self.clock.after(LINK_SECONDS, cluster.know)

    def crash_hub(self) -> None:
        """Another hub takes its place; agents connect to it."""
        self._lives += 1
        self._silent = dict.fromkeys(self._silent, self.clock.now)
        self._queue = Queue(TIME_TO_LIVE / 2)
        for run in self.runs.values():
            if run.state not in forms.ENDED:
                self._ask(RunSeen(run))
        for cluster, session in self._sessions.items():
            if session:
                self._connect(cluster)

    def crash(self, cluster: str) -> None:
        """An agent dies, is started again and, if its link is there, connects."""
        self.clusters[cluster].crash()
        if self._sessions[cluster]:
            self._connect(cluster)

    def lose_log(self, cluster: str) -> None:
        """An agent's disk is gone. The hub learns of it when the new log connects."""
        self.clusters[cluster].lose_log()
        self._new_logs.add(cluster)
        if self._sessions[cluster]:
            self._connect(cluster)

    def cut(self, cluster: str, seconds: float) -> None:
        """The link between hub and agent breaks for so long, or until a former cut would have ended."""
        self._sessions[cluster] = 0
        self._silent.setdefault(cluster, self.clock.now)
        self.clusters[cluster].give(messages.HubGone())
        self.clock.after(seconds, lambda: self._connect(cluster))
        self._look()

    @property
    def ended(self) -> bool:
        """All runs have."""
        return all(run.state in forms.ENDED for run in self.runs.values())

    # ------------------------------------------------------------------------------------------------ the hub

    def _plan(self, name: Name, denied: Mapping[str, str], *, lost: Collection[str] = (), revision: int = 1) -> Planned:
        self._revision += 1
        statuses = {cluster: each.status() for cluster, each in self.clusters.items()}
        for cluster in lost:
            statuses[cluster].state = "unknown"
        request = replace(self.jobs[name].request, run=name[1], clusters=statuses, denied=denied, epoch=self._revision)
        return plan(replace(request, revision=revision))

    def _look(self) -> None:
        """The hub's task that has runs begin again without clusters that are lost."""
        now = self.clock.now
        silence = {cluster: now - since for cluster, since in self._silent.items()}
        for name, run in list(self.runs.items()):
            found = verdict(run, silence)
            if run.HasField("original") and not self._silent.keys() & set(lines.waits_for(run)):
                self._happened(name, lines.back(self._shown(run)))
            elif found.lost or found.stopped:
                self._begin_again(name, found.lost)
        if self._silent and not self.ended and not self._looks:
            self._looks = True
            self.clock.after(1.0, self._look_again)

    def _shown(self, run: model_pb2.Run) -> model_pb2.Run:
        """The run with the newest that its clusters, all of which are there, have told of it."""
        statuses = [
            cluster.core.status(key)
            for cluster in self.clusters.values()
            for key in cluster.core.runs()
            if (key.namespace, run_of(key.run)) == (run.namespace, run.name)
        ]
        return forms.overlaid(run, statuses)

    def _look_again(self) -> None:
        self._looks = False
        self._look()

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
            event = told.Replaced(lost, revision, b"plan", tuple(fragments.values()), self.clock.now)
            self._happened(name, event)

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
        self.clock.after(0.0, lambda: self._next(event) if life == self._lives else None)

    def _next(self, event: QueueEvent) -> None:
        for action in self._queue.handle(event, self.clock.now):
            match action:
                case Try():
                    self._try(action)
                case GiveUp(name, epoch, silent):
                    self._happened(name, told.Unanswered(epoch, silent))
                case WakeAt(at):
                    life = self._lives
                    self.clock.at(at, lambda life=life: self._ask(Tick()) if life == self._lives else None)  # type: ignore[misc]

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

    def _heard(self, cluster: str, kind: str, message: bytes) -> None:
        now = self.clock.now
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
                    self._look()
            case _:
                pass

    # ------------------------------------------------------------------------------------------------ the links

    def _want(self, cluster: str, name: Name) -> None:
        """Tell an agent what is wanted of it, if it is connected."""
        assignment = self.assignments.get((cluster, name))
        event = assigned(assignment) if assignment is not None else forgotten(*name)
        self._deliver(cluster, lambda: [event])

    def _connect(self, cluster: str) -> None:
        """A new session: all that is wanted is told, and what the agent has in its outbox."""
        self._sessions[cluster] = next(self._session_numbers)
        self._silent.pop(cluster, None)
        if cluster in self._new_logs:
            self._new_logs.remove(cluster)
            for (where, name), lost in list(self.assignments.items()):
                if where == cluster:
                    event = told.LogLost(cluster, lost.fragment.epoch, self.clock.now)
                    self._happened((name[0], run_of(name[1])), event)
            self._look()
        self.clusters[cluster].give(messages.HubHeard())
        wanted = federation_pb2.AssignmentSet(
            assignments=[each for (where, _), each in sorted(self.assignments.items()) if where == cluster]
        )
        self._deliver(cluster, lambda: all_assigned(wanted, self._held(cluster)))
        self._ask(Roomier(cluster))
        self.to_hub(cluster)
        session = self._sessions[cluster]
        self.clock.after(3 * LINK_SECONDS, lambda: self._look() if session == self._sessions[cluster] else None)

    def _held(self, cluster: str) -> list[Name]:
        return [(namespace, run) for namespace, run, _, _ in self.clusters[cluster].core.inventory()]

    def _deliver(self, cluster: str, events: Callable[[], Sequence[messages.Event]]) -> None:
        session = self._sessions[cluster]
        if session:
            self.clock.after(
                LINK_SECONDS,
                lambda: self.clusters[cluster].give(*events()) if session == self._sessions[cluster] else None,
            )

    def to_hub(self, cluster: str) -> None:
        """See World."""
        session = self._sessions[cluster]
        if session:
            self.clock.after(LINK_SECONDS, lambda: self._take(cluster, session))

    def _take(self, cluster: str, session: int) -> None:
        outbox = self.clusters[cluster].outbox
        while outbox and session == self._sessions[cluster]:
            self._heard(cluster, *outbox.popleft())

    def to_peer(self, sender: str, receiver: str, message: bytes) -> None:
        """See World."""
        said = messages.PeerSaid(sender, message)
        self.clock.after(self.links.word(sender, receiver), lambda: self.clusters[receiver].give(said))

    def to_peer_load(self, sender: str, receiver: str, load: bytes) -> None:
        """See World."""
        said = messages.PeerLoad(sender, sender.encode(), load)
        self.clock.after(self.links.word(sender, receiver), lambda: self.clusters[receiver].give(said))

    def directory(self, cluster: str) -> federation_pb2.PeerDirectory:
        """See World."""
        if self._topology is not None:
            return directory(cluster, [StoredTopology.of(self._topology, 1)], {})
        others = (other for other in self.clusters if other != cluster)
        return federation_pb2.PeerDirectory(
            peers=[
                federation_pb2.PeerDirectory.Peer(
                    cluster=other, can_dial=True, reachable=True, bandwidth=1e8, latency=0.001
                )
                for other in others
            ]
        )

    def carry(self, sender: str, receiver: str, size: int, then: Callable[[float], None]) -> None:
        """See World."""
        self.links.carry(sender, receiver, size, then)

    def seconds(self, run: str, step: str, task: bytes) -> float:
        """See World."""
        job = self.jobs["default", run_of(run)]
        return job.seconds.get(step, 0.01) * (1.0 + job.varies * (task[0] / 127.5 - 1.0))

    def unit_bytes(self, run: str) -> int:
        """See World."""
        return self.jobs["default", run_of(run)].unit_bytes

    def changed(self, cluster: Cluster) -> None:
        """See World."""
        self.on_changed(cluster)
