"""What a cluster's manifest has of its storage: the topology's words for a ConfigMap, credentials for a Secret.

Only the node daemons' pods get either. Of the topology they see their own cluster and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from bdw_fed.manifests.errors import ManifestError
from topology.model import Cluster
from topology.storage import Objects, Redis, Storage

_REDIS: Final = ("password",)
_OBJECTS: Final = ("access-key-id", "secret-access-key")
_MAY: Final = ("username", "session-token", "ca.pem")


@dataclass(frozen=True)
class Storing:
    """A topology of one cluster, as YAML, and the credentials that its storage names: NAME/FILE -> content.

    `memory`: bytes that units may take of the memory of each node, as far as that is said.
    """

    topology: str
    credentials: Mapping[str, bytes] = field(default_factory=dict)
    memory: int = 0


def storing(cluster: Cluster, credentials: Path | None, *, pods: bool) -> Storing | None:
    """What the nodes of a cluster are to be told; None where its storage is not declared. ManifestError.

    `credentials`: the directory with the names' directories. `pods`: workers are pods.
    """
    if cluster.storage == Storage():
        return None
    memory = cluster.storage.memory or 0
    if memory and pods:
        raise ManifestError(
            f"the storage of {cluster.name}: memory: workers that are pods don't see what lies there; leave it out, "
            "or have workers be processes in the daemons' pods: runtime: process"
        )
    named = [(place.credentials, needed) for place, needed in _places(cluster.storage) if place.credentials]
    if named and credentials is None:
        names = ", ".join(sorted({name for name, _ in named}))
        raise ManifestError(
            f"the storage of {cluster.name} names the credentials {names}: say with --storage-credentials DIRECTORY "
            "where they are, NAME/FILE below it"
        )
    content: dict[str, bytes] = {}
    for name, needed in named:
        assert credentials is not None
        content |= {f"{name}/{file}": data for file, data in _read(credentials / name, needed).items()}
    spec = {
        # Nodes ask for the storage alone. What else a topology needs to be one says nothing here.
        "zones": [{"name": cluster.zone, "tier": "edge"}],
        "clusters": [
            {
                "name": cluster.name,
                "zone": cluster.zone,
                "runtime": "process",
                "nodes": [{"name": "each"}],
                "storage": cluster.storage.model_dump(mode="json", exclude_defaults=True),
            }
        ],
    }
    document = {"kind": "Topology", "metadata": {"name": "storage"}, "spec": spec}
    return Storing(yaml.safe_dump(document, sort_keys=False), content, memory)


def _places(storage: Storage) -> list[tuple[Redis | Objects, tuple[str, ...]]]:
    return [(place, needed) for place, needed in ((storage.redis, _REDIS), (storage.objects, _OBJECTS)) if place]


def _read(directory: Path, needed: tuple[str, ...]) -> dict[str, bytes]:
    content = {}
    for name in (*needed, *_MAY):
        file = directory / name
        try:
            content[name] = file.read_bytes()
        except FileNotFoundError:
            if name in needed:
                raise ManifestError(f"{file}: not there; expected what the topology's storage names") from None
        except OSError as error:
            raise ManifestError(f"{file}: {error.strerror}") from error
    return content
