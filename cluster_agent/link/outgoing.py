"""What waits for the connection to the hub: numbered frames, and soft ones of which often only the newest counts.

Counters and heartbeats replace what was not sent yet. Replies wait for room, so that a long log does not fill the
memory. Relayed frames are dropped beyond a bound, for the peers' own session sends them again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from bdw_fed.v1.federation_pb2 import Heartbeat, PeerRelay, QueryReply, SessionRequest
from bdw_fed.v1.model_pb2 import FragmentStatus
from wire.session.core import Session

_REPLIES = 64
_RELAYED = 1_024


class Outgoing:
    """The agent's half of the session's frames. Lives as long as the agent; connections come and go."""

    def __init__(self, unacked: Sequence[tuple[int, bytes]], next_seq: int, received: int) -> None:
        self.session = Session[bytes].restore(unacked, next_seq, received)
        self.connected = False
        self._heartbeat: Heartbeat | None = None
        self._progress: dict[tuple[str, str], FragmentStatus] = {}
        self._replies: deque[QueryReply] = deque()
        self._relayed: deque[PeerRelay] = deque()
        self._durable = received
        self._ack_said = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def acked(self) -> int:
        """The number up to which the hub has acked."""
        return self.session.next_seq - 1 - self.session.unacked

    def open(self, received: int, credits: int) -> None:
        """The hub is there, and has everything up to `received`."""
        self.session.reconnected(received, credits=credits)
        self._ack_said = 0
        self.connected = True
        self._wake.set()

    def close(self) -> None:
        """It is not there any more: what is soft is lost."""
        self.connected = False
        self.session.disconnected()
        self._heartbeat = None
        self._progress.clear()
        self._replies.clear()
        self._relayed.clear()
        self._room.set()

    def renumbered(self, messages: Sequence[tuple[int, bytes]], following: int) -> None:
        """The outbox has these numbers now. The connection is not open."""
        self.session = Session[bytes].restore(messages, following, self.session.received_seq)

    def restart_incoming(self) -> None:
        """Another hub: it counts from 1."""
        self.session.resume_after(0)
        self._durable = 0

    def say_ack_again(self) -> None:
        """The hub did not hear our ack."""
        self._ack_said = 0
        self._wake.set()

    def wake(self) -> None:
        """Something in the session has changed."""
        self._wake.set()

    def durable(self, seq: int) -> None:
        """What the hub said up to `seq` is in the log."""
        self._durable = seq
        self._wake.set()

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """The cluster's newest state."""
        self._heartbeat = heartbeat
        self._wake.set()

    def progress(self, status: FragmentStatus) -> None:
        """A run's newest counters."""
        if self.connected:
            self._progress[status.namespace, status.run] = status
            self._wake.set()

    def relay(self, relay: PeerRelay) -> None:
        """A frame for a peer."""
        if self.connected and len(self._relayed) < _RELAYED:
            self._relayed.append(relay)
            self._wake.set()

    async def reply(self, reply: QueryReply) -> None:
        """A part of an answer. Waits for room."""
        await self._room.wait()
        self._replies.append(reply)
        if len(self._replies) >= _REPLIES:
            self._room.clear()
        self._wake.set()

    async def frames(self) -> AsyncIterator[SessionRequest]:
        """What can go, again and again, until the caller stops."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for frame in self._ready():
                frame.ack = self._ack_said = self._durable
                yield frame

    def _ready(self) -> list[SessionRequest]:
        frames = []
        for seq, body in self.session.ready():
            frame = SessionRequest.FromString(body)
            frame.seq = seq
            frames.append(frame)
        frames += [SessionRequest(progress=status) for status in self._progress.values()]
        frames += [SessionRequest(relay=relay) for relay in self._relayed]
        frames += [SessionRequest(reply=reply) for reply in self._replies]
        if self._heartbeat is not None:
            frames.append(SessionRequest(heartbeat=self._heartbeat))
            self._heartbeat = None
        self._progress.clear()
        self._relayed.clear()
        self._replies.clear()
        self._room.set()
        if not frames and self._durable > self._ack_said:
            frames.append(SessionRequest())
        return frames
