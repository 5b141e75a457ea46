"""All agents of the federation: who is connected, how they are, and what became of what they said.

A sequenced frame's effect on its run and the frame's number, in the agent's record, are stored in one transaction. So
after any crash the agent sends again exactly what had no effect yet. One session a cluster is live; a newcomer ends
the one before and waits until it has, which makes that session the one writer of the record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.federation.feed import Feed
from control_plane.federation.liveness import Liveness
from control_plane.federation.queries import AgentUnreachable
from control_plane.federation.session import CREDITS, PROTOCOL, AgentSession, Connection, SessionOver
from control_plane.kinds import Kinds, writing
from control_plane.patience import persistently
from control_plane.runs import core
from control_plane.runs.board import Board
from control_plane.runs.driver import Decision, EventOf, Runs
from control_plane.store.base import Stored
from control_plane.store.errors import Conflict, InvalidName

_log = structlog.get_logger(__name__)


class Agents:
    """The sessions and records of all agents, by cluster. `changed` is called when who can be reached has changed."""

    def __init__(
        self, kinds: Kinds, runs: Runs, board: Board, feed: Feed, *, hub_id: bytes, version: str, heartbeat: float
    ) -> None:
        self._kinds = kinds
        self._runs = runs
        self._board = board
        self._feed = feed
        self._hub_id = hub_id
        self._version = version
        self._heartbeat = heartbeat
        self._liveness = Liveness(heartbeat)
        self._sessions: dict[str, AgentSession] = {}
        self._stored: dict[str, Stored[s.AgentRecord]] = {}
        self._status: dict[str, cp.ClusterStatus] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._newest: dict[str, object] = {}
        self._to_store: set[str] = set()
        self._something_to_store = asyncio.Event()
        self.changed: Callable[[], None] = lambda: None

    # ------------------------------------------------------------------------------------- what is known

    def statuses(self) -> dict[str, cp.ClusterStatus]:
        """What each agent that was ever seen said last, and its state now."""
        now = time.monotonic()
        found = {}
        for cluster, status in self._status.items():
            shown = cp.ClusterStatus()
            shown.CopyFrom(status)
            shown.state = self._liveness.state(cluster, now)
            found[cluster] = shown
        return found

    def gateways(self) -> dict[str, str]:
        """Where clusters can be dialled, as their agents said last."""
        return {name: stored.value.gateway_address for name, stored in self._stored.items()}

    def connected(self) -> list[AgentSession]:
        """The live sessions."""
        return list(self._sessions.values())

    async def ask(self, cluster: str, query: f.Query) -> AsyncGenerator[f.QueryReply]:
        """The agent's replies. AgentUnreachable if it is not connected or goes away."""
        session = self._sessions.get(cluster)
        if session is None:
            raise AgentUnreachable(f"{cluster} is not connected")
        async with aclosing(session.queries.ask(query)) as replies:
            async for reply in replies:
                yield reply

    # ------------------------------------------------------------------------------------- sessions

    async def load(self) -> None:
        """Read what an earlier hub knew of the agents; from now on they are waited for."""
        listing = await persistently(self._kinds.agents.list, None)
        now = time.monotonic()
        for stored in listing.items:
            cluster = stored.value.cluster
            self._stored.setdefault(cluster, stored)
            self._status.setdefault(cluster, stored.value.status)
            self._liveness.known(cluster, now)

    async def serve(self, hello: f.AgentHello, connection: Connection) -> None:
        """Serve an agent's session until it ends."""
        cluster = hello.cluster
        newest = self._newest[cluster] = object()
        if live := self._sessions.get(cluster):
            live.replaced()
        async with self._locks.setdefault(cluster, asyncio.Lock()):
            if self._newest[cluster] is not newest:
                return
            record = await persistently(lambda: self._opened(hello), None)
            subscription = self._feed.subscribe(cluster)
            session = AgentSession(
                hello, hub_id=self._hub_id, received=record.received, office=self, assignments=subscription
            )
            self._sessions[cluster] = session
            self._liveness.heard(cluster, time.monotonic())
            self.changed()
            welcome = f.HubWelcome(
                hub_id=self._hub_id,
                protocol=PROTOCOL,
                received=record.received,
                credits=CREDITS,
                heartbeat=self._heartbeat,
                version=self._version,
            )
            try:
                await session.run(connection, welcome)
            finally:
                self._feed.unsubscribe(cluster, subscription)
                del self._sessions[cluster]
                self._liveness.broken(cluster)
                self.changed()

    async def _opened(self, hello: f.AgentHello) -> s.AgentRecord:
        """The agent's record for this session."""
        before = await self._kinds.agents.get(self._kinds.agents.key(hello.cluster))
        record = s.AgentRecord(cluster=hello.cluster, first_seen=time.time())
        if before is not None:
            record.CopyFrom(before.value)
            if record.log_id and record.log_id != hello.log_id:
                await self._state_lost(hello.cluster)
        if record.log_id != hello.log_id:
            record.received = 0
        record.log_id = hello.log_id
        record.version = hello.version
        record.gateway_address = hello.gateway_address
        record.last_seen = time.time()
        record.status.name = hello.cluster
        record.status.version = hello.version
        record.status.gateway_address = hello.gateway_address
        record.status.pid = hello.pid
        record.status.last_seen = record.last_seen
        await self._write(before, record)
        self._status[hello.cluster] = record.status
        return record

    async def _state_lost(self, cluster: str) -> None:
        """The coordinator has a new log: what it had accepted under the old one is lost, and can't be told apart."""
        assigned = await self._kinds.fragments.list(cluster)
        for stored in assigned.items:
            fragment = stored.value.fragment
            failure = m.Failure(
                cluster=cluster, kind="lost", message="its coordinator has lost its log and begun a new one"
            )
            status = m.FragmentStatus(
                namespace=fragment.namespace,
                run=fragment.run,
                cluster=cluster,
                epoch=fragment.epoch,
                state=m.FRAGMENT_STATE_FAILED,
                failures=[failure],
            )

            async def lost(run: m.Run, status: m.FragmentStatus = status) -> core.Event:
                kept = run.fragments.get(status.cluster)
                if kept is None or kept.state == m.FRAGMENT_STATE_ASSIGNED:
                    return core.Progress(())  # it was not begun, so nothing of it is lost
                return core.FragmentEnded(status, 0, time.time(), ())

            await self._runs.commit(await self._runs.decide(fragment.namespace, fragment.run, lost))

    # ------------------------------------------------------------------------------------- the office

    async def take(self, cluster: str, frame: f.SessionRequest) -> None:
        """Store the effect of a sequenced frame and its number, however long the store is away."""

        async def attempt() -> None:
            stored = self._stored[cluster]
            if stored.value.received >= frame.seq:
                return
            record = s.AgentRecord()
            record.CopyFrom(stored.value)
            record.received = frame.seq
            record.last_seen = time.time()
            try:
                decision = await self._decided(cluster, frame)
            except InvalidName as error:
                _log.warning("a frame of an agent names no run", cluster=cluster, error=str(error))
                decision = Decision(None)
            try:
                revision = await self._runs.commit(
                    decision, [self._kinds.agents.updating(stored.key, record, stored.revision)]
                )
            except Conflict:
                await self._reread(cluster, stored)
                raise
            self._stored[cluster] = Stored(stored.key, record, revision, stored.created)

        await persistently(attempt, None)

    async def _decided(self, cluster: str, frame: f.SessionRequest) -> Decision:
        at = time.time()
        match frame.WhichOneof("kind"):
            case "accepted":
                said = frame.accepted
                event: core.Event = core.FragmentAccepted(cluster, said.epoch, at)
                return await self._runs.decide(said.namespace, said.run, _always(event))
            case "output" if frame.output.cluster == cluster:
                event = core.OutputMade(frame.output, frame.seq)
                return await self._runs.decide(frame.output.namespace, frame.output.run, _always(event))
            case "ended" if frame.ended.cluster == cluster:
                status = frame.ended

                async def ended(run: m.Run) -> core.Event:
                    outputs = await self._runs.outputs(run.namespace, run.name)
                    return core.FragmentEnded(status, frame.seq, at, tuple(outputs))

                return await self._runs.decide(status.namespace, status.run, ended)
            case other:
                _log.warning("a frame of an agent means nothing", cluster=cluster, kind=other)
                return Decision(None)

    async def _reread(self, cluster: str, before: Stored[s.AgentRecord]) -> None:
        """Another writer came first, of the run or of the record. A record of another log: this session is over."""
        there = await self._kinds.agents.get(before.key)
        if there is None or there.value.log_id != before.value.log_id:
            raise SessionOver
        self._stored[cluster] = there

    def heartbeat(self, cluster: str, heartbeat: f.Heartbeat) -> None:
        """The agent lives, and says how its nodes are."""
        self._liveness.heard(cluster, time.monotonic())
        before = self._status.get(cluster)
        status = cp.ClusterStatus()
        status.CopyFrom(heartbeat.status)
        status.name = cluster
        status.last_seen = time.time()
        self._status[cluster] = status
        if before is None or _worth_storing(before) != _worth_storing(status):
            self._to_store.add(cluster)
            self._something_to_store.set()

    def progress(self, status: m.FragmentStatus) -> None:
        """Counters of a live run."""
        self._board.progress(status)

    def relay(self, relay: f.PeerRelay) -> None:
        """Pass a frame on to a connected peer; otherwise it is dropped, and the peers' own session makes up for it."""
        if session := self._sessions.get(relay.to_cluster):
            session.send_relayed(relay)

    async def delivered(self, assignment: m.Assignment) -> None:
        """A fragment that the agent has heard to be forgotten needs not be kept any longer."""
        if assignment.desired != m.DESIRED_STATE_FORGOTTEN:
            return
        fragment = assignment.fragment
        fragments = self._kinds.fragments

        async def attempt() -> None:
            stored = await fragments.get(fragments.key(fragment.cluster, fragment.namespace, fragment.run))
            if stored is not None and stored.value == assignment:
                await fragments.delete(stored.key, stored.revision)

        await persistently(attempt, None)

    # ------------------------------------------------------------------------------------- records

    async def keep(self) -> None:
        """Store how agents are when that has changed in a way that a later hub should know."""
        while True:
            await self._something_to_store.wait()
            self._something_to_store.clear()
            clusters, self._to_store = self._to_store, set()
            for cluster in clusters:
                await persistently(lambda cluster=cluster: self._store_status(cluster), None)  # type: ignore[misc]

    async def _store_status(self, cluster: str) -> None:
        stored = self._stored.get(cluster)
        if stored is None:
            return
        record = s.AgentRecord()
        record.CopyFrom(stored.value)
        record.status.CopyFrom(self._status[cluster])
        record.last_seen = time.time()
        try:
            await self._write(stored, record)
        except Conflict:
            there = await self._kinds.agents.get(stored.key)
            if there is not None:
                self._stored[cluster] = there
            raise

    async def _write(self, before: Stored[s.AgentRecord] | None, record: s.AgentRecord) -> None:
        key = self._kinds.agents.key(record.cluster)
        revision = await self._kinds.commit([writing(self._kinds.agents, key, before, record)])
        self._stored[record.cluster] = Stored(key, record, revision, before.created if before else revision)


def _always(event: core.Event) -> EventOf:
    async def same(_: m.Run) -> core.Event:
        return event

    return same


def _worth_storing(status: cp.ClusterStatus) -> list[tuple[str, bool, str, float, int]]:
    return [(node.name, node.ready, node.data_address, node.cpus, node.memory) for node in status.nodes]
