"""What the agent tells the hub of its cluster every few seconds: nodes, pools, links, what it stores and measures."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress

from bdw_fed.v1.control_plane_pb2 import ClusterStatus, NodeStatus
from bdw_fed.v1.federation_pb2 import Heartbeat
from bdw_fed.v1.model_pb2 import DESIRED_STATE_RESERVED
from cluster_agent.coordinator.ports import Core
from cluster_agent.peer.peers import Peers


class Heartbeats:
    """`nodes` says how they are; `gateway` is where peers dial us."""

    def __init__(
        self, cluster: str, version: str, core: Core, peers: Peers, nodes: Callable[[], list[NodeStatus]], gateway: str
    ) -> None:
        self._cluster = cluster
        self._version = version
        self._core = core
        self._peers = peers
        self._nodes = nodes
        self._gateway = gateway
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """The next one is due at once."""
        self._changed.set()

    async def beat(self, seconds: float, tell: Callable[[Heartbeat], None]) -> None:
        """Tell one now and then every so many seconds, until cancelled."""
        while True:
            self._changed.clear()
            tell(Heartbeat(status=self._status(), wall_clock=time.time()))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):  # wait_for of Python 3.11 may swallow a cancellation
                    await self._changed.wait()

    def _status(self) -> ClusterStatus:
        links, steps = self._core.measured()
        return ClusterStatus(
            name=self._cluster,
            state="ready",
            version=self._version,
            nodes=self._nodes(),
            runs=sum(desired != DESIRED_STATE_RESERVED for _, _, _, desired in self._core.inventory()),
            held=self._core.reserved(),
            gateway_address=self._gateway,
            pid=os.getpid(),
            pools=self._core.pools(),
            links=links,
            steps=steps,
            peers=self._peers.paths(),
            stored=self._core.stored(),
        )
