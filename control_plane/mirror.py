"""All values of a kind as the store has them: read once, then followed, whichever hub writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from control_plane.patience import persistently
from control_plane.store.base import Deleted, Listing, M
from control_plane.store.repository import EtcdRepository


class Mirror(Generic[M]):
    """The values of a kind whose keys are one name each. `changed` is called when some have changed."""

    def __init__(self, repository: EtcdRepository[M]) -> None:
        self._repository = repository
        self._values: dict[str, M] = {}
        self.changed: Callable[[], None] = lambda: None

    async def load(self) -> Listing[M]:
        """Read all. Returns what `keep` goes on from."""
        listing = await persistently(self._repository.list, None)
        self._values = {stored.key.names[0]: stored.value for stored in listing.items}
        return listing

    async def keep(self, listing: Listing[M]) -> None:
        """Follow the store. Run by the hub as long as it lives."""
        async with self._repository.watch(after=listing) as watch:
            async for news in watch:
                for event in news.events:
                    if isinstance(event, Deleted):
                        self._values.pop(event.key.names[0], None)
                    else:
                        self._values[event.key.names[0]] = event.value
                self.changed()
