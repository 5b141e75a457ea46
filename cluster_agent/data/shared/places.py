"""The places that a node shares with others, by what they call themselves; and which of them a content goes to.

Small ones go to the Redis, where there is one, since it answers at once and many are asked for together; all others to
the bucket.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.config import SharedConfig
from cluster_agent.data.shared.guarded import GuardedStore


class SharedPlaces:
    """Opened as `config` says; `close` at the end."""

    def __init__(self, config: SharedConfig) -> None:
        self.redis: SharedStore | None = None
        self.objects: SharedStore | None = None
        # Who uses neither does not pay for their libraries.
        if config.redis is not None:
            from cluster_agent.data.shared.redis import RedisStore

            self.redis = GuardedStore(RedisStore(config.redis))
        if config.objects is not None:
            from cluster_agent.data.shared.objects import ObjectStore

            self.objects = GuardedStore(ObjectStore(config.objects))
        self._stores = {store.place: store for store in (self.redis, self.objects) if store is not None}

    def __iter__(self) -> Iterator[SharedStore]:
        return iter(self._stores.values())

    def __bool__(self) -> bool:
        return bool(self._stores)

    def names(self) -> list[str]:
        """What they call themselves."""
        return list(self._stores)

    def get(self, place: str) -> SharedStore | None:
        """The place of that name, if it is one of ours."""
        return self._stores.get(place)

    def for_content(self, size: int) -> SharedStore | None:
        """Where a content of so many bytes goes."""
        return next((store for store in (self.redis, self.objects) if store is not None and size <= store.most), None)

    async def close(self) -> None:
        """Let go of all connections."""
        for store in self._stores.values():
            await store.close()
