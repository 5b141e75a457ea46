"""All agents of the federation: their sessions with this hub, and the way to those that have theirs with another one.

One session a cluster is live; a newcomer ends the one before and waits until it has. Heartbeats, progress and relayed
frames are of the moment and kept in memory; what agents say for good goes to the intake.

An agent may be connected to another hub: its record says to which, and that hub, as long as it lives, tells how it is.
What is for such an agent, a question or a peer's frame, goes by way of its hub.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.federation.errors import AgentInUse, AgentUnreachable, NoSuchAgent
from control_plane.federation.feed import Feed
from control_plane.federation.intake import Intake
from control_plane.federation.known import KnownAgents
from control_plane.federation.session import CREDITS, AgentSession, Connection
from control_plane.hubs.fellows import Fellows
from control_plane.hubs.living import LivingHubs
from control_plane.membership.members import Members
from control_plane.runs import lines
from control_plane.runs.board import Board
from control_plane.store.base import Listing
from wire.identity import Credentials, Identity

_LOOK_SECONDS = 1.0
_log = structlog.get_logger(__name__)


class Agents:
    """The sessions, by cluster. `known` is what is known of all agents, `changed` is called when who can be reached has
    changed."""

    def __init__(
        self,
        intake: Intake,
        board: Board,
        feed: Feed,
        hubs: LivingHubs,
        members: Members,
        credentials: Credentials,
        *,
        version: str,
        heartbeat: float,
        renew_after: float = 0.0,
    ) -> None:
        self._intake = intake
        self._board = board
        self._feed = feed
        self._hubs = hubs
        self._hub_id = hubs.own_id
        self._members = members
        members.revoked = self._cut_off
        self._version = version
        self._heartbeat = heartbeat
        self._renew_after = renew_after
        self._sessions: dict[str, AgentSession] = {}
        self.known = KnownAgents(self._hub_id, heartbeat, members, self._sessions.keys())
        self.fellows = Fellows(self._hub_id, credentials, self._ours)
        self._locks: dict[str, asyncio.Lock] = {}
        self._newest: dict[str, object] = {}
        self.changed: Callable[[], None] = lambda: None

    def gateways(self) -> dict[str, str]:
        """Where clusters can be dialled, as their agents said last; without those that are revoked."""
        return {name: at for name, at in self._intake.gateways().items() if not self.known.is_revoked(name)}

    def connected(self) -> list[AgentSession]:
        """The live sessions here."""
        return list(self._sessions.values())

    def connected_here(self, cluster: str) -> bool:
        """Whether the agent has its session with this hub."""
        return cluster in self._sessions

    def connected_anywhere(self) -> list[str]:
        """The clusters whose agents are connected, to whichever hub."""
        return sorted({*self._sessions, *self.known.elsewhere()})

    async def ask(self, cluster: str, query: f.Query) -> AsyncGenerator[f.QueryReply]:
        """The agent's replies. AgentUnreachable if it is not connected or goes away."""
        hub_id = b"" if cluster in self._sessions else self.known.hub(cluster)
        asked = self.fellows.ask(hub_id, cluster, query) if hub_id else self.ask_here(cluster, query)
        async with aclosing(asked) as replies:
            async for reply in replies:
                yield reply

    async def ask_here(self, cluster: str, query: f.Query) -> AsyncGenerator[f.QueryReply]:
        """The same, of an agent that is connected to this hub."""
        session = self._sessions.get(cluster)
        if session is None:
            raise AgentUnreachable(f"{cluster} is not connected")
        async with aclosing(session.queries.ask(query)) as replies:
            async for reply in replies:
                yield reply

    async def load(self) -> Listing[s.AgentRecord]:
        """Read what the hubs know of the agents; from now on those that are nowhere connected are waited for."""
        listing = await self._intake.load()
        self._intake.seen, self._intake.dropped = self._seen, self._dropped
        self._hubs.changed = self._hubs_changed
        self._hubs_changed()
        for stored in listing.items:
            self._seen(stored.value, stored.revision)
        return listing

    async def forget(self, cluster: str) -> None:
        """Delete the record of an agent that will not come back. AgentInUse while it is connected or has live runs."""
        if cluster in self._sessions or self.known.hub(cluster):
            raise AgentInUse(f"the agent of {cluster} is connected: stop it first")
        live = [run.name for run in self._board.live() if cluster in lines.clusters(run)]
        if live:
            raise AgentInUse(f"run {', '.join(live)} goes on on {cluster}: cancel it first")
        if not await self._intake.forget(cluster):
            raise NoSuchAgent(f"no agent of cluster {cluster} was ever seen")
        self._dropped(cluster)

    def end(self) -> None:
        """End all sessions: the hub stops."""
        for session in self._sessions.values():
            session.replaced()

    async def serve(self, hello: f.AgentHello, identity: Identity, connection: Connection, version: int) -> None:
        """Serve the session of an agent, which has shown this identity, until it ends. `version` is what is spoken."""
        cluster = hello.cluster
        newest = self._newest[cluster] = object()
        if live := self._sessions.get(cluster):
            live.replaced()
        async with self._locks.setdefault(cluster, asyncio.Lock()):
            if self._newest[cluster] is not newest:
                return
            try:
                record = await self._intake.opened(hello, identity.generation)
            except asyncio.CancelledError:
                self._intake.closed(cluster)
                raise
            if self._members.revocations.refusal(identity):
                self._intake.closed(cluster)
                return  # since it was let in
            self.known.connected(cluster, identity.generation, record)
            subscription = self._feed.subscribe(cluster)
            session = AgentSession(
                hello,
                identity.generation,
                hub_id=self._hub_id,
                received=record.received,
                office=self,
                assignments=subscription,
            )
            self._sessions[cluster] = session
            self.changed()
            self._intake.roomier(cluster)
            welcome = f.HubWelcome(
                hub_id=self._hub_id,
                protocol=version,
                received=record.received,
                credits=CREDITS,
                heartbeat=self._heartbeat,
                version=self._version,
                renew_after=self._renew_after,
            )
            try:
                await session.run(connection, welcome)
            finally:
                self._feed.unsubscribe(cluster, subscription)
                del self._sessions[cluster]
                self.known.disconnected(cluster)
                self._intake.closed(cluster)
                self.changed()

    def _cut_off(self, name: str) -> None:
        """The certificates of a cluster or of a node were revoked."""
        if session := self._sessions.get(name):
            session.replaced()
        self.changed()

    async def take(self, cluster: str, frame: f.SessionRequest) -> None:
        """Store the effect of a sequenced frame and its number, however long the store is away."""
        await self._intake.take(cluster, frame)

    async def delivered(self, assignment: m.Assignment) -> None:
        """The agent has this assignment in its log."""
        await self._intake.delivered(assignment)

    def heartbeat(self, cluster: str, heartbeat: f.Heartbeat) -> None:
        """The agent lives, and says how its nodes are."""
        status, is_news = self.known.heard(cluster, heartbeat)
        if is_news:
            self._intake.note(status)
        if self.fellows.some:
            self.fellows.status(self.known.told(cluster))

    def progress(self, status: m.FragmentStatus) -> None:
        """Counters of a live run."""
        self._board.progress(status)
        self.fellows.progress(status)

    def relay(self, relay: f.PeerRelay) -> None:
        """Pass a frame on to a connected peer; otherwise it is dropped, and the peers' own session makes up for it."""
        if session := self._sessions.get(relay.to_cluster):
            session.send_relayed(relay)
        elif hub_id := self.known.hub(relay.to_cluster):
            self.fellows.relay(hub_id, relay)

    # ---------------------------------------------------------------------------------------- what other hubs say

    def told_status(self, hub_id: bytes, status: cp.ClusterStatus) -> None:
        """How an agent is that is connected to another hub."""
        self.known.told_by(hub_id, status)

    def told_progress(self, status: m.FragmentStatus) -> None:
        """How far such an agent is."""
        self._board.progress(status, ours=False)

    def told_relay(self, relay: f.PeerRelay) -> None:
        """A frame for an agent that is connected here, if it is."""
        if session := self._sessions.get(relay.to_cluster):
            session.send_relayed(relay)

    async def watch_over(self) -> None:
        """Tell the other hubs when silence has changed the state of an agent of ours. Run as long as the hub lives."""
        told: dict[str, str] = {}
        while True:
            for cluster in self._sessions:
                state = self.known.heard_state(cluster)
                if told.get(cluster, state) != state:
                    self.fellows.status(self.known.told(cluster))
                told[cluster] = state
            wait = self.known.seconds_to_next_change()
            await asyncio.sleep(_LOOK_SECONDS if wait is None else min(max(wait, 0.05), _LOOK_SECONDS))

    def _seen(self, record: s.AgentRecord, revision: int) -> None:
        """An agent's record, as some hub has written it."""
        if self.known.recorded(record):
            self.changed()
        session = self._sessions.get(record.cluster)
        if session is None or record.hub in (b"", self._hub_id):
            return
        if revision > self._intake.opened_at(record.cluster):
            session.replaced()  # it has gone to another hub, and its stream here does not know it yet

    def _dropped(self, cluster: str) -> None:
        """The agent's record is deleted: it will not come back."""
        if cluster in self._sessions:
            return
        self.known.forget(cluster)
        self.changed()

    def _hubs_changed(self) -> None:
        """Hubs have come or gone: the agents of one that has died are waited for from now on."""
        others = self._hubs.others()
        self.known.hubs(others.keys())
        self.fellows.know(others)

    def _ours(self) -> list[cp.ClusterStatus]:
        """What another hub is told first."""
        return [self.known.told(cluster) for cluster in self._sessions]
