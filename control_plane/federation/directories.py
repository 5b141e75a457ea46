"""Keeps the topologies at hand, and every connected agent's directory of its peers up to date.

A directory is computed anew when a topology, a gateway's address or a revocation has changed, and
sent where it differs from what the agent was told last in this session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from control_plane.federation.agents import Agents
from control_plane.federation.session import AgentSession
from control_plane.kinds import Kinds
from control_plane.membership.members import Members
from control_plane.models import models_imported
from control_plane.patience import persistently
from control_plane.store.base import Deleted, Listing, Stored
from control_plane.store.keys import Key

if TYPE_CHECKING:
    from control_plane.federation.directory import StoredTopology

_PAUSE_SECONDS = 0.02
_PAUSE_FACTOR = 4.0

_log = structlog.get_logger(__name__)


class Directories:
    """The topologies by key. `keep` and `push` are run by the hub as long as it lives.

    `taints` gives those that operators have put on a cluster, `quotas` those of namespaces, `people` who has which
    role; `changed` is told when that is otherwise.
    """

    def __init__(self, kinds: Kinds, agents: Agents, members: Members) -> None:
        self._kinds = kinds
        self._members = members
        self._agents = agents
        self._topologies: dict[Key, StoredTopology] = {}
        self._told: dict[AgentSession, bytes] = {}
        self._changed = asyncio.Event()
        self.taints: Callable[[str], Sequence[cp.ClusterTaint]] = lambda _: ()
        self.quotas: Callable[[], Sequence[f.StorageQuota]] = tuple
        self.people: Callable[[], Sequence[access_pb2.RoleBinding]] = tuple
        agents.changed = self._changed.set

    def topologies(self, namespace: str | None = None) -> list[StoredTopology]:
        """All topologies, or those of a namespace, by name."""
        return [
            self._topologies[key] for key in sorted(self._topologies) if namespace is None or key.names[0] == namespace
        ]

    def relays(self) -> set[str]:
        """The names of all relays of all topologies."""
        return {relay.name for stored in self._topologies.values() for relay in stored.topology.spec.relays}

    def declares(self, cluster: str, node: str) -> bool:
        """Whether a topology has this node."""
        found = (stored.questions.clusters.get(cluster) for stored in self._topologies.values())
        return any(node == declared.name for each in found if each is not None for declared in each.nodes)

    async def load(self) -> Listing[cp.Object]:
        """Read all topologies. Returns what `keep` goes on from."""
        listing = await persistently(self._kinds.objects["Topology"].list, None)
        if listing.items:
            await models_imported()
        for stored in listing.items:
            self._take(stored)
        return listing

    async def keep(self, listing: Listing[cp.Object]) -> None:
        """Follow the topologies in the store."""
        async with self._kinds.objects["Topology"].watch(after=listing) as watch:
            async for news in watch:
                await models_imported()
                for event in news.events:
                    if isinstance(event, Deleted):
                        self._topologies.pop(event.key, None)
                    else:
                        self._take(event)
                self._changed.set()

    async def push(self) -> None:
        """Tell the agents what has changed for them.

        Each change concerns everybody, so when a thousand agents connect at once their changes are gathered: between
        two rounds passes some time, several times as long as a round takes.
        """
        clock = asyncio.get_running_loop().time
        while True:
            await self._changed.wait()
            self._changed.clear()
            begun = clock()
            gateways = self._agents.gateways()
            sessions = self._agents.connected()
            self._told = {session: told for session, told in self._told.items() if session in sessions}
            for session in sessions:
                fresh = self._directory(session.cluster, gateways)
                raw = fresh.SerializeToString(deterministic=True)
                if self._told.get(session) != raw:
                    self._told[session] = raw
                    session.send_peers(fresh)
                await asyncio.sleep(0)  # others have their turn: a round may be long
            await asyncio.sleep(max(_PAUSE_SECONDS, _PAUSE_FACTOR * (clock() - begun)))

    def _directory(self, cluster: str, gateways: Mapping[str, str]) -> f.PeerDirectory:
        found = f.PeerDirectory(revocations=self._members.signed())
        if self._topologies:  # the models, which take long to import, are not needed before
            from control_plane.federation.directory import directory

            found = directory(cluster, self.topologies(), gateways, self._members.signed(), self.taints(cluster))
        found.people.extend(self.people())
        found.quotas.extend(self.quotas())
        return found

    def changed(self) -> None:
        """Something that the agents are told may be other now."""
        self._changed.set()

    def _take(self, stored: Stored[cp.Object]) -> None:
        from control_plane.federation.directory import StoredTopology
        from topology.model import Topology
        from workflow.canonical import from_canonical

        try:
            model = from_canonical(stored.value.spec_json)
        except ValueError as error:
            _log.error("a stored topology can't be read", key=str(stored.key), error=str(error))
            return
        if isinstance(model, Topology):
            self._topologies[stored.key] = StoredTopology.of(model, stored.value.revision)
