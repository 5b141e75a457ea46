"""The quotas of all namespaces as the store has them: read once, then followed, whichever hub writes them.

    Quota objects in the store ─▶ limits of each namespace ─┬▶ storage: the directories that agents are told
                                                            └▶ runs: submissions (`admission`)

Of several quotas in a namespace each holds, so the least counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from control_plane.kinds import Kinds
from control_plane.patience import persistently
from control_plane.store.base import Deleted, Listing, Stored
from control_plane.store.keys import Key
from topology.quantity import parse_size


@dataclass(frozen=True)
class Limits:
    """What a namespace may have; None = as much as it likes. `storage`: bytes on each cluster."""

    storage: int | None = None
    runs: int | None = None


class Quotas:
    """`keep` is run by the hub as long as it lives; `changed` is called when some have changed."""

    def __init__(self, kinds: Kinds) -> None:
        self._repository = kinds.objects["Quota"]
        self._limits: dict[Key, Limits] = {}
        self.changed: Callable[[], None] = lambda: None

    def of(self, namespace: str) -> Limits:
        """What a namespace may have."""
        found = [limits for key, limits in self._limits.items() if key.names[0] == namespace]
        return Limits(
            storage=min((each.storage for each in found if each.storage is not None), default=None),
            runs=min((each.runs for each in found if each.runs is not None), default=None),
        )

    def told(self) -> list[f.StorageQuota]:
        """What agents are told: the namespaces whose storage is bounded."""
        namespaces = sorted({key.names[0] for key in self._limits})
        storage = ((namespace, self.of(namespace).storage) for namespace in namespaces)
        return [f.StorageQuota(namespace=namespace, storage=size) for namespace, size in storage if size is not None]

    async def load(self) -> Listing[cp.Object]:
        """Read all. Returns what `keep` goes on from."""
        listing = await persistently(self._repository.list, None)
        for stored in listing.items:
            self._take(stored)
        return listing

    async def keep(self, listing: Listing[cp.Object]) -> None:
        """Follow the store."""
        async with self._repository.watch(after=listing) as watch:
            async for news in watch:
                for event in news.events:
                    if isinstance(event, Deleted):
                        self._limits.pop(event.key, None)
                    else:
                        self._take(event)
                self.changed()

    def _take(self, stored: Stored[cp.Object]) -> None:
        self._limits[stored.key] = limits_of(stored.value)


def limits_of(quota: cp.Object) -> Limits:
    """What a stored quota says, read from its canonical form without making a model of it."""
    spec = json.loads(quota.spec_json)["spec"]
    storage = spec.get("storage")
    return Limits(None if storage is None else parse_size(storage), spec.get("runs"))
