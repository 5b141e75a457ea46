"""The quotas of all namespaces as the store has them: read once, then followed, whichever hub writes them.

    Quota objects in the store ─▶ limits of each namespace ─┬▶ storage: the directories that agents are told
                                                            └▶ runs: submissions (`admission`)

Of several quotas in a namespace each holds, so the least counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from control_plane.mirror import Mirror
from topology.quantity import parse_size


@dataclass(frozen=True)
class Limits:
    """What a namespace may have; None = as much as it likes. `storage`: bytes on each cluster."""

    storage: int | None = None
    runs: int | None = None


class Quotas(Mirror[cp.Object]):
    """The quotas of all namespaces."""

    def of(self, namespace: str) -> Limits:
        """What a namespace may have."""
        found = [limits_of(stored.value) for names, stored in self._stored.items() if names[0] == namespace]
        return Limits(
            storage=min((each.storage for each in found if each.storage is not None), default=None),
            runs=min((each.runs for each in found if each.runs is not None), default=None),
        )

    def told(self) -> list[f.StorageQuota]:
        """What agents are told: the namespaces whose storage is bounded."""
        namespaces = sorted({names[0] for names in self._stored})
        storage = ((namespace, self.of(namespace).storage) for namespace in namespaces)
        return [f.StorageQuota(namespace=namespace, storage=size) for namespace, size in storage if size is not None]


def limits_of(quota: cp.Object) -> Limits:
    """What a stored quota says, read from its canonical form without making a model of it."""
    spec = json.loads(quota.spec_json)["spec"]
    storage = spec.get("storage")
    return Limits(None if storage is None else parse_size(storage), spec.get("runs"))
