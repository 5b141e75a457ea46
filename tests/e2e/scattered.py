"""A federation whose parts are in places of their own, with real networks between them that a test may break.

Two hubs, their etcd, a relay, and each cluster's agent with its node are at places of their own; one cluster has a
second node, which is elsewhere. There is a pair of clusters that dial each other as they like, one of which only one
end can dial, and one that can't and has the relay; the router holds them to it. People are at a place whose connections
are whole. What runs are the services themselves, as an operator starts them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from daemons import Daemon
from federation import Federation
from places import Network

from control_plane.store.etcd import embedded as etcd
from wire.identity import Identity, Role
from wire.identity.authority import Authority

CLUSTERS = {  # the place of each node; an agent is at that of its cluster's name
    "edge1": {"n1": "edge1", "n2": "outpost"},
    "edge2": {"n1": "edge2"},
    "cloud1": {"n1": "cloud1"},
}
HUBS = ("hub1", "hub2")
PLACES = ("etcd", *HUBS, "relay", *CLUSTERS, "outpost")
DESK = "desk"
ME = "me"
SLOTS = 3
PATIENCE = 240.0  # also of a command in the middle of faults
ETCD_PORT = 2379
TOPOLOGY = """\
kind: Topology
metadata: {name: scattered}
spec:
  zones: [{name: edge1, tier: edge}, {name: edge2, tier: edge}, {name: cloud1, tier: cloud}]
  clusters: []
  links:
    - {between: [edge1, edge2], bandwidth: 200Mbit, latency: 2ms, distance: 20}
    - {between: [edge1, cloud1], bandwidth: 100Mbit, latency: 5ms, distance: 100, dial: edge1}
    - {between: [edge2, cloud1], bandwidth: 100Mbit, latency: 3ms, distance: 30, dial: none}
  relays: []
  datasets: []
"""


@dataclass(frozen=True)
class Scattered:
    """The federation as people at the desk see it, its network and its processes."""

    federation: Federation
    network: Network
    daemons: tuple[Daemon, ...]

    def at(self, place: str) -> Federation:
        """The same federation, as people at another place see it."""
        seen = self.federation
        return Federation(seen.state, seen.topology, seen.patience, self.network.within(place), seen.profile)


@contextmanager
def scattered(directory: Path, datasets: list[dict[str, Any]]) -> Iterator[Scattered]:
    """The federation with these datasets, whose paths are below `directory`; all of it has ended at the end."""
    with ExitStack() as owned:
        network = owned.enter_context(Network((*PLACES, DESK)))
        for dialled in (*CLUSTERS, "outpost"):
            for central in ("etcd", *HUBS, "relay"):
                network.wall(central, dialled)
        network.wall("cloud1", "edge1")
        network.wall("cloud1", "outpost")
        network.wall("cloud1", "edge2")
        network.wall("edge2", "cloud1")
        topology = directory / "topology.yaml"
        topology.write_text(_topology(network, datasets))
        services = _Services(directory, network)
        daemons = services.start(owned)
        profile = {"BDW_FED_HUB": services.hubs[0], "BDW_FED_CREDENTIALS": str(services.keys / f"user-{ME}")}
        federation = Federation(services.state, topology, PATIENCE, network.within(DESK), profile)
        federation.apply(topology)
        yield Scattered(federation, network, daemons)


def _topology(network: Network, datasets: list[dict[str, Any]]) -> str:
    content = yaml.safe_load(TOPOLOGY)
    spec = content["spec"]
    for name, nodes in CLUSTERS.items():
        shapes = [{"name": node, "cpus": SLOTS, "memory": "1Gi"} for node in nodes]
        spec["clusters"].append({"name": name, "zone": name, "nodes": shapes})
    spec["relays"].append({"name": "one", "address": f"{network.address('relay')}:7447"})
    spec["datasets"] = datasets
    return yaml.safe_dump(content, sort_keys=False)


class _Services:
    """Their credentials, addresses and commands."""

    def __init__(self, directory: Path, network: Network) -> None:
        self._directory, self._network = directory, network
        self.state, self.keys = directory / "state", directory / "credentials"
        self.hubs = [f"{network.address(hub)}:7443" for hub in HUBS]
        (self.state / "logs").mkdir(parents=True)
        etcd_authority = Authority.create(directory / "etcd-ca")
        self._etcd = etcd_authority.issue(Identity(Role.ETCD, "etcd"), self.keys / "etcd")
        etcd_authority.issue(Identity(Role.HUB, "hub"), self.keys / "etcd-client")
        authority = Authority.create(directory / "ca")
        members = [(Role.HUB, "hub"), (Role.RELAY, "one"), (Role.USER, ME)]
        members += [(Role.AGENT, cluster) for cluster in CLUSTERS]
        members += [(Role.NODE, f"{cluster}/{node}") for cluster, nodes in CLUSTERS.items() for node in nodes]
        for role, name in members:
            authority.issue(Identity(role, name), self.keys / f"{role}-{name.replace('/', '-')}")

    def start(self, owned: ExitStack) -> tuple[Daemon, ...]:
        """Start those first that others dial; each serves when this returns."""
        daemons: list[Daemon] = []

        def stop() -> None:
            for daemon in daemons:
                daemon.stop()
            for daemon in daemons:
                daemon.await_end()

        owned.callback(stop)
        for group in (self._store(), self._central(), self._agents(), self._nodes()):
            started = [self._daemon(*each) for each in group]
            daemons += started
            for daemon in started:
                if daemon.role != "etcd":
                    daemon.await_serving(PATIENCE)
        return tuple(daemons)

    def _daemon(self, name: str, role: str, place: str, command: list[str]) -> Daemon:
        surroundings = {key: value for key, value in os.environ.items() if not key.startswith(("BDW_FED_", "ETCD_"))}
        within = self._network.within(place)
        return Daemon(name, role, (*within, *command), self.state / "logs" / f"{name}.log", surroundings)

    def _service(self, role: str, name: str, place: str, *words: str) -> tuple[str, str, str, list[str]]:
        full = f"{role}-{name}"
        own = ("--credentials", str(self.keys / ("hub-hub" if role == "hub" else full)))
        if role != "relay":
            own = (*own, "--directory", str(self.state / full))
        verb = "server" if role == "hub" else role
        return full, role, place, [sys.executable, "-m", "bdw_fed.cli", verb, *own, *words]

    def _store(self) -> Iterator[tuple[str, str, str, list[str]]]:
        files = (self._etcd.certificate, self._etcd.key, self._etcd.ca)
        config = etcd.EtcdConfig(self.state / "etcd", ETCD_PORT, *files, durability="process")
        etcd.prepare(config)
        url = f"https://{self._network.address('etcd')}:{ETCD_PORT}"
        where = [f"--{use}-client-urls={url}" for use in ("listen", "advertise")]  # not on loopback, as it would be
        yield "etcd", "etcd", "etcd", [*etcd.command(config), *where]

    def _central(self) -> Iterator[tuple[str, str, str, list[str]]]:
        store = ("--etcd", f"{self._network.address('etcd')}:{ETCD_PORT}", "--etcd-name", "127.0.0.1")
        for hub, address in zip(HUBS, self.hubs, strict=True):
            yield self._service(
                *("hub", hub, hub, *store, "--etcd-credentials", str(self.keys / "etcd-client")),
                *("--name", hub, "--listen", address, "--admin", ME, "--blobs", str(self.state / "blobs")),
            )
        listen = f"{self._network.address('relay')}:7447"
        yield self._service("relay", "one", "relay", "--name", "one", "--listen", listen)

    def _agents(self) -> Iterator[tuple[str, str, str, list[str]]]:
        for cluster in CLUSTERS:
            host = self._network.address(cluster)
            yield self._service(
                *("agent", cluster, cluster, "--cluster", cluster),
                *(word for hub in self.hubs for word in ("--hub", hub)),
                *("--data-root", str(self._directory), "--durability", "process"),
                *("--listen-nodes", f"{host}:7444", "--listen-peers", f"{host}:7445"),
            )

    def _nodes(self) -> Iterator[tuple[str, str, str, list[str]]]:
        for cluster, nodes in CLUSTERS.items():
            agent = f"{self._network.address(cluster)}:7444"
            for node, place in nodes.items():
                yield self._service(
                    *("node", f"{cluster}-{node}", place, "--cluster", cluster, "--node", node),
                    *("--agent", agent, "--listen-data", f"{self._network.address(place)}:7446"),
                    *("--cpus", str(SLOTS), "--memory", "1Gi"),
                )
