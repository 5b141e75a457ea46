"""Overlays as data, pure: what a kustomization says for the hub's cluster, and for a cluster with an agent.

Names of files are those that `credentials` gives: SUBJECT/cert.pem and so on, below the overlay's directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bdw_fed.manifests.storing import Storing

IMAGE = "bdw-fed"  # the name that stands in the bases
NAMESPACE = "bdw-fed"
HUB_NODE_PORT = 30443
PEERS_NODE_PORT = 30445
RELAY_NODE_PORT = 30447
FILES = ("cert.pem", "key.pem", "ca.pem")
AUTHORITY_FILES = ("ca.pem", "ca-key.pem")
STORAGE = "storage"  # a directory of an agent's overlay
JOIN = "join"  # another
TOKEN, NODE_TOKEN = "token", "node-token"  # its files

Kustomization = dict[str, Any]


@dataclass(frozen=True)
class HubPlace:
    """What the hub's overlay is made from. `node_port`: reachable at a port of every node. `join`: clusters can join,
    for which the hub gets the authority's key."""

    image: str
    namespace: str = NAMESPACE
    node_port: bool = True
    join: bool = False
    log_level: str = "warning"


@dataclass(frozen=True)
class Joining:
    """How a cluster becomes a member by itself: where the hub lets clusters join, and the hash of its authority."""

    address: str
    ca_hash: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class AgentPlace:
    """What a cluster's overlay is made from. `nodes` are Kubernetes' names of those that work. With `joining` agent and
    nodes make their own keys and have them certified, and no `nodes` means all; else credentials are made for them.

    `advertise_peers` is where other clusters dial this one ("host:port"), empty where none does; `trusted`: they find a
    door without TLS, too, for links that the topology calls so. `data_door`: people can fetch from the nodes what lies
    there; other clusters that dial have to, anyway. `memory` and `disk` are bytes; `disk` 0 = not limited. `pods`:
    workers are pods of the users' images, which ask for the part `cpu_requests` of their steps' processors, and are
    root where their steps want it and `allow_root` is set; then `cpus` and `memory` of 0 are what each node has.
    """

    cluster: str
    hub: str
    nodes: tuple[str, ...]
    image: str
    namespace: str = NAMESPACE
    advertise_peers: str = ""
    trusted: bool = False
    cpus: float = 2.0
    memory: int = 2 << 30
    cpu_requests: float = 1.0
    disk: int = 0
    durability: str = "power"
    log_level: str = "warning"
    pods: bool = False
    allow_root: bool = False
    data_door: bool = True
    storage: Storing | None = None  # what nodes have beside their disks
    joining: Joining | None = None


@dataclass(frozen=True)
class RelayPlace:
    """What a relay's overlay is made from. `node_port`: reachable at a port of every node."""

    name: str
    image: str
    namespace: str = NAMESPACE
    node_port: bool = True
    log_level: str = "warning"


_WORKERS_MEMORY = 2 << 30  # in a node daemon's pod, where none is told
_OVERHEAD = 1 << 30  # of a node daemon's pod beyond what its workers may use: itself and files in memory
_SMALL_FILES = 256 << 20  # of small tasks, in the memory of a daemon's pod; as in the base
_STOP_SECONDS = 30  # that a pod is given to end, unless more is said
_MOVED_IN_A_SECOND = 50 << 20  # bytes of a memory that a daemon which is stopped moves to its disk


def hub_overlay(place: HubPlace, bases: str) -> Kustomization:
    """The kustomization of hub and etcd; `bases` is where deploy/kubernetes lies."""
    content = _kustomization(place.namespace, place.image, [f"{bases}/etcd", f"{bases}/hub"])
    components = {"hub-node-port": place.node_port, "hub-join": place.join}
    if wanted := [f"{bases}/components/{name}" for name, needed in components.items() if needed]:
        content["components"] = wanted
    content["configMapGenerator"] = [_merged("bdw-fed-hub", {"LOG_LEVEL": place.log_level})]
    content["secretGenerator"] = [
        _secret("bdw-fed-etcd-credentials", {file: f"etcd/{file}" for file in FILES}),
        _secret("bdw-fed-hub-credentials", {file: f"hub/{file}" for file in FILES}),
        _secret("bdw-fed-hub-etcd-credentials", {file: f"etcd-client/{file}" for file in FILES}),
    ]
    if place.join:
        content["secretGenerator"].append(
            _secret("bdw-fed-authority", {file: f"authority/{file}" for file in AUTHORITY_FILES})
        )
    return content


def agent_overlay(place: AgentPlace, bases: str) -> Kustomization:
    """The kustomization of an agent and its node daemons; `bases` is where deploy/kubernetes lies."""
    content = _kustomization(place.namespace, place.image, [f"{bases}/agent"])
    components = {
        "data-door": place.data_door or place.advertise_peers,
        "open-doors": place.advertise_peers,
        "trusted-door": place.advertise_peers and place.trusted,
        "worker-pods": place.pods,
        "root-steps": place.pods and place.allow_root,
        "storage": place.storage,
        "joining": place.joining,
    }
    if wanted := [f"{bases}/components/{name}" for name, needed in components.items() if needed]:
        content["components"] = wanted
    agent = {
        "CLUSTER": place.cluster,
        "HUB": place.hub,
        "ADVERTISE_PEERS": place.advertise_peers,
        "DURABILITY": place.durability,
        "LOG_LEVEL": place.log_level,
    }
    node = {
        "CLUSTER": place.cluster,
        "WORKER_CPUS": f"{place.cpus:g}",
        "WORKER_MEMORY": str(place.memory),
        "CPU_REQUESTS": f"{place.cpu_requests:g}",
        "STORE": str(place.disk),
        "LOG_LEVEL": place.log_level,
    }
    if place.joining is not None:
        agent |= {"JOIN": place.joining.address, "CA_HASH": place.joining.ca_hash}
    content["configMapGenerator"] = [_merged("bdw-fed-agent", agent), _merged("bdw-fed-node", node)]
    content["secretGenerator"] = _agent_secrets(place)
    if place.storage is not None:
        content["configMapGenerator"].append(
            {"name": "bdw-fed-storage", "files": [f"topology.yaml={STORAGE}/topology.yaml"]}
        )
        if place.storage.credentials:
            told = {_key(name): f"{STORAGE}/{name}" for name in place.storage.credentials}
            content["secretGenerator"].append(_secret("bdw-fed-storage-credentials", told))
    content["patches"] = [{"target": {"kind": "DaemonSet", "name": "bdw-fed-node"}, "patch": _node_patch(place)}]
    if place.pods:
        content["patches"] += _role_patches(place)
    return content


def _agent_secrets(place: AgentPlace) -> list[dict[str, Any]]:
    if place.joining is not None:
        tokens = {name: f"{JOIN}/{name}" for name in (TOKEN, NODE_TOKEN)}
        return [_secret("bdw-fed-join", tokens), _secret("bdw-fed-node-token", {NODE_TOKEN: tokens[NODE_TOKEN]})]
    files = {f"{node}.{file}": f"nodes/{node}/{file}" for node in place.nodes for file in FILES}
    return [
        _secret("bdw-fed-agent-credentials", {file: f"agent/{file}" for file in FILES}),
        _secret("bdw-fed-node-credentials", files),
    ]


def _key(credential: str) -> str:
    """The key of a credential NAME/FILE in its Secret, which takes no slash."""
    return credential.replace("/", ".")


def relay_overlay(place: RelayPlace, bases: str) -> Kustomization:
    """The kustomization of a relay; `bases` is where deploy/kubernetes lies."""
    content = _kustomization(place.namespace, place.image, [f"{bases}/relay"])
    if place.node_port:
        content["components"] = [f"{bases}/components/relay-node-port"]
    content["configMapGenerator"] = [_merged("bdw-fed-relay", {"RELAY": place.name, "LOG_LEVEL": place.log_level})]
    content["secretGenerator"] = [_secret("bdw-fed-relay-credentials", {file: f"relay/{file}" for file in FILES})]
    return content


def _kustomization(namespace: str, image: str, resources: list[str]) -> Kustomization:
    name, tag = _split(image)
    renamed = {"name": IMAGE, "newName": name, **({"digest": tag[1:]} if tag.startswith("@") else {"newTag": tag})}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": ["namespace.yaml", *resources],
        "images": [renamed],
    }


def _split(image: str) -> tuple[str, str]:
    """An image's name, and its tag or (with "@") digest.

    >>> _split("registry.example.org:5000/bdw-fed:1.0"), _split("bdw-fed")
    (('registry.example.org:5000/bdw-fed', '1.0'), ('bdw-fed', 'latest'))
    """
    name, at, digest = image.partition("@")
    if at:
        return name, f"@{digest}"
    head, slash, last = image.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", tag or "latest"


def _merged(name: str, values: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "behavior": "merge", "literals": [f"{key}={value}" for key, value in values.items()]}


def _secret(name: str, files: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "files": [f"{key}={path}" for key, path in files.items()]}


def _node_patch(place: AgentPlace) -> str:
    """Strategic merge: on which nodes there are daemons, which files each finds, how much memory its pod has.

    Units in memory lie beside the small tasks' files. A quarter of that file system stays free, as the daemon sees to;
    and one that is stopped is given the time to move them to its disk, else they would have to be made again.
    """
    import yaml

    memory = place.storage.memory if place.storage is not None else 0
    room = (_SMALL_FILES + memory) * 4 // 3 if memory else _SMALL_FILES
    limit = (place.memory or _WORKERS_MEMORY) + _OVERHEAD + room - _SMALL_FILES
    spec: dict[str, Any] = {"containers": [{"name": "node", "resources": {"limits": {"memory": str(limit)}}}]}
    volumes: list[dict[str, Any]] = []
    if place.joining is None:
        # One directory a node, of which its pod mounts its own.
        items = [{"key": f"{node}.{file}", "path": f"{node}/{file}"} for node in place.nodes for file in FILES]
        volumes.append({"name": "credentials", "secret": {"items": items}})
    if place.storage is not None and place.storage.credentials:
        told = [{"key": _key(name), "path": name} for name in place.storage.credentials]
        volumes.append({"name": "storage-credentials", "secret": {"items": told}})
    if memory:
        volumes.append({"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": str(room)}})
        spec["terminationGracePeriodSeconds"] = _STOP_SECONDS + memory // _MOVED_IN_A_SECOND
    patch = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "bdw-fed-node"},
        "spec": {"template": {"spec": {**spec, "volumes": volumes, **_only_on(place.nodes)}}},
    }
    text: str = yaml.safe_dump(patch, sort_keys=False)
    return text


def _only_on(nodes: tuple[str, ...]) -> dict[str, Any]:
    """That pods are on these nodes alone, if any are named. A term takes one name, and one of the terms has to hold."""
    if not nodes:
        return {}
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]} for node in nodes]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"affinity": {"nodeAffinity": required}}


def _role_patches(place: AgentPlace) -> list[Kustomization]:
    """The one right in the whole cluster is for these nodes, and not that of another federation in the same cluster."""
    import yaml

    named = {"op": "replace", "path": "/metadata/name", "value": f"bdw-fed-node-{place.namespace}"}
    only = [{"op": "add", "path": "/rules/0/resourceNames", "value": list(place.nodes)}] if place.nodes else []
    return [
        {
            "target": {"kind": kind, "name": "bdw-fed-node"},
            "patch": yaml.safe_dump(operations, sort_keys=False),
            "options": {"allowNameChange": True},
        }
        for kind, operations in (("ClusterRole", [*only, named]), ("ClusterRoleBinding", [named]))
    ]
