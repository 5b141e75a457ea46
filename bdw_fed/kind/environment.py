"""Which kind clusters a topology becomes: pure, from the topology alone.

Kubernetes names the nodes, so the topology that is applied to the hub is the author's with those names in place of his
own: NAME-worker, NAME-worker2 and so on, or NAME-control-plane where there is no room for workers. What it says of a
cluster's runtime holds: workers are pods where it is kubernetes, else processes in the node daemons' pods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from bdw_fed.kind.errors import KindError
from bdw_fed.manifests.overlays import HUB_NODE_PORT, NAMESPACE, PEERS_NODE_PORT, RELAY_NODE_PORT, AgentPlace
from bdw_fed.manifests.storing import Storing
from topology.model import Cluster, Topology
from topology.questions import Questions

DATA_ROOT = "/var/lib/bdw-fed/data"  # on the nodes, as the DaemonSet mounts it
_CONTROL_PLANE = 650 << 20  # what one takes with Kubernetes on it, and our services' share
_WORKER = 350 << 20
_DEFAULT_MEMORY = 2 << 30
_CPUS_OF_SERVICES = 0.75  # that pods other than workers ask for on a worker node
_CPUS_OF_KUBERNETES = 1.0  # and on a control plane besides
_LEAST = 0.2


@dataclass(frozen=True)
class Member:
    """One kind cluster. `workers` is how many; 0: its control plane also does the work."""

    name: str
    workers: int
    cpus: float
    memory: int
    disk: int
    dialled: bool  # another cluster opens connections to it
    files: tuple[str, ...]  # of datasets, relative to the data root
    pods: bool = False  # workers are pods
    cpu_requests: float = 1.0  # that ask for this part of their steps' processors

    @property
    def control_plane(self) -> str:
        """The container that is its control plane."""
        return f"{self.name}-control-plane"

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that do the work: containers' names, and Kubernetes' names as well."""
        if not self.workers:
            return (self.control_plane,)
        return tuple(f"{self.name}-worker{number if number > 1 else ''}" for number in range(1, self.workers + 1))

    @property
    def bytes_needed(self) -> int:
        """Memory that it takes, without what workers do in it."""
        return _CONTROL_PLANE + self.workers * _WORKER


@dataclass(frozen=True)
class Environment:
    """All kind clusters of a topology; the hub is in the first cluster of tier cloud, else in the first.

    `relay` is the name of the relay beside the hub; empty = there is none.
    """

    members: tuple[Member, ...]
    hub: str
    relay: str = ""

    def member(self, name: str) -> Member:
        """The one of that name. KeyError."""
        return next(member for member in self.members if member.name == name)

    @property
    def bytes_needed(self) -> int:
        """Memory that all take together."""
        return sum(member.bytes_needed for member in self.members)


def environment_of(topology: Topology) -> Environment:
    """The clusters that the topology becomes, with nodes as declared. KindError if it has too many relays."""
    questions = Questions(topology)
    clusters = topology.spec.clusters
    hub = next((cluster.name for cluster in clusters if questions.tier(cluster.name) == "cloud"), clusters[0].name)
    members = tuple(_member(cluster, topology, questions) for cluster in clusters)
    relays = topology.spec.relays
    if len(relays) > 1:
        names = ", ".join(relay.name for relay in relays)
        raise KindError(f"spec.relays: kind up runs one relay, beside the hub, and these are {names}: keep one of them")
    return Environment(members, hub, relays[0].name if relays else "")


def _member(cluster: Cluster, topology: Topology, questions: Questions) -> Member:
    others = [other.name for other in topology.spec.clusters if other.name != cluster.name]
    files = {
        part.path
        for dataset in topology.spec.datasets
        for part in dataset.parts + dataset.replicas
        if part.at == cluster.name
    }
    nodes = cluster.nodes
    return Member(
        name=cluster.name,
        workers=max(1, len(nodes)),
        # One DaemonSet serves all nodes of a cluster, so all get what the smallest is declared to have.
        cpus=min((node.cpus for node in nodes), default=2.0),
        memory=min((node.memory for node in nodes), default=0) or _DEFAULT_MEMORY,
        disk=min((node.disk for node in nodes), default=0),
        dialled=any(questions.can_dial(other, cluster.name) for other in others),
        files=tuple(sorted(files)),
        pods=cluster.runtime.kind == "kubernetes",
    )


def fitted(environment: Environment, available: int, cpus: int) -> Environment | None:
    """The environment with as many workers as there is memory for: as declared, one each, or none; None if too big.

    Each node takes itself for the whole machine, with its `cpus`. They are shared anyway, so workers' pods ask for less
    than their steps do where else fewer of them were let onto a node than it is declared to take.
    """
    for most in (None, 1, 0):
        members = environment.members
        if most is not None:
            members = tuple(replace(member, workers=min(member.workers, most)) for member in members)
        smaller = with_cpus(replace(environment, members=members), cpus)
        if smaller.bytes_needed <= available:
            return smaller
    return None


def with_cpus(environment: Environment, cpus: int) -> Environment:
    """The environment with pods that ask for as much as a machine of so many processors leaves them on each node."""
    members = []
    for member in environment.members:
        left = cpus - _CPUS_OF_SERVICES - (0.0 if member.workers else _CPUS_OF_KUBERNETES)
        members.append(replace(member, cpu_requests=min(1.0, max(_LEAST, left) / member.cpus)))
    return replace(environment, members=tuple(members))


def context_of(cluster: str) -> str:
    """What kind calls the context of a cluster in the kubeconfig."""
    return f"kind-{cluster}"


def kind_config(member: Member, hub_port: int | None) -> dict[str, Any]:
    """The configuration of kind; with `hub_port` the hub is at that port of this machine's loopback."""
    control_plane: dict[str, Any] = {"role": "control-plane"}
    if hub_port is not None:
        mapping = {"containerPort": HUB_NODE_PORT, "hostPort": hub_port, "listenAddress": "127.0.0.1"}
        control_plane["extraPortMappings"] = [mapping]
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [control_plane, *({"role": "worker"} for _ in range(member.workers))],
    }


def agent_place(environment: Environment, member: Member, image: str, storage: Storing | None = None) -> AgentPlace:
    """What the cluster's overlay is made from. Containers find each other by name, whatever their addresses are."""
    return AgentPlace(
        cluster=member.name,
        hub=f"{environment.member(environment.hub).control_plane}:{HUB_NODE_PORT}",
        nodes=member.nodes,
        image=image,
        advertise_peers=f"{member.control_plane}:{PEERS_NODE_PORT}" if member.dialled else "",
        cpus=member.cpus,
        memory=member.memory,
        disk=member.disk,
        durability="process",
        pods=member.pods,
        cpu_requests=member.cpu_requests,
        storage=storage,
    )


def as_made(text: str, environment: Environment) -> str:
    """The topology's text as it is applied: with the nodes that there are, in the contexts that kind has made, and the
    relay where it is.

    `text` has passed its checks.
    """
    content: Any = yaml.safe_load(text)
    for cluster in content["spec"]["clusters"]:
        member = environment.member(cluster["name"])
        declared: Sequence[dict[str, Any]] = cluster.get("nodes") or []
        cluster["nodes"] = [
            {
                **(declared[number] if number < len(declared) else {}),
                "name": name,
                "cpus": member.cpus,
                "memory": member.memory,
            }
            for number, name in enumerate(member.nodes)
        ]
        if member.pods:
            cluster["runtime"] = {"kubernetes": {"context": context_of(member.name), "namespace": NAMESPACE}}
    for relay in content["spec"].get("relays") or ():
        relay["address"] = f"{environment.member(environment.hub).control_plane}:{RELAY_NODE_PORT}"
    dumped: str = yaml.safe_dump(content, sort_keys=False)
    return dumped
