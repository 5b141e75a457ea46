"""All agents of the federation: who is connected, and how they are.

One session a cluster is live; a newcomer ends the one before and waits until it has. Heartbeats, progress and relayed
frames are of the moment and kept in memory; what agents say for good goes to the intake.

An agent may be connected to another hub: its record says to which, and that hub, as long as it lives, tells how it is.
What is for such an agent, a question or a peer's frame, goes by way of its hub.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import structlog

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.federation.clocks import Clocks
from control_plane.federation.elsewhere import Elsewhere
from control_plane.federation.errors import AgentInUse, AgentUnreachable, NoSuchAgent
from control_plane.federation.feed import Feed
from control_plane.federation.intake import Intake
from control_plane.federation.liveness import Liveness, State
from control_plane.federation.session import CREDITS, AgentSession, Connection
from control_plane.federation.statuses import Statuses
from control_plane.hubs.fellows import Fellows
from control_plane.hubs.living import LivingHubs
from control_plane.membership.members import Members
from control_plane.runs import lines
from control_plane.runs.board import Board
from control_plane.store.base import Listing
from wire.clocks import is_wrong
from wire.identity import Credentials, Identity

_LOOK_SECONDS = 1.0
_log = structlog.get_logger(__name__)


class Agents:
    """The sessions and states of all agents, by cluster. `changed` is called when who can be reached has changed.

    `taints` gives those that operators have put on a cluster.
    """

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
        self._generations: dict[str, int] = {}  # of the certificate that each cluster's agent showed last
        self._version = version
        self._heartbeat = heartbeat
        self._renew_after = renew_after
        self._liveness = Liveness(heartbeat)
        self._clocks = Clocks()
        self._sessions: dict[str, AgentSession] = {}
        self._status: dict[str, cp.ClusterStatus] = {}
        self._elsewhere = Elsewhere(self._hub_id)
        self.fellows = Fellows(self._hub_id, credentials, self._ours)
        self._locks: dict[str, asyncio.Lock] = {}
        self._newest: dict[str, object] = {}
        self.changed: Callable[[], None] = lambda: None
        self.taints: Callable[[str], Sequence[cp.ClusterTaint]] = lambda _: ()

    def statuses(self) -> Statuses:
        """What each agent that was ever seen said last, and its state now."""
        now = time.monotonic()

        def look(cluster: str) -> cp.ClusterStatus:
            shown = cp.ClusterStatus()
            shown.CopyFrom(self._status[cluster])
            shown.state = self._state(cluster, now)
            shown.taints.extend(self.taints(cluster))
            return shown

        return Statuses(self._status, look)

    def out_of_touch(self, cluster: str) -> bool:
        """Whether the agent was not heard for long, or never, or will not be heard again."""
        return self._state(cluster, time.monotonic()) in ("unknown", "never-seen", "revoked")

    def silence(self) -> dict[str, float]:
        """Seconds since each agent was heard last, of those that were ever seen and are not another hub's to judge."""
        now = time.monotonic()
        ours = [cluster for cluster in self._status if cluster in self._sessions or not self._elsewhere.hub(cluster)]
        found = {cluster: self._liveness.silence(cluster, now) for cluster in ours}
        return {cluster: silence for cluster, silence in found.items() if silence is not None}

    def seconds_to_next_change(self) -> float | None:
        """When some state changes if nothing is heard; None: none will."""
        now = time.monotonic()
        change = self._liveness.next_change(now)
        return None if change is None else change - now

    def gateways(self) -> dict[str, str]:
        """Where clusters can be dialled, as their agents said last; without those that are revoked."""
        return {name: at for name, at in self._intake.gateways().items() if not self._is_revoked(name)}

    def connected(self) -> list[AgentSession]:
        """The live sessions here."""
        return list(self._sessions.values())

    def connected_here(self, cluster: str) -> bool:
        """Whether the agent has its session with this hub."""
        return cluster in self._sessions

    def connected_anywhere(self) -> list[str]:
        """The clusters whose agents are connected, to whichever hub."""
        return sorted({*self._sessions, *self._elsewhere.clusters()})

    async def ask(self, cluster: str, query: f.Query) -> AsyncGenerator[f.QueryReply]:
        """The agent's replies. AgentUnreachable if it is not connected or goes away."""
        hub_id = b"" if cluster in self._sessions else self._elsewhere.hub(cluster)
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
        if cluster in self._sessions or self._elsewhere.hub(cluster):
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
            self._generations[cluster] = identity.generation
            self._status[cluster] = record.status
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
            self._liveness.heard(cluster, time.monotonic())
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
                self._liveness.broken(cluster)
                self._clocks.forget(cluster)
                self._intake.closed(cluster)
                self.changed()

    def _cut_off(self, cluster: str) -> None:
        """The cluster's certificates were revoked."""
        if session := self._sessions.get(cluster):
            session.replaced()
        self.changed()

    def _is_revoked(self, cluster: str) -> bool:
        return self._generations.get(cluster, 0) < self._members.revocations.valid_from(cluster)

    async def take(self, cluster: str, frame: f.SessionRequest) -> None:
        """Store the effect of a sequenced frame and its number, however long the store is away."""
        await self._intake.take(cluster, frame)

    async def delivered(self, assignment: m.Assignment) -> None:
        """The agent has this assignment in its log."""
        await self._intake.delivered(assignment)

    def heartbeat(self, cluster: str, heartbeat: f.Heartbeat) -> None:
        """The agent lives, and says how its nodes are."""
        self._liveness.heard(cluster, time.monotonic())
        before = self._status.get(cluster)
        status = cp.ClusterStatus()
        status.CopyFrom(heartbeat.status)
        status.name = cluster
        status.last_seen = time.time()
        if heartbeat.wall_clock:
            self._compare_clocks(status, heartbeat.wall_clock)
        self._status[cluster] = status
        if before is None or _worth_storing(before) != _worth_storing(status):
            self._intake.note(status)
        if self.fellows.some:
            self.fellows.status(self._told(cluster))

    def _compare_clocks(self, status: cp.ClusterStatus, theirs: float) -> None:
        """Note how far the agent's clock is from ours; log when it goes wrong, and when it is right again."""
        was_wrong = is_wrong(self._clocks.ahead(status.name))
        self._clocks.heard(status.name, theirs, status.last_seen)
        ahead = self._clocks.ahead(status.name)
        assert ahead is not None
        status.clock_ahead = ahead
        if is_wrong(ahead) and not was_wrong:
            _log.warning("an agent's clock is not ours", cluster=status.name, seconds_ahead=round(ahead, 1))
        elif was_wrong and not is_wrong(ahead):
            _log.info("an agent's clock is ours again", cluster=status.name, seconds_ahead=round(ahead, 1))

    def progress(self, status: m.FragmentStatus) -> None:
        """Counters of a live run."""
        self._board.progress(status)
        self.fellows.progress(status)

    def relay(self, relay: f.PeerRelay) -> None:
        """Pass a frame on to a connected peer; otherwise it is dropped, and the peers' own session makes up for it."""
        if session := self._sessions.get(relay.to_cluster):
            session.send_relayed(relay)
        elif hub_id := self._elsewhere.hub(relay.to_cluster):
            self.fellows.relay(hub_id, relay)

    # ---------------------------------------------------------------------------------------- what other hubs say

    def told_status(self, hub_id: bytes, status: cp.ClusterStatus) -> None:
        """How an agent is that is connected to another hub."""
        if status.name not in self._sessions and self._elsewhere.told(hub_id, status.name, status.state):
            self._status[status.name] = status

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
            now = time.monotonic()
            for cluster in self._sessions:
                state = self._liveness.state(cluster, now)
                if told.get(cluster, state) != state:
                    self.fellows.status(self._told(cluster))
                told[cluster] = state
            wait = self.seconds_to_next_change()
            await asyncio.sleep(_LOOK_SECONDS if wait is None else min(max(wait, 0.05), _LOOK_SECONDS))

    def _state(self, cluster: str, now: float) -> State:
        if self._is_revoked(cluster):
            return "revoked"
        here = cluster in self._sessions
        return (None if here else self._elsewhere.state(cluster)) or self._liveness.state(cluster, now)

    def _seen(self, record: s.AgentRecord, revision: int) -> None:
        """An agent's record, as some hub has written it."""
        cluster = record.cluster
        if self._generations.get(cluster, 0) < record.generation:
            self._generations[cluster] = record.generation
            self.changed()
        lost = self._elsewhere.recorded(cluster, record.hub)
        if session := self._sessions.get(cluster):
            if record.hub not in (b"", self._hub_id) and revision > self._intake.opened_at(cluster):
                session.replaced()  # it has gone to another hub, and its stream here does not know it yet
            return
        known = self._status.get(cluster)
        if known is None or (self._elsewhere.hub(cluster) and not self._elsewhere.has_told(cluster)):
            self._status[cluster] = record.status  # what an agent said here is newer than what is stored of it
        if lost:
            self._missed(cluster)
        self._liveness.known(cluster, time.monotonic())
        if known is None or known.gateway_address != record.gateway_address:
            self.changed()

    def _dropped(self, cluster: str) -> None:
        """The agent's record is deleted: it will not come back."""
        if cluster in self._sessions:
            return
        self._status.pop(cluster, None)
        self._generations.pop(cluster, None)
        self._elsewhere.forget(cluster)
        self._liveness.forget(cluster)
        self.changed()

    def _hubs_changed(self) -> None:
        """Hubs have come or gone: the agents of one that has died are waited for from now on."""
        others = self._hubs.others()
        for cluster in self._elsewhere.living(others.keys()):
            self._missed(cluster)
        self.fellows.know(others)

    def _missed(self, cluster: str) -> None:
        if cluster not in self._sessions:
            self._liveness.heard(cluster, time.monotonic())
            self._liveness.broken(cluster)

    def _ours(self) -> list[cp.ClusterStatus]:
        """What another hub is told first."""
        return [self._told(cluster) for cluster in self._sessions if cluster in self._status]

    def _told(self, cluster: str) -> cp.ClusterStatus:
        told = cp.ClusterStatus()
        told.CopyFrom(self._status[cluster])
        told.state = self._liveness.state(cluster, time.monotonic())
        return told


def _worth_storing(status: cp.ClusterStatus) -> list[tuple[object, ...]]:
    return [(node.name, node.ready, node.data_address, node.cpus, node.memory, node.cordoned) for node in status.nodes]
