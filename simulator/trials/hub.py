"""A hub as a simulated process: the production hub, without its gRPC server, over the played etcd."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from bdw_fed.v1 import federation_pb2 as f
from control_plane.kinds import Kinds
from control_plane.server import Hub, HubConfig
from control_plane.store.repository import Store
from simulator.trials.etcd import Etcd, EtcdClient
from simulator.trials.loop import Process
from simulator.trials.network import End, Network
from wire.identity import Credentials, Identity, Role

NAME = "hub"
CREDENTIALS = Credentials.at(Path("nowhere"))  # the network is played, and nobody proves who they are


class SimulatedHub:
    """One life of the hub. `state`: a directory for blobs, of which there are none."""

    def __init__(self, process: Process, network: Network, etcd: Etcd, state: Path, random: Random) -> None:
        self._process = process
        self._network = network
        config = HubConfig(
            state=state,
            etcd=["etcd"],
            etcd_credentials=CREDENTIALS,
            credentials=CREDENTIALS,
            listen="",
            hub_id=random.randbytes(16),
        )
        self.kinds = Kinds(Store(EtcdClient(etcd, random)))
        self.hub = Hub(config, self.kinds)
        self.ready = False

    async def main(self) -> None:
        """Until it is killed."""
        async with asyncio.TaskGroup() as group:
            await self.hub.begin(group)
            self._network.serve(self._process, "session", self._session)
            self.ready = True
            await asyncio.Event().wait()

    async def _session(self, end: End) -> None:
        first = await end.read()
        if isinstance(first, f.SessionRequest) and first.HasField("hello"):
            identity = Identity(Role.AGENT, first.hello.cluster)
            await self.hub._agents.serve(first.hello, identity, end, first.hello.protocol)
