"""What the planner and the coordinators ask of a topology: who is where, who reaches whom, what a transfer takes.

Clusters are told by name; a name that the topology does not know is a `KeyError`. Clusters of one zone reach each other
freely and can all dial each other; clusters of two zones do what the link between the zones says, and without a link
they can't reach each other: distance, time and cost are then infinite. There is no routing over a third zone.
"""

from __future__ import annotations

from math import inf

from topology.model import Cluster, Dataset, Link, Part, Relay, Tier, Topology, Zone

# Within a zone nothing is declared: taken to be a local network of 1 Gbit.
ZONE_BANDWIDTH = 125e6  # bytes a second
ZONE_LATENCY = 0.0005  # seconds


class Questions:
    """The questions to one topology, indexed once."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.zones: dict[str, Zone] = {zone.name: zone for zone in topology.spec.zones}
        self.clusters: dict[str, Cluster] = {cluster.name: cluster for cluster in topology.spec.clusters}
        self.datasets: dict[str, Dataset] = {dataset.name: dataset for dataset in topology.spec.datasets}
        self._links: dict[frozenset[str], Link] = {frozenset(link.between): link for link in topology.spec.links}

    def zone(self, cluster: str) -> Zone:
        """The zone of a cluster."""
        return self.zones[self.clusters[cluster].zone]

    def tier(self, cluster: str) -> Tier:
        """The tier of a cluster's zone."""
        return self.zone(cluster).tier

    def clusters_of_tier(self, tier: Tier) -> tuple[str, ...]:
        """The clusters in zones of a tier, in the order of the file."""
        zones = {zone.name for zone in self.zones.values() if zone.tier == tier}
        return tuple(name for name, cluster in self.clusters.items() if cluster.zone in zones)

    def same_zone(self, a: str, b: str) -> bool:
        """Whether two clusters are in one zone."""
        return self.clusters[a].zone == self.clusters[b].zone

    def link(self, a: str, b: str) -> Link | None:
        """The link between the zones of two clusters; None within a zone, and where there is none."""
        return self._links.get(frozenset((self.clusters[a].zone, self.clusters[b].zone)))

    def reachable(self, a: str, b: str) -> bool:
        """Whether data can get from one cluster to the other, whoever dials, be it over a relay."""
        return self.same_zone(a, b) or self.link(a, b) is not None

    def can_dial(self, a: str, b: str) -> bool:
        """Whether cluster `a` can open connections to `b`."""
        if self.same_zone(a, b):
            return True
        link = self.link(a, b)
        return link is not None and link.dial in ("both", self.clusters[a].zone)

    def needs_relay(self, a: str, b: str) -> bool:
        """Whether two clusters have a link, but neither can dial the other."""
        return self.reachable(a, b) and not self.can_dial(a, b) and not self.can_dial(b, a)

    def relays(self, a: str, b: str) -> tuple[Relay, ...]:
        """The relays that connect two clusters of which neither can dial the other, those to try first first."""
        if not self.needs_relay(a, b):
            return ()
        zones = {self.clusters[a].zone, self.clusters[b].zone}
        return tuple(relay for relay in self.topology.spec.relays if not relay.zones or zones <= set(relay.zones))

    def connectable(self, a: str, b: str) -> bool:
        """Whether bytes can cross as things are declared: one of the two can dial the other, or a relay is in reach."""
        return self.reachable(a, b) and (not self.needs_relay(a, b) or bool(self.relays(a, b)))

    def distance(self, a: str, b: str) -> float:
        """0 within a cluster, the zone's distance within a zone, the link's between zones, infinite without a link."""
        if a == b:
            return 0.0
        if self.same_zone(a, b):
            return self.zone(a).distance
        link = self.link(a, b)
        return inf if link is None else link.distance

    def bandwidth(self, a: str, b: str) -> float:
        """Bytes a second; infinite within a cluster, 0 where there is no link."""
        if a == b:
            return inf
        if self.same_zone(a, b):
            return ZONE_BANDWIDTH
        link = self.link(a, b)
        return 0.0 if link is None else link.bandwidth

    def latency(self, a: str, b: str) -> float:
        """Seconds one way; 0 within a cluster, infinite where there is no link."""
        if a == b:
            return 0.0
        if self.same_zone(a, b):
            return ZONE_LATENCY
        link = self.link(a, b)
        return inf if link is None else link.latency

    def transfer_seconds(self, a: str, b: str, size: float) -> float:
        """How long `size` bytes take from `a` to `b` on a link of their own; 0 within a cluster."""
        bandwidth = self.bandwidth(a, b)
        return self.latency(a, b) + size / bandwidth if bandwidth else inf

    def transfer_cost(self, a: str, b: str, size: float) -> float:
        """What it costs to send `size` bytes from `a` to `b`; nothing within a zone."""
        if self.same_zone(a, b):
            return 0.0
        link = self.link(a, b)
        return inf if link is None else link.cost_per_gb * size / 1e9

    def dataset_parts(self, name: str) -> tuple[tuple[Part, ...], ...]:
        """The parts of a dataset, each with the places it can be read at: one of a part's own, all of a replica set."""
        dataset = self.datasets[name]
        return (dataset.replicas,) if dataset.replicas else tuple((part,) for part in dataset.parts)

    def dataset_clusters(self, name: str) -> frozenset[str]:
        """The clusters that hold a part or a replica of a dataset."""
        dataset = self.datasets[name]
        return frozenset(part.at for part in dataset.parts + dataset.replicas)
