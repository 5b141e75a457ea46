"""Which peers we dial, and where: those that are wanted and ours to dial, at the address that holds now.

    hub's directory ─▶ know ─┐
    something to say ─▶ want ├─▶ one task for each that keeps a stream open (see `client`)
    news of revocations ─────┘

Peers of which neither can dial the other are dialled over relays, one of two by the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from bdw_fed.v1.federation_pb2 import PeerDirectory
from cluster_agent.membership.revoked import Revoked
from cluster_agent.peer.client import Streams
from cluster_agent.peer.directory import relayed, to_dial
from cluster_agent.relay.doors import RelayDoors
from wire.identity import Credentials, Identity, Role

Dial = Callable[[Streams, Identity, str, Credentials], Coroutine[None, None, None]]


@dataclass(frozen=True)
class _Dialled:
    """Who is dialled where, and the task that does."""

    peer: Identity
    address: str
    task: asyncio.Task[None]


class Dialling:
    """`dial` keeps a stream open to an address; `doors` lead over relays."""

    def __init__(
        self, cluster: str, credentials: Credentials, revoked: Revoked, doors: RelayDoors | None, dial: Dial
    ) -> None:
        self._cluster = cluster
        self._credentials = credentials
        self._revoked = revoked
        self._doors = doors
        self._dial = dial
        self._addresses: dict[str, str] = {}
        self._wanted: dict[str, None] = {}
        self._dialled: dict[str, _Dialled] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._streams: Streams

    async def run(self, streams: Streams) -> None:
        """Keep the streams that we open, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._streams, self._tasks = streams, tasks
                self.look()
                await asyncio.Event().wait()
        finally:
            self._tasks = None

    def know(self, directory: PeerDirectory) -> None:
        """How the others are reached, as the hub says."""
        self._addresses = to_dial(self._cluster, directory)
        if self._doors is not None:
            over = relayed(directory)
            self._doors.know(over)
            # One of two dials, as between those that can both dial each other.
            self._addresses |= {peer: self._doors.address(peer) for peer in over if self._cluster < peer}
        self.look()

    def want(self, cluster: str) -> None:
        """From now on a stream is to be there."""
        if cluster not in self._wanted:
            self._wanted[cluster] = None
            self._look_at(cluster)

    def look(self) -> None:
        """Addresses may have changed, or what is revoked."""
        for cluster in self._wanted:
            self._look_at(cluster)

    def meant(self, cluster: str) -> Identity:
        """Who a peer must be: an earlier generation of its is revoked."""
        return Identity(Role.AGENT, cluster, self._revoked.revocations.valid_from(cluster))

    def over(self, cluster: str) -> str:
        """The relay over which a peer is reached; empty if it needs none."""
        return self._doors.over(cluster) if self._doors is not None else ""

    def _look_at(self, cluster: str) -> None:
        address, meant = self._addresses.get(cluster), self.meant(cluster)
        dialled = self._dialled.get(cluster)
        if dialled is not None and (dialled.peer, dialled.address) != (meant, address):
            self._dialled.pop(cluster).task.cancel()
            dialled = None
        if address and dialled is None and self._tasks is not None:
            work = self._dial(self._streams, meant, address, self._credentials)
            self._dialled[cluster] = _Dialled(meant, address, self._tasks.create_task(work, name=f"dial {cluster}"))
