"""Relays, played: the ways between clusters of which neither can dial the other.

    Peers ─ address ─▶ keep ─▶ PlayedDoors ─ the production choice of a relay ─▶ a stream by way of that relay

A relay passes what is said and knows nothing, so all that can be played of it is whether it is there.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import cast

import grpc.aio

from bdw_fed.v1.membership_pb2 import SignedRevocations
from cluster_agent.relay import messages as say
from cluster_agent.relay.dialling import Relay, Routes
from simulator.trials.loop import Process
from simulator.trials.network import Network
from simulator.trials.streams import End, broken
from wire.identity import Identity

_OVER = "over/"


def relay_name(name: str) -> str:
    """The place of a relay in the network."""
    return f"relay/{name}"


class PlayedDoors:
    """An agent's ways over relays, as `Peers` uses them (see `RelayDoors`)."""

    def __init__(self, process: Process, network: Network) -> None:
        self._routes = _Routes(process, network)

    def know(self, relays: Mapping[str, tuple[Relay, ...]]) -> None:
        """These are all clusters that are reached over relays."""
        self._routes.know(relays)

    def address(self, cluster: str) -> str:
        """Where to dial the agent of a cluster."""
        return _OVER + cluster

    def over(self, cluster: str) -> str:
        """The relay over which a cluster is reached."""
        return self._routes.now(cluster)

    def revoke(self, signed: SignedRevocations) -> None:
        """Relays are not told: whoever is spoken to looks at the certificate as well."""

    async def dial(self, peer: Identity) -> End:
        """A stream to a peer, over the first relay that works."""
        try:
            return cast(End, await self._routes.dial(peer))
        except OSError as error:
            raise broken(str(error)) from error


def is_over(address: str) -> bool:
    """Whether an address is one that `PlayedDoors` gave."""
    return address.startswith(_OVER)


class _Routes(Routes):
    """The production choice, whose sockets are streams of the played network."""

    def __init__(self, process: Process, network: Network) -> None:
        super().__init__(lambda: cast(ssl.SSLContext, None))
        self._process = process
        self._network = network

    async def _through(self, relay: Relay, first: say.FromMember) -> socket.socket:
        assert isinstance(first, say.Dial)
        agent = f"agent/{Identity.parse(first.to).cluster}"
        try:
            end = await self._network.dial(self._process, agent, "exchange", via=relay_name(relay.name))
        except grpc.aio.AioRpcError as error:
            raise OSError(error.details()) from error
        return cast(socket.socket, end)


class SimulatedRelay:
    """One life of a relay."""

    def __init__(self, process: Process, network: Network) -> None:
        network.serve(process, "relay", self._nobody)

    async def main(self) -> None:
        """Until it is killed."""
        await asyncio.Event().wait()

    async def _nobody(self, end: End) -> None:
        raise AssertionError(f"{end.there} speaks to a relay, which only passes words on")
