"""The agent: one process for each cluster, which wires its parts together and starts and stops them in order.

    log ─▶ core ◀─ driver ─▶ nodes' door, peers' sessions, link to the hub, event bus

Start: the log is opened and replayed, the doors are opened, `ready` is called with their addresses; then nodes, peers
and hub come as they like, for nothing here waits for any of them. Stop: the doors close, the driver commits what it
has, the log is closed. If the log can't be written all ends with that error: what isn't logged must not be said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import grpc
import grpc.aio
import structlog

from bdw_fed.v1.control_plane_pb2_grpc import add_ControlPlaneServiceServicer_to_server
from bdw_fed.v1.federation_pb2 import PeerDirectory
from bdw_fed.v1.membership_pb2_grpc import add_JoinServiceServicer_to_server
from bdw_fed.v1.node_pb2_grpc import add_NodeServiceServicer_to_server
from bdw_fed.v1.peer_pb2_grpc import add_PeerServiceServicer_to_server
from cluster_agent.bundles import BundleCache
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.driver import LAMPORT, Driver
from cluster_agent.coordinator.intake import Intake
from cluster_agent.events import EventBus
from cluster_agent.link.hub import HubLink, LinkConfig
from cluster_agent.link.incoming import DIRECTORY
from cluster_agent.log import CoordinatorLog, LogError
from cluster_agent.membership.door import NodeJoinDoor
from cluster_agent.membership.node_token import NodeToken
from cluster_agent.membership.renewal import Renewal
from cluster_agent.membership.revoked import REVOKED, Revoked
from cluster_agent.nodes.door import NodeDoor
from cluster_agent.peer.peers import Peers
from cluster_agent.peer.server import PeerDoor
from cluster_agent.people.door import PeopleDoor
from cluster_agent.people.roles import Roles
from cluster_agent.relay.doors import RelayDoors
from wire.identity import (
    Credentials,
    grpc_open_credentials,
    grpc_server_credentials,
    join_server_options,
    server_options,
)
from wire.service import allow_many_files

_JOINS_AT_A_TIME = 64
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class AgentConfig:
    """What an agent is told at its start. Addresses are "host:port"; port 0 takes a free one.

    `hub` lists the hub's addresses, of which any will do. `data_root` is the directory against which the paths of
    datasets are resolved on the cluster's nodes. `durability` is process or power. `advertise_peers` is where other
    clusters dial this one, if that differs from where it listens. At `listen_join` nodes without a certificate get one
    for the node token in the file `node_token` (default: one in `state`); empty: nowhere. `cache`: bytes of tasks'
    results that are kept for other runs.
    """

    cluster: str
    state: Path
    hub: list[str]
    credentials: Credentials
    listen_nodes: str
    listen_peers: str
    data_root: Path
    durability: str = "process"
    advertise_peers: str = ""
    listen_join: str = ""
    node_token: Path | None = None
    cache: int = Policy().cache_bytes


async def serve(config: AgentConfig, ready: Callable[[dict[str, str]], None], stop: asyncio.Event) -> None:
    """Run the agent until `stop` is set. `ready` gets the addresses of its doors: nodes, peers and join."""
    allow_many_files()
    log = CoordinatorLog.open(config.state, durability=config.durability)
    try:
        await _serve(config, log, ready, stop)
    except* LogError as errors:
        raise errors.exceptions[0] from None
    finally:
        log.close()


async def _serve(
    config: AgentConfig, log: CoordinatorLog, ready: Callable[[dict[str, str]], None], stop: asyncio.Event
) -> None:
    cluster = config.cluster
    core = Coordinator(cluster, Policy(cache_bytes=config.cache))
    intake = Intake()
    bus = EventBus(cluster, log.log_id, lamport=int.from_bytes(log.meta(LAMPORT) or b"", "big"))
    link = HubLink(LinkConfig(cluster, config.hub, config.credentials, version("bdw-fed")), core, log, intake, bus)
    bundles = BundleCache(config.state / "bundles", link.calls.pull_bundle)
    revoked = Revoked(config.credentials, intake, log.meta(REVOKED))

    async def certify(request: bytes, node: str) -> bytes:
        return await link.calls.certify(request, node, revoked.revocations.valid_from(f"{cluster}/{node}"))

    nodes = NodeDoor(
        cluster,
        intake,
        bundles,
        revoked,
        certify,
        data_root=str(config.data_root),
        durability=config.durability,
        changed=link.nodes_changed,
    )
    servers = node_server, peer_server = [grpc.aio.server(options=server_options()) for _ in range(2)]
    addresses = {
        "nodes": _bind(node_server, config.listen_nodes, config, grpc_server_credentials(config.credentials)),
        "peers": _bind(peer_server, config.listen_peers, config, grpc_server_credentials(config.credentials)),
    }
    doors = RelayDoors(config.credentials, addresses["peers"], revoked.refusal)
    doors.revoke(revoked.signed)
    revoked.listeners.append(lambda _: doors.revoke(revoked.signed))
    roles = Roles()

    def learned(directory: PeerDirectory) -> None:
        nodes.directory(directory)
        roles.learn(directory.people)

    peers = Peers(cluster, log, intake, bus, config.credentials, link.relay, revoked, learned, doors)
    driver = Driver(core, log, intake, bus, nodes, peers, link, link, durability=config.durability)
    renewal = Renewal(config.credentials, link.calls.certify)

    def told_renewal(seconds: float) -> None:
        renewal.told(seconds)
        nodes.told_renewal(seconds)

    link.told_renewal = told_renewal
    driver.start()
    if (known := log.meta(DIRECTORY)) is not None:
        peers.directory(PeerDirectory.FromString(known))

    add_NodeServiceServicer_to_server(nodes, node_server)
    add_PeerServiceServicer_to_server(PeerDoor(cluster, peers), peer_server)
    people = PeopleDoor(cluster, core, intake, bus, nodes.logs, roles)  # type: ignore[abstract]
    add_ControlPlaneServiceServicer_to_server(people, peer_server)
    if config.listen_join:
        servers.append(_join_server(config, revoked, certify, addresses))
    link.connect(peers, bundles, nodes.logs, nodes.statuses, config.advertise_peers or addresses["peers"])

    async with doors, asyncio.TaskGroup() as tasks:
        driving = tasks.create_task(driver.run(), name="driver")
        async with _open_doors(*servers):
            talking = [
                tasks.create_task(peers.run(), name="peers"),
                tasks.create_task(link.run(), name="link"),
                tasks.create_task(renewal.run(), name="renewal"),
            ]
            _log.info("the agent is ready", cluster=cluster, **addresses)
            ready(addresses)
            await stop.wait()
        for task in talking:
            task.cancel()
        await asyncio.wait(talking)
        await bundles.close()
        driver.stop()
        await driving


def _join_server(
    config: AgentConfig,
    revoked: Revoked,
    certify: Callable[[bytes, str], Awaitable[bytes]],
    addresses: dict[str, str],
) -> grpc.aio.Server:
    """The door for nodes that have no certificate yet."""
    server = grpc.aio.server(options=join_server_options(), maximum_concurrent_rpcs=_JOINS_AT_A_TIME)
    token = NodeToken(config.state, config.node_token, config.credentials)
    token.settle(revoked.revocations.nodes_of(config.cluster))
    revoked.listeners.append(lambda _: token.heard(revoked.revocations.nodes_of(config.cluster)))
    door = NodeJoinDoor(config.cluster, token, config.credentials, certify)
    add_JoinServiceServicer_to_server(door, server)
    addresses["join"] = _bind(server, config.listen_join, config, grpc_open_credentials(config.credentials))
    return server


def _bind(server: grpc.aio.Server, listen: str, config: AgentConfig, credentials: grpc.ServerCredentials) -> str:
    """Open a door; returns its address. OSError if the address is taken."""
    try:
        port = server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise OSError(f"agent {config.cluster} can't listen on {listen}: is the address taken?") from error
    return f"{listen.rpartition(':')[0]}:{port}"


@asynccontextmanager
async def _open_doors(*servers: grpc.aio.Server) -> AsyncIterator[None]:
    try:
        for server in servers:
            await server.start()
        yield
    finally:
        await asyncio.gather(*(server.stop(None) for server in servers))
