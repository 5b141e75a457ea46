"""Which processes a federation on this machine has, and where each keeps and serves what: made from a topology.

The layout is plain data. `up` makes it and hands it to the supervisor, which keeps it in `layout.json` of the state
directory, so that the next `up` finds the same ports and directories.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Role = Literal["etcd", "hub", "relay", "agent", "node"]
FILE = "layout.json"
STORAGE_CREDENTIALS = "storage-credentials"  # in the state directory; below it a directory for each name
ORDER_OF_STOPPING: tuple[Role, ...] = ("node", "agent", "relay", "hub", "etcd")


@dataclass(frozen=True)
class Process:
    """One process. Directories are absolute; `ports` maps what is served to the port on loopback."""

    name: str  # hub, etcd, relay-NAME, agent-EDGE, node-EDGE.N1: also of its log, state and credentials
    role: Role
    state: str
    credentials: str
    log: str
    ports: dict[str, int]
    after: str = ""  # the process that this one dials: at first it is started once that one is ready
    cluster: str = ""
    node: str = ""
    cpus: float = 0.0
    memory: int = 0
    disk: int = 0
    relay: str = ""
    storage: str = ""  # of a node: what the topology says of its cluster's, as JSON


@dataclass(frozen=True)
class Layout:
    """The whole federation."""

    state: str
    data_root: str
    durability: str
    topology: str  # digest of the topology's text: which one this is
    heartbeat: float
    processes: tuple[Process, ...]
    stop_seconds: float = 8.0  # that processes of one role get to stop before they are killed

    def one(self, role: Role) -> Process:
        """The only process of a role (hub, etcd)."""
        return next(process for process in self.processes if process.role == role)

    def relays(self) -> dict[str, int]:
        """The ports of all relays, by their names."""
        return {process.relay: process.ports["relay"] for process in self.processes if process.role == "relay"}

    def agent_of(self, cluster: str) -> Process:
        """The agent of a cluster."""
        return next(item for item in self.processes if item.role == "agent" and item.cluster == cluster)

    def to_json(self) -> str:
        """As text, for a file or a pipe."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Layout:
        """The layout that `to_json` wrote."""
        content: dict[str, Any] = json.loads(text)
        processes = tuple(Process(**process) for process in content.pop("processes"))
        return cls(processes=processes, **content)


@dataclass(frozen=True)
class NodeShape:
    """A node as the topology declares it: processors, and bytes of memory and disk (0: no limit)."""

    cluster: str
    name: str
    cpus: float
    memory: int
    disk: int
    storage: str = ""


def lay_out(
    state: Path,
    *,
    clusters: Sequence[str],
    nodes: Sequence[NodeShape],
    relays: Sequence[str] = (),
    data_root: Path,
    durability: str,
    topology: str,
    heartbeat: float,
    stop_seconds: float,
    kept_ports: dict[str, int],
) -> Layout:
    """The layout for these clusters, nodes and relays. `kept_ports` are an earlier layout's, by process and use."""
    from bdw_fed.embedded.ports import choose_ports

    uses = ["etcd.clients", "hub.api", "hub.join"]
    uses += [f"relay-{relay}.{use}" for relay in relays for use in ("relay", "health")]
    for cluster in clusters:
        uses += [f"agent-{cluster}.nodes", f"agent-{cluster}.peers"]
    uses += [f"node-{node.cluster}.{node.name}.data" for node in nodes]
    ports = choose_ports(uses, kept_ports)

    def process(name: str, role: Role, **more: Any) -> Process:
        own = {use.rpartition(".")[2]: port for use, port in ports.items() if use.rpartition(".")[0] == name}
        return Process(
            name=name,
            role=role,
            state=str(state / name),
            credentials=str(state / "credentials" / name),
            log=str(state / "logs" / f"{name}.log"),
            ports=own,
            **more,
        )

    processes = [process("etcd", "etcd"), process("hub", "hub", after="etcd")]
    processes += [process(f"relay-{relay}", "relay", relay=relay) for relay in relays]
    processes += [process(f"agent-{cluster}", "agent", after="hub", cluster=cluster) for cluster in clusters]
    processes += [
        process(
            f"node-{node.cluster}.{node.name}",
            "node",
            after=f"agent-{node.cluster}",
            cluster=node.cluster,
            node=node.name,
            cpus=node.cpus,
            memory=node.memory,
            disk=node.disk,
            storage=node.storage,
        )
        for node in nodes
    ]
    return Layout(str(state), str(data_root), durability, topology, heartbeat, tuple(processes), stop_seconds)


def ports_of(layout: Layout) -> dict[str, int]:
    """All ports by process and use, as `lay_out` takes them."""
    return {f"{process.name}.{use}": port for process in layout.processes for use, port in process.ports.items()}


def read_layout(state: Path) -> Layout | None:
    """The layout that the last supervisor kept in `state`; None if there is none that we can read."""
    try:
        return Layout.from_json((state / FILE).read_text())
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
