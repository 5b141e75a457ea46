"""Whether a topology holds together: its names are unique, and what they name is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from topology.model import Cluster, Topology
from topology.nearest import did_you_mean
from topology.problems import Path, Positions, Problem
from topology.questions import Questions

_DIALS = ("both", "none")


def check_topology(topology: Topology, positions: Positions | None = None) -> list[Problem]:
    """What is wrong with a topology that is well formed."""
    where = positions or Positions()
    return [
        *_zones(topology, where),
        *_clusters(topology, where),
        *_links(topology, where),
        *_relays(topology, where),
        *_datasets(topology, where),
    ]


def topology_warnings(topology: Topology, positions: Positions | None = None) -> list[Problem]:
    """What is allowed, but was hardly meant."""
    where = positions or Positions()
    spec = topology.spec
    warnings = []
    linked = {zone for link in spec.links for zone in link.between}
    for index, zone in enumerate(spec.zones):
        path: Path = ("spec", "zones", index)
        if not any(cluster.zone == zone.name for cluster in spec.clusters):
            message = f"no cluster is in zone {zone.name}"
            warnings.append(where.problem(path, message, "add one, or leave the zone out", "warning"))
        elif len(spec.zones) > 1 and zone.name not in linked:
            message = f"zone {zone.name} has no link: its clusters reach no other zone"
            remedy = f"add {{between: [{zone.name}, …], bandwidth: …}} to links"
            warnings.append(where.problem(path, message, remedy, "warning"))
    return [*warnings, *_cut_off(topology, where)]


def _zones(topology: Topology, where: Positions) -> Iterator[Problem]:
    zones = topology.spec.zones
    yield from _unique("zone", ("spec", "zones"), [zone.name for zone in zones], where)
    if not zones:
        yield where.problem(("spec", "zones"), "is empty", "a topology needs at least one zone")
    for index, zone in enumerate(zones):
        if zone.name in _DIALS:
            message = f"a zone can't be called {zone.name}, which has a meaning in dial"
            yield where.problem(("spec", "zones", index, "name"), message, "choose another name")


def _clusters(topology: Topology, where: Positions) -> Iterator[Problem]:
    clusters = topology.spec.clusters
    zones = [zone.name for zone in topology.spec.zones]
    yield from _unique("cluster", ("spec", "clusters"), [cluster.name for cluster in clusters], where)
    if not clusters:
        yield where.problem(("spec", "clusters"), "is empty", "a topology needs at least one cluster")
    for index, cluster in enumerate(clusters):
        path: Path = ("spec", "clusters", index)
        if cluster.zone not in zones:
            yield _unknown("zone", cluster.zone, zones, (*path, "zone"), where)
        yield from _nodes(cluster, path, where)
        if cluster.runtime.kind == "kubernetes" and cluster.storage.memory:
            message = f"the workers of {cluster.name} are pods, which don't see what their node keeps in memory"
            remedy = "leave memory out; it may have redis and objects"
            yield where.problem((*path, "storage", "memory"), message, remedy)


def _nodes(cluster: Cluster, path: Path, where: Positions) -> Iterator[Problem]:
    yield from _unique("node", (*path, "nodes"), [node.name for node in cluster.nodes], where)
    if cluster.runtime.kind == "process" and not cluster.nodes:
        message = f"cluster {cluster.name} has no nodes, so nothing can run on it"
        yield where.problem(path, message, "add nodes: [{name: n1, cpus: 2, memory: 4Gi}]")


def _links(topology: Topology, where: Positions) -> Iterator[Problem]:
    zones = [zone.name for zone in topology.spec.zones]
    seen: dict[frozenset[str], int] = {}
    for index, link in enumerate(topology.spec.links):
        path: Path = ("spec", "links", index)
        for end, zone in enumerate(link.between):
            if zone not in zones:
                yield _unknown("zone", zone, zones, (*path, "between", end), where)
        if link.dial not in (*_DIALS, *link.between):
            message = f"{link.dial} is not at an end of this link, so it can't be what opens connections"
            ends = " or ".join([*link.between, *_DIALS])
            yield where.problem((*path, "dial"), message, f"write one of {ends}")
        first = seen.setdefault(frozenset(link.between), index)
        if first != index:
            message = f"{' and '.join(link.between)} have a link already{_line(where, ('spec', 'links', first))}"
            yield where.problem((*path, "between"), message, "a link holds for both directions: keep one of them")


def _relays(topology: Topology, where: Positions) -> Iterator[Problem]:
    zones = [zone.name for zone in topology.spec.zones]
    relays = topology.spec.relays
    yield from _unique("relay", ("spec", "relays"), [relay.name for relay in relays], where)
    for index, relay in enumerate(relays):
        for number, zone in enumerate(relay.zones):
            if zone not in zones:
                yield _unknown("zone", zone, zones, ("spec", "relays", index, "zones", number), where)


def _cut_off(topology: Topology, where: Positions) -> Iterator[Problem]:
    """Links that nothing can cross: neither end opens connections, and there is no relay for both."""
    spec = topology.spec
    questions = Questions(topology)
    first = {cluster.zone: cluster.name for cluster in reversed(spec.clusters)}
    for index, link in enumerate(spec.links):
        ends = [first[zone] for zone in link.between if zone in first]
        if link.dial == "none" and len(ends) == 2 and not questions.connectable(*ends):
            a, b = link.between
            message = f"nothing can cross this link: neither {a} nor {b} opens connections, and no relay serves both"
            remedy = f"add {{name: …, address: HOST:PORT, zones: [{a}, {b}]}} to relays, or say who can dial"
            yield where.problem(("spec", "links", index, "dial"), message, remedy, "warning")


def _datasets(topology: Topology, where: Positions) -> Iterator[Problem]:
    clusters = dict.fromkeys(cluster.name for cluster in topology.spec.clusters)
    datasets = topology.spec.datasets
    yield from _unique("dataset", ("spec", "datasets"), [dataset.name for dataset in datasets], where)
    for index, dataset in enumerate(datasets):
        kind = "replicas" if dataset.replicas else "parts"
        seen: dict[tuple[str, str], int] = {}
        for number, part in enumerate(dataset.replicas or dataset.parts):
            path: Path = ("spec", "datasets", index, kind, number)
            if part.at not in clusters:
                yield _unknown("cluster", part.at, clusters, (*path, "at"), where)
            # A cluster reads the one copy that it has; of different files it may have many.
            key = (part.at, "" if dataset.replicas else part.path)
            first = seen.setdefault(key, number)
            if first != number:
                known = _line(where, ("spec", "datasets", index, kind, first))
                what = f"{part.at} has a copy already" if dataset.replicas else f"{part.path} is a part already"
                yield where.problem(path, what + known, "keep one of them")
        sizes = {part.size for part in dataset.replicas if part.size is not None}
        if len(sizes) > 1:
            message = f"the replicas of {dataset.name} differ in size, but must hold the same bytes"
            yield where.problem(("spec", "datasets", index, "replicas"), message, "use parts for different files")


def _unique(noun: str, path: Path, names: list[str], where: Positions) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        first = seen.setdefault(name, index)
        if first != index:
            message = f"there is a {noun} {name} already{_line(where, (*path, first))}"
            yield where.problem((*path, index, "name"), message, "give each its own name")


def _unknown(noun: str, name: str, known: Iterable[str], path: Path, where: Positions) -> Problem:
    remedy = did_you_mean(name, known, f"the {noun}s are") or f"declare a {noun} first"
    return where.problem(path, f"there is no {noun} {name}", remedy)


def _line(where: Positions, path: Path) -> str:
    line = where.line(path)
    return f", on line {line}" if line else ""
