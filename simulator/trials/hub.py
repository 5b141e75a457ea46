"""A hub as a simulated process: the production hub, without its gRPC server, over the played etcd.

    agents ─ played streams ─▶ FederationService ─▶ Hub ◀─ played streams ─ other hubs

Who calls is who the network says; the signature of the authority is played.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from bdw_fed.v1 import hub_pb2 as h
from bdw_fed.v1 import model_pb2 as m
from control_plane.config import HubConfig
from control_plane.federation.service import FederationService
from control_plane.hubs.fellows import Fellows, Line
from control_plane.hubs.service import hear
from control_plane.kinds import Kinds
from control_plane.server import Hub
from control_plane.store.repository import Store
from simulator.trials.loop import Process
from simulator.trials.network import Network
from simulator.trials.store import EtcdClient, Reach
from simulator.trials.streams import End, sending
from wire.identity import Credentials, Identity, Role
from wire.identity.authority import Authority

if TYPE_CHECKING:
    from bdw_fed.v1.hub_pb2_grpc import HubServiceAsyncStub

CREDENTIALS = Credentials.at(Path("nowhere"))  # the network is played, and nobody proves who they are


Knows = Callable[[Iterable[str]], None]


class PlayedAuthority:
    """Signs what the hub says of revocations and of epochs."""

    def sign(self, statement: bytes) -> bytes:
        """A signature that nobody here could forge, for nobody tries."""
        return hashlib.blake2b(statement, key=b"authority").digest()


def played_table(namespace: str, run: str, revision: int, epochs: Mapping[str, int]) -> m.SignedEpochs:
    """See wire.epochs."""
    table = m.EpochTable(namespace=namespace, run=run, revision=revision, epochs=epochs).SerializeToString()
    return m.SignedEpochs(table=table, signature=PlayedAuthority().sign(table))


class SimulatedHub:
    """One life of a hub. `state`: a directory for blobs, of which there are none; `knows` hears of what is revoked."""

    def __init__(
        self, process: Process, network: Network, reach: Reach, state: Path, random: Random, knows: Knows
    ) -> None:
        self._process = process
        self._network = network
        self._random = random
        config = HubConfig(
            state=state,
            etcd=["etcd"],
            etcd_credentials=CREDENTIALS,
            credentials=CREDENTIALS,
            listen="",
            hub_id=random.randbytes(16),
        )
        self.kinds = Kinds(Store(EtcdClient(reach, random)))
        self.hub = Hub(config, self.kinds)
        agents, members = self.hub._agents, self.hub._members
        members._authority = cast(Authority, PlayedAuthority())
        self.hub._replacements._sign = played_table
        self._knows, self._cut_off = knows, members.revoked
        members.revoked = self._revoked
        agents.fellows = Fellows(config.hub_id, CREDENTIALS, agents._ours, lambda address, _: self._line(address))
        self._service = _Service(agents, self.hub._blobs, members, self.hub._joining)
        self.ready = False

    async def main(self) -> None:
        """Until it is killed."""
        async with asyncio.TaskGroup() as group:
            await self.hub.begin(group)
            self._knows(self.hub._members.revocations.known())
            self._network.serve(self._process, "session", self._session)
            self._network.serve(self._process, "tell", self._told)
            group.create_task(self.hub._hubs.stand(self._process.name, self._process.name))
            self.ready = True
            await asyncio.Event().wait()

    def _revoked(self, cluster: str) -> None:
        self._knows([cluster])
        self._cut_off(cluster)

    async def _session(self, end: End) -> None:
        await self._service.Session(end, cast(Any, end))

    async def _told(self, end: End) -> None:
        await hear(self.hub._agents, end)

    def _line(self, address: str) -> Line:
        async def close() -> None:
            pass

        return Line(cast("HubServiceAsyncStub", _OtherHub(self._process, self._network, address)), close)


class _OtherHub:
    """The service of another hub, of which a hub in a trial uses one call."""

    def __init__(self, process: Process, network: Network, address: str) -> None:
        self._process = process
        self._network = network
        self._address = address

    async def Tell(self, news: AsyncIterator[h.TellRequest]) -> None:
        end = await self._network.dial(self._process, self._address, "tell")
        async with sending(end, news):
            await end.read()


class _Service(FederationService):
    """The service for agents, which are who they say."""

    async def _caller(self, context: Any, *_: Role) -> Identity:
        return Identity(Role.AGENT, context.there.removeprefix("agent/"))
