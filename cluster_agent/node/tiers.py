"""What a node says of the tiers in which it keeps units: how full each is, of how much, for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bdw_fed.v1.control_plane_pb2 import StorageTier
from cluster_agent.data.shared.places import SharedPlaces
from cluster_agent.data.store import DiskStore

_STEPS: Final = 16  # so many changes of what is in memory are told while it fills


def tiers_of(store: DiskStore, places: SharedPlaces) -> list[StorageTier]:
    """The tiers, from the nearest to the farthest; places that nodes share come last, as nobody counts what lies
    there."""
    found = []
    if store.memory is not None:
        found.append(StorageTier(name="memory", used=store.memory.shelf.used, budget=store.memory.budget))
    found.append(StorageTier(name="disk", used=store.stored_bytes, budget=store.stored_bytes + store.space.free()))
    if store.away is not None:
        found.append(StorageTier(name="objects", used=store.away.used, place=store.away.place))
    found += [StorageTier(name="shared", place=place) for place in sorted(places.names())]
    return found


def news_of(tiers: Iterable[StorageTier]) -> tuple[object, ...]:
    """What of it is worth a message when it has changed: what is in memory comes and goes with every task."""
    return tuple(
        (tier.name, tier.used * _STEPS // max(tier.budget, 1) if tier.name == "memory" else tier.used, tier.place)
        for tier in tiers
    )
