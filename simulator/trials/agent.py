"""An agent as a simulated process: the production core, driver, log, sessions and doors, wired as the agent wires them.

What is played is below them: the streams of gRPC, the database's file, and bundles, which no trial has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from bdw_fed.v1.federation_pb2 import PeerDirectory
from bdw_fed.v1.membership_pb2 import RevocationList, SignedRevocations
from bdw_fed.v1.model_pb2 import SignedEpochs
from bdw_fed.v1.peer_pb2 import ExchangeRequest, ExchangeResponse
from cluster_agent.bundles import BundleCache
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.driver import LAMPORT, Driver
from cluster_agent.coordinator.intake import Intake
from cluster_agent.events import EventBus
from cluster_agent.link.hub import HubLink, LinkConfig
from cluster_agent.link.incoming import DIRECTORY
from cluster_agent.membership.revoked import REVOKED, Revoked
from cluster_agent.nodes.door import NodeDoor
from cluster_agent.peer.client import Exchange, Streams, keep
from cluster_agent.peer.peers import Peers
from cluster_agent.peer.server import PeerDoor
from cluster_agent.relay.doors import RelayDoors
from simulator.trials.disk import LogDisk
from simulator.trials.hub import CREDENTIALS, PlayedAuthority
from simulator.trials.loop import Process
from simulator.trials.network import Network
from simulator.trials.relays import PlayedDoors, is_over
from simulator.trials.streams import End, broken, sending
from wire.identity import Credentials, Identity, Role
from wire.identity.revocations import Revocations, as_mapping

if TYPE_CHECKING:
    from bdw_fed.v1.federation_pb2_grpc import FederationServiceAsyncStub

MakeCore = Callable[[str, Policy], Coordinator]


def agent_name(cluster: str) -> str:
    """The place of a cluster's agent in the network."""
    return f"agent/{cluster}"


class SimulatedAgent:
    """One life of an agent."""

    def __init__(
        self,
        process: Process,
        network: Network,
        cluster: str,
        hubs: Sequence[str],
        disk: LogDisk,
        make_core: MakeCore,
        *,
        durability: str,
    ) -> None:
        self.cluster = cluster
        self._process = process
        self._network = network
        self._durability = durability
        log = disk.open()
        self.core = make_core(cluster, Policy())
        intake = Intake()
        bus = EventBus(cluster, log.log_id, lamport=int.from_bytes(log.meta(LAMPORT) or b"", "big"))
        config = LinkConfig(cluster, hubs, CREDENTIALS, "simulated")
        self.link = _Link(config, self.core, log, intake, bus, process, network)
        bundles = cast(BundleCache, _NoBundles())
        self.revoked = revoked = _Revoked(intake, log.meta(REVOKED))
        self._doors = PlayedDoors(process, network)
        self.nodes = _NodeDoor(
            cluster,
            intake,
            bundles,
            revoked,
            self.link.calls.certify,
            data_root="/",
            durability=durability,
            changed=self.link.nodes_changed,
        )
        self.peers = _Peers(
            cluster,
            log,
            intake,
            bus,
            CREDENTIALS,
            self.link.relay,
            revoked,
            self.nodes.directory,
            cast(RelayDoors, self._doors),
            self._dial,
        )
        self._door = _PeerDoor(cluster, self.peers)
        self.driver = Driver(
            self.core, log, intake, bus, self.nodes, self.peers, self.link, self.link, durability=durability
        )
        self.log = log
        self.intake = intake
        self.link.connect(self.peers, bundles, self.nodes.logs, self.nodes.statuses, agent_name(cluster))

    async def main(self) -> None:
        """Until it is killed, or its log can't be written."""
        self.driver.start()
        if (known := self.log.meta(DIRECTORY)) is not None:
            self.peers.directory(PeerDirectory.FromString(known))
        self._network.serve(self._process, "attach", self._attach)
        self._network.serve(self._process, "exchange", self._exchange)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.driver.run())
            tasks.create_task(self.peers.run())
            tasks.create_task(self.link.run())

    def unheard(self) -> list[str]:
        """Who has not acknowledged all that was said to it."""
        sessions = {name: peer.session.unacked for name, peer in self.peers._peers.items()}
        sessions["the hub"] = self.link._out.session.unacked
        return [name for name, unacked in sessions.items() if unacked]

    async def _attach(self, end: End) -> None:
        await self.nodes.Attach(end, cast(Any, end))

    async def _exchange(self, end: End) -> None:
        await self._door.Exchange(end, cast(Any, end))

    async def _dial(self, streams: Streams, peer: Identity, address: str, _credentials: Credentials) -> None:
        await keep(streams, peer.cluster, address, lambda: self._connected(peer, address))

    @asynccontextmanager
    async def _connected(self, peer: Identity, address: str) -> AsyncIterator[Exchange]:
        async def exchange(requests: AsyncIterator[ExchangeRequest]) -> AsyncIterator[ExchangeResponse]:
            if peer.generation:
                raise broken("its certificate is not of the generation that is expected: nobody joins again")
            if is_over(address):
                end = await self._doors.dial(peer)
            else:
                end = await self._network.dial(self._process, address, "exchange")
            async with sending(end, requests):
                async for response in end:
                    yield response

        yield exchange


class _Link(HubLink):
    """The link to the hub, over the played network."""

    def __init__(self, *arguments: Any) -> None:
        *own, self._process, self._network = arguments
        super().__init__(*own)

    @asynccontextmanager
    async def _service_at(self, address: str) -> AsyncIterator[FederationServiceAsyncStub]:
        end = await self._network.dial(self._process, address, "session")
        try:
            yield cast("FederationServiceAsyncStub", _Service(end))
        finally:
            end.cancel()


class _Service:
    """The hub's service, of which one session is opened."""

    def __init__(self, end: End) -> None:
        self._end = end

    def Session(self) -> End:
        return self._end


class _NodeDoor(NodeDoor):
    """The door for nodes, which are who they say."""

    async def _identity_of(self, context: Any) -> Identity:
        return Identity(Role.NODE, context.there.removeprefix("node/"))


class _PeerDoor(PeerDoor):
    """The door for peers, which are who they say."""

    async def _caller(self, context: Any) -> Identity:
        return Identity(Role.AGENT, context.there.removeprefix("agent/"))


class _Peers(Peers):
    """Believes what the played authority has signed."""

    def _is_signed(self, _cluster: str, shown: SignedEpochs) -> bool:
        return shown.signature == PlayedAuthority().sign(shown.table)


class _Revoked(Revoked):
    """What is known of revocations, which the played authority has signed. No certificate is of a later generation."""

    def __init__(self, intake: Intake, kept: bytes | None) -> None:
        self._intake = intake
        self.revocations = Revocations()
        self.listeners = []
        self.signed = SignedRevocations()
        if kept is not None:
            self.signed = SignedRevocations.FromString(kept)
            self.revocations.learn(self._believed(self.signed) or {})

    def _believed(self, signed: SignedRevocations) -> dict[str, int] | None:
        if signed.signature != PlayedAuthority().sign(signed.list):
            return None
        return as_mapping(RevocationList.FromString(signed.list).revocations)


class _NoBundles:
    """No trial has steps with code."""

    def expect(self, _namespace: str, _digest: bytes) -> None:
        pass
