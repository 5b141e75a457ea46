"""All values of a kind as the store has them: read once, then followed, whichever hub writes them.

They may be a moment old. Who decides something on one makes the write conditional on it, or can bear that it was
another one just then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from control_plane.patience import persistently
from control_plane.store.base import Deleted, Listing, M, Stored
from control_plane.store.repository import EtcdRepository


class Mirror(Generic[M]):
    """The values of a kind by the names of their keys. `changed` is called when some have changed."""

    def __init__(self, repository: EtcdRepository[M]) -> None:
        self._repository = repository
        self._stored: dict[tuple[str, ...], Stored[M]] = {}
        self.changed: Callable[[], None] = lambda: None

    def get(self, *names: str) -> Stored[M] | None:
        """The value, as far as was heard; None where there is none."""
        return self._stored.get(names)

    async def load(self) -> Listing[M]:
        """Read all. Returns what `keep` goes on from."""
        listing = await persistently(self._repository.list, None)
        self._stored = {stored.key.names: stored for stored in listing.items}
        return listing

    async def keep(self, listing: Listing[M]) -> None:
        """Follow the store. Run by the hub as long as it lives."""
        async with self._repository.watch(after=listing) as watch:
            async for news in watch:
                for event in news.events:
                    if isinstance(event, Deleted):
                        self._stored.pop(event.key.names, None)
                    else:
                        self._stored[event.key.names] = event
                self.changed()
