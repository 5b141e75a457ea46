"""The design-time topology: zones, clusters with their nodes, links between zones, datasets and where they lie.

The loader builds a `Topology` from a document; `topology.checks` judges it as a whole; `topology.questions` answers
what the planner and the coordinators ask of it. All sizes are bytes, bandwidths bytes a second, durations seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_serializer, model_validator

from topology.errors import WrongValue
from topology.schema import Bandwidth, Cpus, Duration, Labels, Many, Metadata, Model, Name, Size, Takes
from topology.storage import Storage

Tier = Literal["edge", "fog", "cloud"]
TaintEffect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


def _data_path(value: str) -> str:
    if not value or "\0" in value or "\\" in value or len(value) > 1024:
        raise WrongValue(f"{value[:60]!r} is not a path", "write it as folder/file.csv")
    if value.startswith("/") or ".." in value.split("/"):
        raise WrongValue(
            f"{value!r} leads out of the cluster's data root: expected a path relative to it, without '..'",
            "put the file below the data root, or link it there",
        )
    return value


def _host_and_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or any(letter.isspace() or letter in "/@" for letter in host):
        raise WrongValue(f"{value!r} is not an address: expected HOST:PORT", "write it as relay.example.org:7447")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise WrongValue(f"{port!r} is not a port: expected HOST:PORT", "write it as relay.example.org:7447")
    return value


def _two_zones(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) != 2 or value[0] == value[1]:
        raise WrongValue("a link is between two different zones", "write between: [one-zone, another-zone]")
    return value


class Zone(Model):
    """A place whose clusters reach each other freely."""

    name: Name
    tier: Tier
    distance: float = Field(default=0.0, ge=0)  # between two of its clusters
    labels: Labels = Field(default_factory=dict)


class Node(Model):
    """A machine of a cluster, or a share of this machine where a process stands for a node."""

    name: Name
    cpus: Cpus = 1.0
    memory: Size = 0  # bytes that workers may use; 0 = not limited
    disk: Size = 0  # bytes that the node's store may take; 0 = not limited
    labels: Labels = Field(default_factory=dict)


class Taint(Model):
    """Keeps steps away that don't tolerate it, as in Kubernetes."""

    key: str = Field(min_length=1, max_length=253)
    value: str = ""
    effect: TaintEffect = "NoSchedule"


class Disconnect(Model):
    """What happens when the hub can't reach a cluster. A workflow's lies over the cluster's (`overlay`)."""

    lost_after: Duration = 300.0  # unreachable so long = lost
    stop_after: Duration = 0.0  # the cluster stops its part so long after it lost the hub; 0 = never
    replace: bool = False  # the lost cluster's part is given to others
    keep: Literal["replacement", "original", "furthest"] = "replacement"  # what counts once it is back


class Kubernetes(Model):
    """A Kubernetes cluster: agent, node daemons and workers are pods in `namespace`."""

    context: str = ""  # of the operator's kubeconfig; empty: the one that is in use where manifests are applied
    namespace: Name = "bdw-fed"


class Runtime(Model):
    """What a cluster is, and so how workers are started: as processes, or as pods of their steps' images.

    Written `process`, `kubernetes` or `{kubernetes: {context: …, namespace: …}}`.
    """

    kubernetes: Kubernetes | None = None

    @property
    def kind(self) -> Literal["process", "kubernetes"]:
        return "process" if self.kubernetes is None else "kubernetes"

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if value == "process":
            return {}
        if value in ("kubernetes", {"kubernetes": None}):
            return {"kubernetes": {}}
        if isinstance(value, str) or value is None:
            raise WrongValue(
                f"{value!r} is not a runtime: expected process, kubernetes or {{kubernetes: …}}",
                "write runtime: process, or runtime: kubernetes, "
                "or say where: {kubernetes: {context: NAME, namespace: NAME}}",
            )
        return value

    @model_serializer
    def _written(self) -> object:
        if self.kubernetes is None:
            return "process"
        written = self.kubernetes.model_dump(exclude_unset=True, by_alias=True)
        return {"kubernetes": written} if written else "kubernetes"


class Cluster(Model):
    """One agent's realm. A process cluster declares its nodes.

    Those of Kubernetes are as their daemons report them; what is declared is the capacity expected until they do.
    """

    name: Name
    zone: Name
    runtime: Runtime = Runtime()
    nodes: Many[Node] = ()
    labels: Labels = Field(default_factory=dict)
    taints: Many[Taint] = ()
    disconnect: Disconnect = Disconnect()
    storage: Storage = Storage()


class Link(Model):
    """Two zones that can reach each other; zones without a link can't. The figures hold for both directions."""

    between: Annotated[Many[Name], AfterValidator(_two_zones), Takes("two zones", "[one-zone, another-zone]")]
    bandwidth: Bandwidth
    latency: Duration = 0.0  # one way
    cost_per_gb: float = Field(default=0.0, ge=0)  # of 10**9 bytes, in whatever currency all costs are in
    declared_distance: float | None = Field(default=None, alias="distance", gt=0)
    dial: Name = "both"  # the zone that can open connections, or both, or none
    trusted: bool = False  # a private line: traffic need not be encrypted once more

    @property
    def distance(self) -> float:
        """As declared, else the latency in milliseconds, and at least 1."""
        return self.declared_distance if self.declared_distance is not None else max(1.0, self.latency * 1000)


class Relay(Model):
    """A door of its own, for clusters of which neither can dial the other: both dial it."""

    name: Name
    address: Annotated[str, AfterValidator(_host_and_port), Takes("an address", "relay.example.org:7447")]
    zones: Many[Name] = ()  # whose clusters can open connections to it; empty: all


class Part(Model):
    """A file of a dataset on a cluster; `path` is relative to the cluster's data root, `size` in bytes if known."""

    at: Name
    path: Annotated[str, AfterValidator(_data_path), Takes("a path below the data root", "folder/file.csv")]
    size: Size | None = None


class Dataset(Model):
    """Data that lies on clusters: `parts`, each read once, or `replicas` of the same bytes, of which one is read."""

    name: Name
    parts: Many[Part] = ()
    replicas: Many[Part] = ()

    @model_validator(mode="after")
    def _parts_or_replicas(self) -> Self:
        if bool(self.parts) == bool(self.replicas):
            raise WrongValue(
                f"dataset {self.name!r} needs parts or replicas" + (", not both" if self.parts else ""),
                "parts are different files that are all read; replicas are copies of one file",
            )
        return self


class TopologySpec(Model):
    """What a topology says; see `docs/reference/topology.md`."""

    zones: Many[Zone]
    clusters: Many[Cluster]
    links: Many[Link] = ()
    relays: Many[Relay] = ()  # the first that answers is used
    datasets: Many[Dataset] = ()


class Topology(Model):
    """A topology as applied: kind, metadata and spec."""

    kind: Literal["Topology"] = "Topology"
    metadata: Metadata
    spec: TopologySpec
