"""The hub as a service: everything it is made of, in the order in which it starts and stops.

    etcd ◀─ kinds ◀─ runs, members ◀─ board, feed, agents, directories ◀─ two gRPC services ◀─ gate ◀─ people, agents
                                   ◀─ joining ◀─ a gRPC service on a port of its own ◀─ clusters without certificates

All state that matters is in etcd and among the blobs; what is in memory is read from there at the start or told again
by the agents. So a hub may be killed at any moment, and while etcd is away the hub stays: streams live on, reads are
answered as far as they can be, and writes wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import structlog

from bdw_fed.v1.control_plane_pb2 import ClusterStatus
from bdw_fed.v1.control_plane_pb2_grpc import add_ControlPlaneServiceServicer_to_server
from bdw_fed.v1.federation_pb2_grpc import add_FederationServiceServicer_to_server
from bdw_fed.v1.hub_pb2_grpc import add_HubServiceServicer_to_server
from bdw_fed.v1.membership_pb2_grpc import add_JoinServiceServicer_to_server
from bdw_fed.v1.model_pb2 import Run
from control_plane.access.audit import AuditLog
from control_plane.access.gate import Gate
from control_plane.access.history import AuditHistory
from control_plane.access.users import Users
from control_plane.api.clusters import Clusters
from control_plane.api.grounds import GroundsReader
from control_plane.api.hooks import HookRuns
from control_plane.api.objects import Objects
from control_plane.api.planning import Planning
from control_plane.api.service import ControlPlaneService
from control_plane.api.submitting import Submissions
from control_plane.blobs.collecting import collect
from control_plane.blobs.directory import DirectoryBlobs
from control_plane.config import HubConfig
from control_plane.federation.absent import give_up_on_absent
from control_plane.federation.agents import Agents
from control_plane.federation.directories import Directories
from control_plane.federation.feed import Feed
from control_plane.federation.halfway import give_up_halfway
from control_plane.federation.intake import Intake
from control_plane.federation.marks import Marks
from control_plane.federation.replacing import Replacements
from control_plane.federation.service import FederationService
from control_plane.hubs.audits import Audits
from control_plane.hubs.living import LivingHubs
from control_plane.hubs.service import HubService
from control_plane.kinds import Kinds
from control_plane.membership.joining import Joining
from control_plane.membership.keeping import Keeping
from control_plane.membership.members import Members
from control_plane.membership.service import JoinDoor
from control_plane.models import models_imported
from control_plane.patience import persistently
from control_plane.quotas.admission import Admission
from control_plane.quotas.limits import Quotas
from control_plane.reservations.driver import Reservations
from control_plane.runs.board import Board
from control_plane.runs.driver import Runs
from control_plane.runs.expiry import expire
from control_plane.runs.measuring import Measurements
from control_plane.store.etcd.client import Client, Config, Tls
from control_plane.store.repository import Store
from wire import epochs
from wire.identity import (
    Credentials,
    grpc_open_credentials,
    grpc_server_credentials,
    join_server_options,
    server_options,
)
from wire.service import allow_many_files

if TYPE_CHECKING:
    pass

VERSION = "0.1.0"
_GRACE_SECONDS = 0.5
_JOINS_AT_A_TIME = 64

_log = structlog.get_logger(__name__)


async def serve(config: HubConfig, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set; `ready` is told the address once agents and people can connect.

    Raises OSError where the address can't be bound, and RuntimeError where a part of the hub has broken.
    """
    allow_many_files()
    tls = Tls(
        ca=config.etcd_credentials.ca,
        certificate=config.etcd_credentials.certificate,
        key=config.etcd_credentials.key,
        server_name=config.etcd_name,
    )
    async with Client(Config(tuple(config.etcd), tls, settle=config.settle)) as client:
        hub = Hub(config, Kinds(Store(client)))
        async with asyncio.TaskGroup() as group:
            servers, address = await hub.start(group)
            try:
                ready(address)
                await stop.wait()
            finally:
                hub.end_sessions()
                await asyncio.gather(*(server.stop(_GRACE_SECONDS) for server in servers))
                await hub.end()


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials) -> str:
    """Open a door; returns its address. OSError if it is taken."""
    try:
        port = server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise OSError(f"the hub can't listen on {listen}: {error}") from error
    return f"{listen.rpartition(':')[0]}:{port}"


class Hub:
    """The parts of a hub, and the tasks that keep them going."""

    def __init__(self, config: HubConfig, kinds: Kinds) -> None:
        self._config = config
        self._blobs = DirectoryBlobs(config.blobs or config.state / "blobs")
        self._runs = Runs(kinds, config.hub_id)
        self._board = Board(kinds, self._runs)
        self._measurements = Measurements(kinds)
        self._board.ended = self._ended
        self._feed = Feed(kinds)
        self._intake = Intake(kinds, self._runs, config.hub_id)
        self._hubs = LivingHubs(kinds, config.hub_id, config.lease)
        issuing = config.issuing()
        self._members = Members(kinds, issuing.authority if issuing else None)
        self._joining = Joining(kinds, self._members, issuing)
        own = config.own(issuing)
        self._keeping = Keeping([*own, *config.kept])
        self._keeping.see_to_all()
        self._credentials = Credentials.load(own[0].directory) if own else config.credentials
        self._agents = Agents(
            self._intake,
            self._board,
            self._feed,
            self._hubs,
            self._members,
            self._credentials,
            version=VERSION,
            heartbeat=config.heartbeat,
            renew_after=self._joining.renew_after,
        )
        self._directories = Directories(kinds, self._agents, self._members)
        self._joining.relays = self._directories.relays
        self._marks = Marks(kinds)
        self._marks.changed = self._directories.changed
        self._quotas = Quotas(kinds.objects["Quota"])
        self._quotas.changed = self._directories.changed
        self._directories.quotas = self._quotas.told
        self._agents.known.taints = self._directories.taints = self._marks.taints
        self._grounds = GroundsReader(kinds)
        admission = Admission(kinds, self._quotas, self._board.live)
        self._planning = Planning(kinds, self._grounds, self._blobs, self._agents.known.statuses, admission)
        self._submissions = Submissions(kinds, self._grounds, self._planning, self._runs, admission)
        self._reservations = Reservations(self._runs, self._planning.again, config.hold)
        self._hook_runs = HookRuns(self._runs, self._submissions)
        self._board.over = self._hook_runs.ended
        self._replacements = Replacements(
            self._board,
            self._runs,
            self._agents,
            self._marks,
            self._planning.again,
            partial(epochs.issue, self._credentials),
        )
        self._board.taken = self._reservations.run_seen
        self._board.dropped = self._reservations.run_gone
        self._intake.roomier = self._reservations.roomier
        self._users = Users(kinds, config.admins)
        self._directories.people = self._users.with_certificates
        self._users.changed = self._directories.changed
        audit = config.audit or config.state / "audit.jsonl"
        self._audit = AuditLog(audit)
        self._history = AuditHistory(audit, config.name)
        self._audits = Audits(self._history, self._agents.fellows)
        self._kinds = kinds
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, group: asyncio.TaskGroup) -> tuple[list[grpc.aio.Server], str]:
        """Read what is stored, begin to follow it, open the doors. Returns the servers and the first one's address."""
        await self.begin(group)
        return await self._open(group)

    async def begin(self, group: asyncio.TaskGroup) -> None:
        """Read what is stored, and begin to follow it."""
        hubs, runs, fragments, topologies, bindings, members = await asyncio.gather(
            self._hubs.load(),
            self._board.load(),
            self._feed.load(),
            self._directories.load(),
            self._users.load(),
            self._members.load(),
        )
        agents, marks, quotas, grounds = await asyncio.gather(
            self._agents.load(), self._marks.load(), self._quotas.load(), self._grounds.load()
        )
        for part in (
            self._board.keep(runs),
            self._board.flush(),
            self._measurements.keep(),
            self._reservations.keep(),
            self._replacements.keep(),
            self._hook_runs.keep(),
            self._feed.keep(fragments),
            self._directories.keep(topologies),
            self._members.keep(members),
            self._grounds.keep(grounds),
            self._directories.push(),
            self._users.keep(bindings),
            self._marks.keep(marks),
            self._quotas.keep(quotas),
            self._intake.keep(),
            self._intake.follow(agents),
            self._agents.watch_over(),
            self._hubs.keep(hubs),
            give_up_on_absent(self._board, self._runs, self._agents),
            give_up_halfway(self._board, self._runs, self._hubs, self._config.lease),
            self._mend(),
            expire(self._kinds, self._runs, self._blobs, self._config.keep_ended),
            collect(self._kinds, self._blobs),
            models_imported(),
        ):
            self._tasks.append(group.create_task(part))

    async def _open(self, group: asyncio.TaskGroup) -> tuple[list[grpc.aio.Server], str]:
        self._tasks.append(group.create_task(self._keeping.keep()))
        server = grpc.aio.server(interceptors=[self._gate()], options=server_options())
        service = FederationService(self._agents, self._blobs, self._members, self._joining)
        add_FederationServiceServicer_to_server(service, server)
        add_ControlPlaneServiceServicer_to_server(self._service(), server)
        add_HubServiceServicer_to_server(HubService(self._agents, self._history), server)
        address = _bind(server, self._config.listen, grpc_server_credentials(self._credentials))
        if self._config.listen_users:  # who calls is said by a token
            _bind(server, self._config.listen_users, grpc_open_credentials(self._credentials))
        servers = [server]
        if self._config.listen_join:
            servers.append(self._join_server())
        for each in servers:
            await each.start()
        stand = self._hubs.stand(self._config.name, self._config.advertise or address)
        self._tasks.append(group.create_task(stand))
        return servers, address

    def _join_server(self) -> grpc.aio.Server:
        server = grpc.aio.server(options=join_server_options(), maximum_concurrent_rpcs=_JOINS_AT_A_TIME)
        add_JoinServiceServicer_to_server(JoinDoor(self._joining, self._credentials.ca.read_bytes()), server)
        _bind(server, self._config.listen_join, grpc_open_credentials(self._credentials))
        return server

    def end_sessions(self) -> None:
        """Let the agents go, so that they look for the hub again at once."""
        self._agents.end()

    async def end(self) -> None:
        """End the tasks; the group that owns them waits for that."""
        await self._agents.fellows.close()
        for task in self._tasks:
            task.cancel()
        self._audit.close()

    def _gate(self) -> Gate:
        if self._config.issuer is None:
            return Gate(self._users, self._audit)
        from control_plane.access.tokens import Tokens  # a hub without an issuer does not pay for it

        return Gate(self._users, self._audit, Tokens(self._config.issuer))

    def _service(self) -> ControlPlaneService:
        return ControlPlaneService(
            version=VERSION,
            objects=Objects(self._kinds, self._blobs, self._shown),
            submissions=self._submissions,
            planning=self._planning,
            runs=self._runs,
            board=self._board,
            agents=self._agents,
            clusters=Clusters(self._directories, self._shown, self._marks, self._members, self._board),
            users=self._users,
            credentials=self._credentials,
            blobs=self._blobs,
            joining=self._joining,
            audits=self._audits,
        )

    def _ended(self, run: Run) -> None:
        """All hubs hear of a run's end; the one with the first of its agents notes what it has shown."""
        self._hook_runs.ended(run)
        if run.fragments and self._agents.connected_here(min(run.fragments)):
            self._measurements.ended(run)

    def _shown(self) -> Mapping[str, ClusterStatus]:
        return self._users.shown(self._agents.known.statuses())

    async def _mend(self) -> None:
        with suppress(asyncio.CancelledError):
            await persistently(self._runs.mend, None)
