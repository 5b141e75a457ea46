"""All agents of the federation: who is connected, and how they are.

One session a cluster is live; a newcomer ends the one before and waits until it has. Heartbeats, progress and relayed
frames are of the moment and kept in memory; what agents say for good goes to the intake.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from control_plane.federation.errors import AgentInUse, AgentUnreachable, NoSuchAgent
from control_plane.federation.feed import Feed
from control_plane.federation.intake import Intake
from control_plane.federation.liveness import Liveness
from control_plane.federation.session import CREDITS, PROTOCOL, AgentSession, Connection
from control_plane.runs.board import Board


class Agents:
    """The sessions and states of all agents, by cluster. `changed` is called when who can be reached has changed."""

    def __init__(
        self, intake: Intake, board: Board, feed: Feed, *, hub_id: bytes, version: str, heartbeat: float
    ) -> None:
        self._intake = intake
        self._board = board
        self._feed = feed
        self._hub_id = hub_id
        self._version = version
        self._heartbeat = heartbeat
        self._liveness = Liveness(heartbeat)
        self._sessions: dict[str, AgentSession] = {}
        self._status: dict[str, cp.ClusterStatus] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._newest: dict[str, object] = {}
        self.changed: Callable[[], None] = lambda: None

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

    def out_of_touch(self, cluster: str) -> bool:
        """Whether the agent was not heard for long, or never."""
        return self._liveness.state(cluster, time.monotonic()) in ("unknown", "never-seen")

    def seconds_to_next_change(self) -> float | None:
        """When some state changes if nothing is heard; None: none will."""
        now = time.monotonic()
        change = self._liveness.next_change(now)
        return None if change is None else change - now

    def gateways(self) -> dict[str, str]:
        """Where clusters can be dialled, as their agents said last."""
        return self._intake.gateways()

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

    async def load(self) -> None:
        """Read what an earlier hub knew of the agents; from now on they are waited for."""
        now = time.monotonic()
        for cluster, record in (await self._intake.load()).items():
            self._status.setdefault(cluster, record.status)
            self._liveness.known(cluster, now)

    async def forget(self, cluster: str) -> None:
        """Delete the record of an agent that will not come back. AgentInUse while it is connected or has live runs."""
        if cluster in self._sessions:
            raise AgentInUse(f"the agent of {cluster} is connected: stop it first")
        live = [run.name for run in self._board.live() if cluster in run.fragments]
        if live:
            raise AgentInUse(f"run {', '.join(live)} goes on on {cluster}: cancel it first")
        if not await self._intake.forget(cluster):
            raise NoSuchAgent(f"no agent of cluster {cluster} was ever seen")
        self._status.pop(cluster, None)
        self._liveness.forget(cluster)
        self.changed()

    def end(self) -> None:
        """End all sessions: the hub stops."""
        for session in self._sessions.values():
            session.replaced()

    async def serve(self, hello: f.AgentHello, connection: Connection) -> None:
        """Serve an agent's session until it ends."""
        cluster = hello.cluster
        newest = self._newest[cluster] = object()
        if live := self._sessions.get(cluster):
            live.replaced()
        async with self._locks.setdefault(cluster, asyncio.Lock()):
            if self._newest[cluster] is not newest:
                return
            record = await self._intake.opened(hello)
            self._status[cluster] = record.status
            subscription = self._feed.subscribe(cluster)
            session = AgentSession(
                hello, hub_id=self._hub_id, received=record.received, office=self, assignments=subscription
            )
            self._sessions[cluster] = session
            self._liveness.heard(cluster, time.monotonic())
            self.changed()
            self._intake.roomier(cluster)
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
        self._status[cluster] = status
        if before is None or _worth_storing(before) != _worth_storing(status):
            self._intake.note(status)

    def progress(self, status: m.FragmentStatus) -> None:
        """Counters of a live run."""
        self._board.progress(status)

    def relay(self, relay: f.PeerRelay) -> None:
        """Pass a frame on to a connected peer; otherwise it is dropped, and the peers' own session makes up for it."""
        if session := self._sessions.get(relay.to_cluster):
            session.send_relayed(relay)


def _worth_storing(status: cp.ClusterStatus) -> list[tuple[str, bool, str, float, int]]:
    return [(node.name, node.ready, node.data_address, node.cpus, node.memory) for node in status.nodes]
