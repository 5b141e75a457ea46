"""Which hubs live: each has a key under a lease, and follows the keys of the others.

A hub that dies keeps no lease alive, so within seconds its key is gone and with it, for all others, the sessions that
it had. One that was only cut off from etcd for so long makes its key again when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from bdw_fed.v1 import store_pb2 as s
from control_plane.kinds import Kinds, writing
from control_plane.mirror import Mirror
from control_plane.patience import persistently
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError

_LEASE_SECONDS = 6.0
_AGAIN_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class LivingHubs(Mirror[s.HubRecord]):
    """The hubs by their ids. `keep` and `stand` are run by the hub as long as it lives; `changed` hears of changes."""

    def __init__(self, kinds: Kinds, hub_id: bytes, lease_seconds: float = _LEASE_SECONDS) -> None:
        super().__init__(kinds.hubs)
        self._kinds = kinds
        self._lease_seconds = lease_seconds
        self.own_id = hub_id

    def others(self) -> Mapping[bytes, s.HubRecord]:
        """All that live, apart from this one."""
        hubs = [stored.value for stored in self._stored.values()]
        return {hub.hub_id: hub for hub in hubs if hub.hub_id != self.own_id}

    async def stand(self, name: str, address: str) -> None:
        """Be one of them, as long as this is not cancelled."""
        own = s.HubRecord(hub_id=self.own_id, name=name, address=address)
        key = self._kinds.hubs.key(self.own_id.hex())
        while True:
            try:
                async with self._kinds.lease(self._lease_seconds) as lease:

                    async def attempt(lease_id: int = lease.id) -> None:
                        before = await self._kinds.hubs.get(key)
                        await self._kinds.commit([writing(self._kinds.hubs, key, before, own, lease=lease_id)])

                    await persistently(attempt, self._lease_seconds)
                    await lease.lost.wait()
            except (EtcdError, StoreError) as error:
                _log.info("the other hubs can't be told that this one lives", error=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)
