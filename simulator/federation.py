"""A federation on virtual time: the production coordinators of clusters, a hub, and what is between them.

What the store would keep, the runs and the assignments, outlives the hub; what agents say is kept by them until the hub
has it; what the hub wants of an agent is told again when they connect. So the hub and agents may die, and links break,
at any moment (`crash_hub`, `Cluster.crash`, `cut`), as they may in production.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from bdw_fed.v1 import federation_pb2
from cluster_agent.coordinator import messages
from cluster_agent.link.assignments import all_assigned, assigned, forgotten
from control_plane.federation.directory import StoredTopology, directory
from control_plane.reservations.core import Name
from simulator.clock import Clock
from simulator.cluster import Cluster
from simulator.hub import Hub
from simulator.links import LINK_SECONDS, Links
from topology.model import Topology
from wire.lines import run_of


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
        self.hub = Hub(self.clock, self.clusters, self._want)
        self.on_changed = changed
        self._session_numbers = itertools.count(1)
        self._sessions = {cluster: next(self._session_numbers) for cluster in clusters}  # 0 while the link is cut
        for cluster in self.clusters.values():
            cluster.know()
            cluster.start()

    @classmethod
    def of(cls, topology: Topology, *, links: Topology | None = None, start_seconds: float = 0.0) -> Federation:
        """The federation that a topology describes; in truth its links may be others."""
        clusters = {each.name: {node.name: node.cpus for node in each.nodes} for each in topology.spec.clusters}
        return cls(clusters, topology=topology, links=links, start_seconds=start_seconds)

    # ------------------------------------------------------------------------------------------------ what is done

    def apply(self, topology: Topology) -> None:
        """As `bdw-fed apply` does it: taints and what is declared of links change, the links themselves do not."""
        self._topology = topology
        for cluster in self.clusters.values():
            self.clock.after(LINK_SECONDS, cluster.know)

    def crash_hub(self) -> None:
        """Another hub takes its place; agents connect to it."""
        self.hub.crash()
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
        self.hub.has_new_log(cluster)
        if self._sessions[cluster]:
            self._connect(cluster)

    def cut(self, cluster: str, seconds: float) -> None:
        """The link between hub and agent breaks for so long, or until a former cut would have ended."""
        self._sessions[cluster] = 0
        self.hub.misses(cluster)
        self.clusters[cluster].give(messages.HubGone())
        self.clock.after(seconds, lambda: self._connect(cluster))
        self.hub.look()

    # ------------------------------------------------------------------------------------------------ the links

    def _want(self, cluster: str, name: Name) -> None:
        """Tell an agent what is wanted of it, if it is connected."""
        assignment = self.hub.assignments.get((cluster, name))
        event = assigned(assignment) if assignment is not None else forgotten(*name)
        self._deliver(cluster, lambda: [event])

    def _connect(self, cluster: str) -> None:
        """A new session: all that is wanted is told, and what the agent has in its outbox."""
        self._sessions[cluster] = next(self._session_numbers)
        self.hub.hears(cluster)
        self.clusters[cluster].give(messages.HubHeard())
        wanted = self.hub.wanted(cluster)
        self._deliver(cluster, lambda: all_assigned(wanted, self._held(cluster)))
        self.hub.is_roomier(cluster)
        self.to_hub(cluster)
        session = self._sessions[cluster]
        self.clock.after(3 * LINK_SECONDS, lambda: self.hub.look() if session == self._sessions[cluster] else None)

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
            self.hub.heard(cluster, *outbox.popleft())

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
        job = self.hub.jobs["default", run_of(run)]
        return job.seconds.get(step, 0.01) * (1.0 + job.varies * (task[0] / 127.5 - 1.0))

    def unit_bytes(self, run: str) -> int:
        """See World."""
        return self.hub.jobs["default", run_of(run)].unit_bytes

    def changed(self, cluster: Cluster) -> None:
        """See World."""
        self.on_changed(cluster)
