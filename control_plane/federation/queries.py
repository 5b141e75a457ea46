"""Questions that only an agent can answer: asked over its session, answered by a stream of replies.

Each session owns one `Queries`; it ends with the session, and whoever still waits is told so. Replies wait for a slow
reader in a bounded queue. What does not fit is left out and counted, because the session that they come over also
carries the runs' own messages, which must not wait for a person's terminal.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from bdw_fed.v1 import federation_pb2 as f
from control_plane.federation.errors import AgentUnreachable

_REPLIES_WAITING = 1024


class _Asked:
    """One open question and the replies that have not been read yet."""

    def __init__(self) -> None:
        self.replies: deque[f.QueryReply] = deque()
        self.arrived = asyncio.Event()
        self.lost = False
        self.left_out_bytes = 0
        self.left_out_events = 0

    def put(self, reply: f.QueryReply) -> None:
        if len(self.replies) >= _REPLIES_WAITING and not reply.end:
            self.left_out_bytes += len(reply.logs.data)
            self.left_out_events += reply.HasField("events")
            return
        if self.left_out_bytes and reply.WhichOneof("kind") in ("logs", None):
            reply.logs.left_out += self.left_out_bytes
            self.left_out_bytes = 0
        if self.left_out_events and reply.WhichOneof("kind") in ("events", None):
            reply.events.event.left_out += self.left_out_events
            self.left_out_events = 0
        self.replies.append(reply)
        self.arrived.set()


class Queries:
    """The questions open with one agent. `send` puts a frame onto its session."""

    def __init__(self, cluster: str, send: Callable[[f.SessionResponse], None]) -> None:
        self._cluster = cluster
        self._send = send
        self._open: dict[int, _Asked] = {}
        self._next = 1
        self._closed = False

    async def ask(self, query: f.Query) -> AsyncGenerator[f.QueryReply]:
        """The replies, the last of which has `end` set. AgentUnreachable if the session ends before.

        Leaving the iteration early (`aclose`) tells the agent to stop.
        """
        if self._closed:
            raise AgentUnreachable(f"{self._cluster} is not connected")
        number, self._next = self._next, self._next + 1
        asked = self._open[number] = _Asked()
        sent = f.Query()
        sent.CopyFrom(query)
        sent.id = number
        self._send(f.SessionResponse(query=sent))
        ended = False
        try:
            while not ended:
                await asked.arrived.wait()
                while asked.replies and not ended:
                    reply = asked.replies.popleft()
                    ended = reply.end
                    yield reply
                if asked.lost and not ended:
                    raise AgentUnreachable(f"{self._cluster} went away while it answered")
                asked.arrived.clear()
        finally:
            del self._open[number]
            if not ended and not self._closed:
                self._send(f.SessionResponse(query_cancel=f.QueryCancel(id=number)))

    def replied(self, reply: f.QueryReply) -> None:
        """A reply came; one to a question that nobody waits for any more is dropped."""
        if asked := self._open.get(reply.id):
            asked.put(reply)

    def close(self) -> None:
        """The session has ended."""
        self._closed = True
        for asked in self._open.values():
            asked.lost = True
            asked.arrived.set()
