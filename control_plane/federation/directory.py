"""What each cluster is told about the others, pure: from the topologies and from what the agents said of themselves.

A cluster may stand in several topologies; what the first of them (by namespace and name) says of a peer holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import membership_pb2 as pb
from topology.model import Topology
from topology.questions import Questions


@dataclass(frozen=True)
class StoredTopology:
    """A topology and its revision in the store."""

    topology: Topology
    revision: int
    questions: Questions

    @classmethod
    def of(cls, topology: Topology, revision: int) -> StoredTopology:
        return cls(topology, revision, Questions(topology))


def directory(
    cluster: str,
    topologies: Iterable[StoredTopology],
    gateways: Mapping[str, str],
    revocations: pb.SignedRevocations | None = None,
    marks: Iterable[cp.ClusterTaint] = (),
) -> f.PeerDirectory:
    """How `cluster` reaches its peers. `gateways`: cluster -> address where it can be dialled, if it said one.

    `marks`: the taints that operators have put on it.
    """
    peers: dict[str, f.PeerDirectory.Peer] = {}
    no_execute = {f"{taint.key}={taint.value}" for taint in marks if taint.effect == "NoExecute"}
    newest = 0
    for stored in topologies:
        questions = stored.questions
        if cluster not in questions.clusters:
            continue
        newest = max(newest, stored.revision)
        taints = questions.clusters[cluster].taints
        no_execute |= {f"{taint.key}={taint.value}" for taint in taints if taint.effect == "NoExecute"}
        for other in questions.clusters:
            if other != cluster and other not in peers:
                peers[other] = _peer(cluster, other, questions, gateways)
    return f.PeerDirectory(
        peers=[peers[name] for name in sorted(peers)],
        topology_revision=newest,
        no_execute=sorted(no_execute),
        revocations=revocations,
    )


def _peer(cluster: str, other: str, questions: Questions, gateways: Mapping[str, str]) -> f.PeerDirectory.Peer:
    if not questions.reachable(cluster, other):
        return f.PeerDirectory.Peer(cluster=other)
    link = questions.link(cluster, other)
    return f.PeerDirectory.Peer(
        cluster=other,
        gateway_address=gateways.get(other, ""),
        can_dial=questions.can_dial(cluster, other),
        can_be_dialled=questions.can_dial(other, cluster),
        bandwidth=questions.bandwidth(cluster, other),
        latency=questions.latency(cluster, other),
        distance=questions.distance(cluster, other),
        cost_per_gb=link.cost_per_gb if link else 0.0,
        reachable=True,
        trusted=link.trusted if link else False,
        relays=[f.RelayPlace(name=relay.name, address=relay.address) for relay in questions.relays(cluster, other)],
    )
