"""The agent's session with the hub: opened by us, over any of the hub's addresses, made anew whenever it breaks.

    driver ─ pushed, durable, progress ─▶ Outgoing ─▶ stream ─▶ hub
    hub ─▶ stream ─▶ assignments, peers' directory ─▶ intake ─▶ driver
                 ├─▶ relayed frames ─▶ peers
                 └─▶ questions ─▶ answers

What is asked of the hub beside that, as long as the session lasts, is in `calls`, what is told of the cluster every
few seconds in `heartbeats`.

What the hub sends with a number is acked once it is in our log. It counts on from what our hello says, so the hello
says what has been taken in, also if its commit is still under way: a crash before that is made good by the inventory,
which the hub compares on every connection.

The hub may know another number of ours than we remember: a lower one if its store was set back, a higher one if our log
was. Then the outbox is numbered to follow on it, and after a set-back of the hub the ends of our runs are told again.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import structlog

from bdw_fed.v1 import control_plane_pb2
from bdw_fed.v1.federation_pb2 import (
    AgentHello,
    HubWelcome,
    PeerRelay,
    SessionRequest,
    SessionResponse,
)
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from bdw_fed.v1.model_pb2 import DESIRED_STATE_RESERVED, FragmentStatus
from bdw_fed.v1.peer_pb2 import PeerFrame
from cluster_agent.bundles import BundleCache
from cluster_agent.coordinator.actions import SendHub
from cluster_agent.coordinator.intake import Intake, Mark
from cluster_agent.coordinator.messages import HubGone, HubHeard, RunKey
from cluster_agent.coordinator.outgoing import END_STATES
from cluster_agent.coordinator.ports import HUB, Core
from cluster_agent.events import EventBus
from cluster_agent.link.backoff import Backoff
from cluster_agent.link.calls import HubCalls
from cluster_agent.link.heartbeats import Heartbeats
from cluster_agent.link.incoming import Incoming
from cluster_agent.link.outgoing import Outgoing
from cluster_agent.link.queries import Answers
from cluster_agent.log import CoordinatorLog
from cluster_agent.nodes.logs import LogReaders
from cluster_agent.peer.peers import Peers
from wire.identity import Credentials, Identity, Role, channel_options, grpc_channel_credentials
from wire.inventory import inventory_digest
from wire.session.core import OutOfOrderError
from wire.versions import SESSION, Versions

_HEARTBEAT = 5.0
_WELCOME_SECONDS = 15.0  # a hub that takes connections and says nothing is no hub

if TYPE_CHECKING:
    from bdw_fed.v1.federation_pb2_grpc import FederationServiceAsyncStub

_log = structlog.get_logger(__name__)


class LinkError(Exception):
    """The hub does not keep to the contract; the connection is made anew."""


@dataclass(frozen=True)
class LinkConfig:
    """Who we are and where the hub is: addresses "host:port", of which any will do; which versions we speak with it."""

    cluster: str
    hub: Sequence[str]
    credentials: Credentials
    version: str
    speaks: Versions = SESSION


class HubLink:
    """The link, from start to stop of the agent. `connect` comes before `run`.

    `told_renewal` hears of each hub how many seconds a certificate is to be used; 0 = it renews none.
    """

    def __init__(
        self,
        config: LinkConfig,
        core: Core,
        log: CoordinatorLog,
        intake: Intake,
        bus: EventBus,
    ) -> None:
        self._config = config
        self._core = core
        self._log = log
        self._intake = intake
        self._bus = bus
        self._peers: Peers
        self._logs: LogReaders
        self._heartbeats: Heartbeats
        self._gateway_address = ""
        self._incoming = Incoming(config.cluster, core, intake)
        known = log.received().get(HUB)
        self._hub_id = known.log_id if known else b""
        self._out = Outgoing(log.outbox(HUB), log.next_seq(HUB), known.seq if known else 0)
        self._renumbered: asyncio.Future[None] | None = None
        self.calls = HubCalls()
        self.told_renewal: Callable[[float], None] = lambda _: None

    def connect(
        self,
        peers: Peers,
        bundles: BundleCache,
        logs: LogReaders,
        nodes: Callable[[], list[control_plane_pb2.NodeStatus]],
        gateway_address: str,
    ) -> None:
        """The peers whose frames pass through the hub, who keeps bundles and reads logs, how the nodes are, where peers
        dial us."""
        self._peers = peers
        self._incoming.serve(peers, bundles)
        self._logs = logs
        self._gateway_address = gateway_address
        config = self._config
        self._heartbeats = Heartbeats(config.cluster, config.version, self._core, peers, nodes, gateway_address)

    # ------------------------------------------------------------------------------- the driver's side

    def pushed(self, destination: str, messages: Sequence[tuple[int, bytes]]) -> None:
        """These are in the outbox now."""
        for seq, body in messages:
            given = self._out.session.push(body)
            assert given == seq, f"the log gave {seq} to a message for {destination}, the session {given}"

    def durable(self, source: str, log_id: bytes, seq: int) -> None:
        """What the hub said up to `seq` is in the log."""
        if source == HUB and log_id == self._hub_id:
            self._out.durable(seq)

    def renumbered(self, destination: str, messages: Sequence[tuple[int, bytes]], following: int) -> None:
        """The outbox has these numbers now."""
        assert destination == HUB
        self._out.renumbered(messages, following)
        if self._renumbered is not None and not self._renumbered.done():
            self._renumbered.set_result(None)

    def flush(self) -> None:
        """Send what the tick made ready."""
        self._out.wake()

    def progress(self, status: FragmentStatus) -> None:
        """A run's newest counters. Outputs are told reliably, so not here too."""
        status.ClearField("outputs")
        self._out.progress(status)

    # ------------------------------------------------------------------------------- the others' side

    def relay(self, peer: Identity, frame: PeerFrame) -> None:
        """Pass a frame to a peer of this generation or a later one through the hub, if it is there."""
        relay = PeerRelay(
            from_cluster=self._config.cluster,
            to_cluster=peer.cluster,
            to_generation=peer.generation,
            frame=frame,
        )
        self._out.relay(relay)

    def nodes_changed(self) -> None:
        """Tell the hub how the nodes are without waiting for the next heartbeat."""
        self._heartbeats.changed()

    # ------------------------------------------------------------------------------- its life

    async def run(self) -> None:
        """Keep the session up, until cancelled."""
        backoff = Backoff()
        turn = random.randrange(len(self._config.hub))  # noqa: S311 - spreads agents over the hubs
        while True:
            address = self._config.hub[turn % len(self._config.hub)]
            try:
                await self._session(address, backoff)
            except grpc.aio.AioRpcError as error:
                known = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                (_log.info if known else _log.warning)(
                    "no session with the hub", address=address, code=error.code().name, details=error.details()
                )
            except (LinkError, OutOfOrderError, OSError, asyncio.InvalidStateError) as error:
                _log.warning("the session with the hub broke", address=address, error=str(error) or repr(error))
            turn += 1
            await backoff.wait()

    async def _session(self, address: str, backoff: Backoff) -> None:
        """One connection, until it ends."""
        async with self._service_at(address) as stub:
            call: grpc.aio.StreamStreamCall[SessionRequest, SessionResponse] = stub.Session()
            async with asyncio.timeout(_WELCOME_SECONDS):
                await call.write(SessionRequest(hello=self._hello()))
                first = await call.read()
            if not isinstance(first, SessionResponse) or not first.HasField("welcome"):
                raise LinkError(f"the hub's first word is no welcome: {_what(first)}")
            backoff.reset()
            await self._welcomed(first.welcome)
            self.calls.up(stub)
            self.told_renewal(first.welcome.renew_after)
            self._intake.submit(HubHeard())
            try:
                await self._talk(call, first.welcome)
            finally:
                self.calls.down()
                self._out.close()
                self._peers.relay_down()
                self._intake.submit(HubGone())

    @asynccontextmanager
    async def _service_at(self, address: str) -> AsyncIterator[FederationServiceAsyncStub]:
        """The hub's service over a connection of our own."""
        credentials = grpc_channel_credentials(self._config.credentials)
        options = channel_options(Identity(Role.HUB, "hub"))
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            yield FederationServiceStub(channel)

    def _hello(self) -> AgentHello:
        return AgentHello(
            cluster=self._config.cluster,
            version=self._config.version,
            protocol=self._config.speaks.newest,
            protocol_min=self._config.speaks.oldest,
            log_id=self._log.log_id,
            received=self._out.session.received_seq,
            hub_id=self._hub_id,
            inventory=inventory_digest(self._core.inventory()),
            gateway_address=self._gateway_address,
            pid=os.getpid(),
        )

    async def _welcomed(self, welcome: HubWelcome) -> None:
        if welcome.protocol not in self._config.speaks:
            raise LinkError(
                f"the hub speaks version {welcome.protocol} of sessions, this agent {self._config.speaks}: "
                "upgrade the older of the two"
            )
        if welcome.hub_id != self._hub_id:
            self._hub_id = welcome.hub_id
            self._out.restart_incoming()
        acked, following = self._out.acked, self._out.session.next_seq
        if not acked <= welcome.received < following:
            _log.warning("the hub counts our messages otherwise", hub=welcome.received, acked=acked, next=following)
            self._renumbered = asyncio.get_running_loop().create_future()
            self._intake.renumber(HUB, welcome.received + 1)
            await self._renumbered
            if welcome.received < acked:
                self._tell_ends()
        self._out.open(welcome.received, welcome.credits)
        self._intake.ask_progress()

    def _tell_ends(self) -> None:
        """The hub has forgotten some of what it knew: it shall know how our runs ended."""
        for namespace, run, _, desired in self._core.inventory():
            if desired == DESIRED_STATE_RESERVED:
                continue
            status = self._core.status(RunKey(namespace, run))
            if status.state in END_STATES:
                self._intake.say(SendHub("ended", status.SerializeToString()))

    async def _talk(
        self, call: grpc.aio.StreamStreamCall[SessionRequest, SessionResponse], welcome: HubWelcome
    ) -> None:
        seconds = welcome.heartbeat or _HEARTBEAT
        async with asyncio.TaskGroup() as tasks:
            answers = Answers(self._core, self._intake, self._bus, self._logs, self._out.reply, tasks)
            helpers = [
                tasks.create_task(self._write(call), name="link writer"),
                tasks.create_task(self._heartbeats.beat(seconds, self._out.heartbeat), name="heartbeat"),
            ]
            self._peers.relay_up()
            broken = await self._read(call, answers)
            for task in helpers:
                task.cancel()
            answers.close()
        raise broken

    async def _read(
        self, call: grpc.aio.StreamStreamCall[SessionRequest, SessionResponse], answers: Answers
    ) -> Exception:
        """Take what comes until the end of the stream; returns what ended it."""
        try:
            while isinstance(response := await call.read(), SessionResponse):
                self._take(response, answers)
                await self._intake.room()
        except (grpc.aio.AioRpcError, OutOfOrderError, LinkError) as error:
            return error
        return LinkError("the hub ended it")

    async def _write(self, call: grpc.aio.StreamStreamCall[SessionRequest, SessionResponse]) -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the reader sees the end, too
            async for frame in self._out.frames():
                await call.write(frame)

    def _take(self, response: SessionResponse, answers: Answers) -> None:
        session = self._out.session
        if response.ack and session.acked(response.ack):
            self._intake.acked(HUB, response.ack)
        if response.credits:
            session.credit(response.credits)
        if response.ack or response.credits:
            self._out.wake()
        if response.seq and response.WhichOneof("kind") is None:
            raise LinkError("the hub says something reliably that this agent does not understand: upgrade the agent")
        if response.seq and not session.received(response.seq):
            self._out.say_ack_again()
            return
        self._incoming.take(response, answers)
        if response.seq:
            self._intake.submit(None, Mark(HUB, self._hub_id, response.seq))


def _what(message: object) -> str:
    return str(message.WhichOneof("kind")) if isinstance(message, SessionResponse) else "the end of the stream"
