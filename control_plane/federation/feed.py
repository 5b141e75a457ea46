"""What is wanted of each cluster, from the store to its session: one watch for all, coalesced for each.

A session subscribes, gets everything that is assigned to its cluster, and then each change. Changes that a session has
not taken yet are merged by run: only the newest matters, so a slow agent costs no more than its set of assignments.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from control_plane.kinds import Kinds
from control_plane.patience import persistently
from control_plane.store.base import Deleted, Listing, Stored
from control_plane.store.keys import Key


@dataclass(frozen=True)
class Change:
    """New or changed assignments. `everything`: they are all there are."""

    assignments: list[m.Assignment] = field(default_factory=list)
    removed: list[f.AssignmentRemoved] = field(default_factory=list)
    everything: bool = False


class Subscription:
    """One session's view; iterate it once."""

    def __init__(self, kinds: Kinds, cluster: str) -> None:
        self._kinds = kinds
        self._cluster = cluster
        self._pending: dict[Key, Stored[m.Assignment] | Deleted] = {}
        self._something = asyncio.Event()

    def happened(self, event: Stored[m.Assignment] | Deleted) -> None:
        """An assignment of this cluster was written or deleted."""
        self._pending[event.key] = event
        self._something.set()

    async def __aiter__(self) -> AsyncIterator[Change]:
        listing = await persistently(lambda: self._kinds.fragments.list(self._cluster), None)
        epochs = {item.key: item.value.fragment.epoch for item in listing.items}
        yield Change([item.value for item in listing.items], everything=True)
        while True:
            await self._something.wait()
            self._something.clear()
            pending, self._pending = self._pending, {}
            change = Change()
            for key, event in pending.items():
                if event.revision <= listing.revision:
                    continue
                if not isinstance(event, Deleted):
                    epochs[key] = event.value.fragment.epoch
                    change.assignments.append(event.value)
                elif (epoch := epochs.pop(key, None)) is not None:
                    _, namespace, run = key.names
                    change.removed.append(f.AssignmentRemoved(namespace=namespace, run=run, epoch=epoch))
            if change.assignments or change.removed:
                yield change


class Feed:
    """The one watch of all assignments. `keep` is run by the hub as long as it lives."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._subscribed: dict[str, set[Subscription]] = {}

    def subscribe(self, cluster: str) -> Subscription:
        """Begin to follow a cluster's assignments; end with `unsubscribe`."""
        subscription = Subscription(self._kinds, cluster)
        self._subscribed.setdefault(cluster, set()).add(subscription)
        return subscription

    def unsubscribe(self, cluster: str, subscription: Subscription) -> None:
        """Nobody listens there any more."""
        self._subscribed[cluster].discard(subscription)
        if not self._subscribed[cluster]:
            del self._subscribed[cluster]

    async def load(self) -> Listing[m.Assignment]:
        """What `keep` goes on from."""
        return await persistently(self._kinds.fragments.list, None)

    async def keep(self, listing: Listing[m.Assignment]) -> None:
        """Follow the store."""
        async with self._kinds.fragments.watch(after=listing) as watch:
            async for news in watch:
                for event in news.events:
                    for subscription in self._subscribed.get(event.key.names[0], ()):
                        subscription.happened(event)
