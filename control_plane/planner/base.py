"""What a plan is made from: the objects, the clusters as they are now, and what earlier runs have measured.

All of it is handed to the planner's core, which neither asks nor waits for anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.authored import Definition
from topology.model import Cluster, Taint, Tier, Topology
from topology.questions import Questions
from workflow.model import Value, Workflow

_ENOUGH = 1.0  # transfers or tasks that a measured figure must rest on


@dataclass(frozen=True)
class Measured:
    """What runs have shown of a step's version: bytes out for each byte in, seconds that a task took."""

    selectivity: float | None = None
    task_seconds: float | None = None


@dataclass(frozen=True)
class Request:
    """Plan this. `clusters` holds what the agents said last; a cluster that is not in it was never seen.

    `definitions` are by reference, `parameters` the resolved ones by step name, `measured` by reference. `epoch` is
    that of every fragment, `revision` the plan's. `denied` says why clusters could not reserve their slots just
    now: where there is a choice, the plan does without them. `skipped` tells what the workflow would have had too.
    `fresh`: nothing is taken from the caches. `storage`: bytes that the namespace's runs may have stored on each
    cluster, 0 = any number.
    """

    namespace: str
    run: str
    workflow: Workflow
    definitions: Mapping[str, Definition]
    parameters: Mapping[str, Mapping[str, Value]]
    topology: Topology
    clusters: Mapping[str, cp.ClusterStatus] = field(default_factory=dict)
    measured: Mapping[str, Measured] = field(default_factory=dict)
    epoch: int = 1
    revision: int = 1
    denied: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False
    storage: int = 0


class World:
    """The clusters and the links between them, as the planner asks about them."""

    def __init__(
        self, topology: Topology, states: Mapping[str, cp.ClusterStatus], denied: Mapping[str, str] | None = None
    ) -> None:
        self.topology = topology
        self.denied = denied or {}
        self._questions = Questions(topology)
        self.clusters: Mapping[str, Cluster] = self._questions.clusters
        self._states = states

    def taints(self, cluster: str) -> tuple[Taint, ...]:
        """The cluster's own, and those that operators have put on it."""
        status = self._states.get(cluster)
        marks = status.taints if status is not None else ()
        put = [Taint.model_validate({"key": each.key, "value": each.value, "effect": each.effect}) for each in marks]
        return (*self.clusters[cluster].taints, *put)

    def tier(self, cluster: str) -> str:
        return self._questions.tier(cluster)

    def of_tier(self, tier: Tier) -> tuple[str, ...]:
        """The clusters of a tier, in the topology's order."""
        return self._questions.clusters_of_tier(tier)

    def reachable(self, source: str, to: str) -> bool:
        """Whether units can get from one cluster to the other: one of the two can dial, or there is a relay."""
        return self._questions.connectable(source, to)

    def distance(self, source: str, to: str) -> float:
        return self._questions.distance(source, to)

    def seconds(self, source: str, to: str, size: float) -> float:
        """What a transfer takes, as measured or else as declared; infinite where there is no link."""
        measured = self._link(source, to)
        if measured is not None and self._questions.reachable(source, to):
            return measured.fixed_seconds + size / measured.bandwidth
        return self._questions.transfer_seconds(source, to, size)

    def cost(self, source: str, to: str, size: float) -> float:
        """What a transfer costs; infinite where there is no link."""
        return self._questions.transfer_cost(source, to, size)

    def task(self, cluster: str, definition: str) -> m.MeasuredStep | None:
        """What the cluster has measured of a step's tasks, if it has."""
        status = self._states.get(cluster)
        steps = status.steps if status is not None else ()
        return next((step for step in steps if step.definition == definition and step.weight >= _ENOUGH), None)

    def state(self, cluster: str) -> str:
        """ready, not-ready, unknown, never-seen or revoked."""
        status = self._states.get(cluster)
        return status.state if status is not None else "never-seen"

    def nodes(self, cluster: str) -> list[tuple[float, int]]:
        """CPUs and bytes of memory (0 = not limited) of each node: of those that take tasks, else those declared.

        Empty where neither is known, as with a Kubernetes cluster that was never seen.
        """
        status = self._states.get(cluster)
        ready = [node for node in status.nodes if node.ready] if status else []
        present = [
            (node.cpus, node.memory) for node in ready if not node.cordoned or all(each.cordoned for each in ready)
        ]
        return present or [(node.cpus, node.memory) for node in self.clusters[cluster].nodes]

    def running(self, cluster: str) -> int:
        """Tasks that run there now."""
        status = self._states.get(cluster)
        return sum(node.running for node in status.nodes) if status else 0

    def slots(self, cluster: str, cpus: float, memory: int, most: int) -> int:
        """How many tasks of that size fit at once, `most` at most (0 = no bound)."""
        room = sum(_fitting(node, cpus, memory) for node in self.nodes(cluster))
        return min(room, most) if most else room

    def _link(self, source: str, to: str) -> m.MeasuredLink | None:
        """What the receiving cluster has measured of the link, if it has."""
        status = self._states.get(to)
        links = status.links if status is not None else ()
        return next((link for link in links if link.from_cluster == source and link.weight >= _ENOUGH), None)


def _fitting(node: tuple[float, int], cpus: float, memory: int) -> int:
    by_cpus = int(node[0] / cpus + 1e-9) if cpus else 1
    by_memory = node[1] // memory if memory and node[1] else by_cpus
    return min(by_cpus, by_memory)
