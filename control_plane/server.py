"""The hub as a service: everything it is made of, in the order in which it starts and stops.

    etcd ◀─ kinds ◀─ runs ◀─ board, feed, agents, directories ◀─ two gRPC services ◀─ people, agents

All state that matters is in etcd and among the blobs; what is in memory is read from there at the start or told again
by the agents. So a hub may be killed at any moment, and while etcd is away the hub stays: streams live on, reads are
answered as far as they can be, and writes wait.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import structlog

from bdw_fed.v1.control_plane_pb2_grpc import add_ControlPlaneServiceServicer_to_server
from bdw_fed.v1.federation_pb2_grpc import add_FederationServiceServicer_to_server
from control_plane.api.objects import Objects
from control_plane.api.service import ControlPlaneService
from control_plane.api.submitting import Submissions
from control_plane.blobs.collecting import collect
from control_plane.blobs.directory import DirectoryBlobs
from control_plane.federation.absent import give_up_on_absent
from control_plane.federation.agents import Agents
from control_plane.federation.directories import Directories
from control_plane.federation.feed import Feed
from control_plane.federation.intake import Intake
from control_plane.federation.service import FederationService
from control_plane.kinds import Kinds
from control_plane.models import models_imported
from control_plane.patience import persistently
from control_plane.reservations.driver import Reservations
from control_plane.runs.board import Board
from control_plane.runs.driver import Runs
from control_plane.runs.expiry import expire
from control_plane.runs.measuring import Measurements
from control_plane.store.etcd.client import Client, Config, Tls
from control_plane.store.repository import Store
from wire.identity import Credentials, grpc_server_credentials, server_options

VERSION = "0.1.0"
_GRACE_SECONDS = 0.5

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HubConfig:
    """Where the hub keeps its blobs, where etcd is, who it is, where it serves (port 0: a free one)."""

    state: Path
    etcd: list[str]
    etcd_credentials: Credentials
    credentials: Credentials
    listen: str
    etcd_name: str = ""  # in etcd's certificate, where it is not the endpoint's host
    name: str = "hub"
    heartbeat: float = 2.0  # seconds between the agents' heartbeats
    keep_ended: float = 7 * 86400.0  # seconds after which an ended run is deleted
    hold: float = 10.0  # seconds that clusters hold slots for a run that is not committed
    settle: bool = False  # etcd is the embedded one, whose acknowledgements come early
    hub_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))  # of this process


async def serve(config: HubConfig, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set; `ready` is told the address once agents and people can connect.

    Raises OSError where the address can't be bound, and RuntimeError where a part of the hub has broken.
    """
    tls = Tls(
        ca=config.etcd_credentials.ca,
        certificate=config.etcd_credentials.certificate,
        key=config.etcd_credentials.key,
        server_name=config.etcd_name,
    )
    async with Client(Config(tuple(config.etcd), tls, settle=config.settle)) as client:
        hub = Hub(config, Kinds(Store(client)))
        async with asyncio.TaskGroup() as group:
            server, address = await hub.start(group)
            try:
                ready(address)
                await stop.wait()
            finally:
                hub.end_sessions()
                await server.stop(_GRACE_SECONDS)
                hub.end()


class Hub:
    """The parts of a hub, and the tasks that keep them going."""

    def __init__(self, config: HubConfig, kinds: Kinds) -> None:
        self._config = config
        self._blobs = DirectoryBlobs(config.state / "blobs")
        self._runs = Runs(kinds)
        self._board = Board(kinds, self._runs)
        self._measurements = Measurements(kinds)
        self._board.ended = self._measurements.ended
        self._feed = Feed(kinds)
        self._intake = Intake(kinds, self._runs)
        self._agents = Agents(
            self._intake,
            self._board,
            self._feed,
            hub_id=config.hub_id,
            version=VERSION,
            heartbeat=config.heartbeat,
        )
        self._directories = Directories(kinds, self._agents)
        self._submissions = Submissions(kinds, self._runs, self._blobs, self._agents.statuses)
        self._reservations = Reservations(self._runs, self._submissions.again, config.hold)
        self._board.taken = self._reservations.run_seen
        self._board.dropped = self._reservations.run_gone
        self._intake.roomier = self._reservations.roomier
        self._kinds = kinds
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, group: asyncio.TaskGroup) -> tuple[grpc.aio.Server, str]:
        """Read what is stored, begin to follow it, open the door. Returns the server and its address."""
        runs, fragments, topologies, _ = await asyncio.gather(
            self._board.load(), self._feed.load(), self._directories.load(), self._agents.load()
        )
        for part in (
            self._board.keep(runs),
            self._board.flush(),
            self._measurements.keep(),
            self._reservations.keep(),
            self._feed.keep(fragments),
            self._directories.keep(topologies),
            self._directories.push(),
            self._intake.keep(),
            give_up_on_absent(self._board, self._runs, self._agents),
            self._mend(),
            expire(self._kinds, self._runs, self._blobs, self._config.keep_ended),
            collect(self._kinds, self._blobs),
            models_imported(),
        ):
            self._tasks.append(group.create_task(part))
        server = grpc.aio.server(options=server_options())
        add_FederationServiceServicer_to_server(FederationService(self._agents, self._blobs), server)
        add_ControlPlaneServiceServicer_to_server(self._service(), server)
        host, _, _ = self._config.listen.rpartition(":")
        try:
            port = server.add_secure_port(self._config.listen, grpc_server_credentials(self._config.credentials))
        except RuntimeError as error:
            raise OSError(f"the hub can't listen on {self._config.listen}: {error}") from error
        await server.start()
        return server, f"{host}:{port}"

    def end_sessions(self) -> None:
        """Let the agents go, so that they look for the hub again at once."""
        self._agents.end()

    def end(self) -> None:
        """End the tasks; the group that owns them waits for that."""
        for task in self._tasks:
            task.cancel()

    def _service(self) -> ControlPlaneService:
        return ControlPlaneService(
            version=VERSION,
            objects=Objects(self._kinds, self._blobs, self._agents.statuses),
            submissions=self._submissions,
            runs=self._runs,
            board=self._board,
            agents=self._agents,
            directories=self._directories,
            blobs=self._blobs,
        )

    async def _mend(self) -> None:
        with suppress(asyncio.CancelledError):
            await persistently(lambda: self._runs.mend(time.time()), None)
