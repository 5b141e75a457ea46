"""The door at which others fetch what this node has, and push what it expects: where it is, and who is let in.

others ─▶ our port, or a relay at which we stand ─▶ DataServer ─▶ store, arrivals
the agent's welcome ─▶ who is revoked, which clusters are trusted, which relays there are
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from bdw_fed.v1 import node_pb2
from cluster_agent.data.store import DiskStore
from cluster_agent.data.transfer.arrivals import Arrivals
from cluster_agent.data.transfer.readers import Readers
from cluster_agent.data.transfer.server import DataServer
from cluster_agent.node import revoked
from cluster_agent.node.config import NodeConfig
from cluster_agent.relay.dialling import Routes, relays_of
from cluster_agent.relay.standing import Standing
from wire.identity import Identity, Role, reload, ssl_server_context
from wire.identity.revocations import Revocations

if TYPE_CHECKING:
    import ssl


class Door:
    """The node's data server with all that it must know. `client_context` is that of the connections that we dial,
    which lead over `routes`."""

    def __init__(
        self,
        config: NodeConfig,
        store: DiskStore,
        arrivals: Arrivals,
        client_context: ssl.SSLContext,
        routes: Routes,
        revocations: Revocations,
    ) -> None:
        self.address = ""  # where others find it, once it is open
        self.readers = Readers(config.cluster, config.credentials.ca)
        self._config = config
        self._revocations = revocations
        server_context = ssl_server_context(config.credentials)
        self._contexts = (server_context, client_context)
        self._server = DataServer(store, arrivals, server_context, self.readers, self._revocations, config.plain_port)
        self._routes = routes
        self._standing = Standing(routes, self._may_call, self._server.let_in)

    async def open(self) -> None:
        """Serve data. OSError if the address is taken."""
        host, _, port = self._config.listen_data.rpartition(":")
        bound = await self._server.start(host.strip("[]"), int(port))
        self.address = self._config.advertise_data or f"{_reachable(host, self._config.agent)}:{bound}"

    async def welcomed(self, welcome: node_pb2.NodeWelcome) -> None:
        """Take in what the agent tells of others."""
        revoked.learn(self._config.state / revoked.FILE, self._revocations, welcome.revocations)
        await self._server.trust(frozenset(welcome.trusted))
        self._routes.know({each.cluster: relays_of(each.relays) for each in welcome.relayed})
        self._standing.know(self._routes.relays)

    def renewed(self) -> None:
        """Our certificate is another: connections from now on show it, from and to other nodes."""
        for context in self._contexts:
            reload(context, self._config.credentials)

    async def close(self) -> None:
        """Let nobody in any more."""
        await self._standing.close()
        await self._server.stop()

    def _may_call(self, caller: Identity) -> bool:
        known = caller.role is Role.NODE and self._routes.leads_to(caller.cluster)
        return known and not self._revocations.refusal(caller)


def _reachable(host: str, agent: str) -> str:
    """The address that others dial: the one we listen on, or where that is any, the one that the agent sees us by."""
    if host.strip("[]") not in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return host
    agent_host, _, agent_port = agent.rpartition(":")
    try:
        family = socket.getaddrinfo(agent_host.strip("[]"), int(agent_port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family[0], socket.SOCK_DGRAM) as probe:
            probe.connect(family[4])  # chooses a route; sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
