"""One agent's live session: frames in, frames out, and the tasks that move them, all owned by `run`.

    agent ─▶ read ─▶ soft frames: at once to the board, the queries, the relay
                └──▶ sequenced frames ─▶ intake (their effects, stored) ─▶ ack
    feed of assignments ─▶ numbered ─┐
    queries, relayed frames, peers ──┴▶ write ─▶ agent

A sequenced frame is acked only after its effect is in the store; how many may be on their way is bounded by credits, so
that a store that is away slows the agents down instead of filling this process. Frames to the agent that are lost
with the connection need no memory here: what is wanted of an agent is a set, which is compared on connecting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

import structlog

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from control_plane.federation.feed import Subscription
from control_plane.federation.queries import Queries
from wire.inventory import inventory_digest
from wire.session.core import OutOfOrderError, Session

CREDITS = 256
_RELAYED_WAITING = 512
_SOFT_WAITING = 4096
_STALLED_SECONDS = 300.0  # a frame of 16 MiB may take minutes over a slow link
_WINDOW = 256
_SET_BYTES = 8 << 20
_UNWANTED = (m.DESIRED_STATE_CANCELLED, m.DESIRED_STATE_RETAINED, m.DESIRED_STATE_FINISHED, m.DESIRED_STATE_FORGOTTEN)


_log = structlog.get_logger(__name__)


class Connection(Protocol):
    """The server's end of the gRPC stream."""

    async def read(self) -> object: ...
    async def write(self, message: f.SessionResponse) -> None: ...


class SessionOver(Exception):
    """The session has ended: the agent went away, another session took its place, or it broke the rules."""


class Office(Protocol):
    """What a session does with what the agent says; the federation service is one."""

    async def take(self, cluster: str, frame: f.SessionRequest) -> None:
        """Store the effect of a sequenced frame, and that it was received. Waits while the store is away."""

    def heartbeat(self, cluster: str, heartbeat: f.Heartbeat) -> None: ...
    def progress(self, status: m.FragmentStatus) -> None: ...
    def relay(self, relay: f.PeerRelay) -> None: ...
    async def delivered(self, assignment: m.Assignment) -> None:
        """The agent has this assignment in its log."""


class AgentSession:
    """The session with one agent, from its hello to the end of its stream."""

    def __init__(
        self,
        hello: f.AgentHello,
        generation: int,
        *,
        hub_id: bytes,
        received: int,
        office: Office,
        assignments: Subscription,
    ) -> None:
        self.cluster = hello.cluster
        self.hello = hello
        self._generation = generation  # of the certificate that the agent has shown
        self.queries = Queries(hello.cluster, self._send_soft)
        self._office = office
        self._assignments = assignments
        self._stored = received
        peer_received = hello.received if hello.hub_id == hub_id else 0
        self._numbers: Session[f.SessionResponse] = Session.restore([], peer_received + 1, received, window=_WINDOW)
        self._numbers.reconnected(peer_received)
        self._waiting_delivery: dict[int, list[m.Assignment]] = {}
        self._delivered: asyncio.Queue[m.Assignment] = asyncio.Queue()
        self._taken: asyncio.Queue[f.SessionRequest] = asyncio.Queue(CREDITS)
        self._soft: deque[f.SessionResponse] = deque()
        self._relayed: deque[f.SessionResponse] = deque()
        self._something = asyncio.Event()
        self._replaced = asyncio.Event()
        self._ack_said = received
        self._credits_owed = 0
        self.relay_dropped = 0

    def replaced(self) -> None:
        """Another session of the same cluster has come, or none may be: end this one."""
        self._replaced.set()

    def send_peers(self, directory: f.PeerDirectory) -> None:
        """Tell the agent how to reach the others; a directory that was not sent yet is replaced."""
        kept = [frame for frame in self._soft if not frame.HasField("peers")]
        self._soft.clear()
        self._soft.extend(kept)
        self._send_soft(f.SessionResponse(peers=directory))

    def send_relayed(self, relay: f.PeerRelay) -> None:
        """Pass a peer's frame on. When too many wait it is dropped: the peers' own session sends it again.

        Its sender may know that this agent is revoked before this hub does.
        """
        if relay.to_generation > self._generation:
            return
        if len(self._relayed) >= _RELAYED_WAITING:
            self.relay_dropped += 1
            return
        self._relayed.append(f.SessionResponse(relay=relay))
        self._something.set()

    async def run(self, connection: Connection, welcome: f.HubWelcome) -> None:
        """Serve the session. Returns when the agent ends its stream or another session replaces this one."""
        await connection.write(f.SessionResponse(welcome=welcome))
        try:
            async with asyncio.TaskGroup() as group:
                for part in (self._read(connection), self._take(), self._want(), self._confirm(), self._watch_over()):
                    group.create_task(part)
                group.create_task(self._write(connection))
        except* SessionOver:
            pass
        finally:
            self.queries.close()

    def _send_soft(self, frame: f.SessionResponse) -> None:
        if len(self._soft) >= _SOFT_WAITING:
            self._unread()
            return
        self._soft.append(frame)
        self._something.set()

    def _unread(self) -> None:
        """End the session of an agent that lives and does not listen, before what it is told fills this process."""
        if not self._replaced.is_set():
            _log.warning("an agent's session was ended: it is not read", cluster=self.cluster)
            self.replaced()

    async def _watch_over(self) -> None:
        await self._replaced.wait()
        raise SessionOver

    async def _read(self, connection: Connection) -> None:
        while True:
            frame = await connection.read()
            if not isinstance(frame, f.SessionRequest):
                raise SessionOver
            if frame.ack:
                self._acked(frame.ack)
            if frame.seq:
                self._check_known(frame)
                await self._number(frame)
                continue
            match frame.WhichOneof("kind"):
                case "heartbeat":
                    self._office.heartbeat(self.cluster, frame.heartbeat)
                case "progress":
                    if frame.progress.cluster == self.cluster:
                        self._office.progress(frame.progress)
                case "reply":
                    self.queries.replied(frame.reply)
                case "relay":
                    if frame.relay.from_cluster == self.cluster:
                        frame.relay.from_generation = self._generation
                        self._office.relay(frame.relay)
                case _:
                    pass

    def _check_known(self, frame: f.SessionRequest) -> None:
        """What is not understood must not be acked: it would be lost."""
        if frame.WhichOneof("kind") is None:
            _log.error("an agent says what this hub does not understand: upgrade the hub", cluster=self.cluster)
            raise SessionOver

    async def _number(self, frame: f.SessionRequest) -> None:
        try:
            fresh = self._numbers.received(frame.seq)
        except OutOfOrderError as error:
            raise SessionOver from error
        if fresh:
            await self._taken.put(frame)
        else:
            self._ack_said = min(self._ack_said, frame.seq - 1)  # it did not hear the ack: say it again
            self._credits_owed += 1
            self._something.set()

    def _acked(self, number: int) -> None:
        try:
            news = self._numbers.acked(number)
        except OutOfOrderError as error:
            raise SessionOver from error
        for seq in news:
            for assignment in self._waiting_delivery.pop(seq, ()):
                self._delivered.put_nowait(assignment)
        if news:
            self._something.set()

    async def _take(self) -> None:
        while True:
            frame = await self._taken.get()
            await self._office.take(self.cluster, frame)
            self._stored = frame.seq
            self._credits_owed += 1
            self._something.set()

    async def _confirm(self) -> None:
        while True:
            await self._office.delivered(await self._delivered.get())

    async def _want(self) -> None:
        """Number what is wanted of the agent: all of it where the inventories differ, then every change."""
        async for change in self._assignments:
            if change.everything:
                self._want_all(change.assignments)
                continue
            for assignment in change.assignments:
                self._push(f.SessionResponse(assign=_as_needed(assignment)), [assignment])
            for removed in change.removed:
                self._push(f.SessionResponse(removed=removed), [])

    def _want_all(self, assignments: list[m.Assignment]) -> None:
        """What is not in the set is forgotten by the agent. A set too large for a frame follows on its members."""
        wanted = inventory_digest(
            (each.fragment.namespace, each.fragment.run, each.fragment.epoch, each.desired) for each in assignments
        )
        if wanted == self.hello.inventory:
            for assignment in assignments:
                self._delivered.put_nowait(assignment)
            return
        everything = f.AssignmentSet(assignments=[_as_needed(each) for each in assignments])
        if everything.ByteSize() > _SET_BYTES:
            for assignment in assignments:
                if assignment.desired not in _UNWANTED:
                    self._push(f.SessionResponse(assign=assignment), [])
            everything = f.AssignmentSet(assignments=[_named(each) for each in assignments])
        self._push(f.SessionResponse(assignments=everything), assignments)

    def _push(self, frame: f.SessionResponse, assignments: list[m.Assignment]) -> None:
        self._waiting_delivery[self._numbers.push(frame)] = assignments
        self._something.set()

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            async for frame in self._outgoing():
                try:
                    async with asyncio.timeout(_STALLED_SECONDS):
                        await connection.write(frame)
                except TimeoutError:
                    self._unread()
                    return

    async def _outgoing(self) -> AsyncIterator[f.SessionResponse]:
        """All that can go now. The ack rides on the first frame; alone if there is none."""
        while True:
            frames = [_numbered(frame, seq) for seq, frame in self._numbers.ready()]
            frames += self._soft
            self._soft.clear()
            frames += self._relayed
            self._relayed.clear()
            if not frames and (self._stored > self._ack_said or self._credits_owed):
                frames.append(f.SessionResponse())
            if not frames:
                return
            for frame in frames:
                frame.ack = self._stored
                frame.credits, self._credits_owed = self._credits_owed, 0
                self._ack_said = self._stored
                yield frame


def _as_needed(assignment: m.Assignment) -> m.Assignment:
    """Without the steps, where the agent is only to end the run: one that does not know it has nothing to end."""
    return _named(assignment) if assignment.desired in _UNWANTED else assignment


def _named(assignment: m.Assignment) -> m.Assignment:
    fragment = assignment.fragment
    name = m.Fragment(
        namespace=fragment.namespace,
        run=fragment.run,
        cluster=fragment.cluster,
        epoch=fragment.epoch,
        revision=fragment.revision,
    )
    return m.Assignment(fragment=name, desired=assignment.desired)


def _numbered(frame: f.SessionResponse, seq: int) -> f.SessionResponse:
    numbered = f.SessionResponse()
    numbered.CopyFrom(frame)
    numbered.seq = seq
    return numbered
