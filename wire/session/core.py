"""One end of a session, pure: numbers, cumulative acks, sending again, credits. Payloads are opaque.

A payload gets its number with `push`, when it is made durable; `ready` says what may go onto the connection now;
`acked` forgets what the other end has made durable. On the way in, `received` tells a new payload from a duplicate.
The driver keeps unacked payloads and the number received on disk, and gives them back with `restore`.

    push → waiting ──ready──▶ in flight ──acked──▶ gone
                     ▲            │
                     └─reconnected┘  (what the other end had not made durable goes again)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

P = TypeVar("P")


class OutOfOrderError(Exception):
    """A number was skipped: something is wrong at the other end, and the connection must be made anew."""


class Session(Generic[P]):
    """One end of a session with payloads of type P. Numbers start at 1."""

    def __init__(self, *, window: int = 1024) -> None:
        self._window = window
        self._credits: int | None = None  # None: bounded by the window alone
        self._unacked: deque[tuple[int, P]] = deque()
        self._in_flight = 0  # how many at the head of _unacked have been given to the connection
        self._next = 1
        self._acked = 0
        self._received = 0
        self._ack_said = 0
        self._connected = False

    @classmethod
    def restore(
        cls, unacked: Iterable[tuple[int, P]], next_seq: int, received: int, *, window: int = 1024
    ) -> Session[P]:
        """The session as its durable values say: payloads not acked, the next number, the highest one received."""
        session = cls(window=window)
        session._unacked.extend(unacked)
        session._next = next_seq
        session._acked = session._unacked[0][0] - 1 if session._unacked else next_seq - 1
        session._received = received
        return session

    @property
    def next_seq(self) -> int:
        """The number that the next payload will get."""
        return self._next

    @property
    def received_seq(self) -> int:
        """The highest number received in order."""
        return self._received

    @property
    def unacked(self) -> int:
        """How many payloads are not acked yet: what a producer looks at to slow down."""
        return len(self._unacked)

    def push(self, payload: P) -> int:
        """Give `payload` the next number."""
        seq = self._next
        self._next += 1
        self._unacked.append((seq, payload))
        return seq

    def ready(self) -> list[tuple[int, P]]:
        """What may be sent now; it counts as sent. Nothing while disconnected."""
        if not self._connected:
            return []
        room = self._window - self._in_flight
        if self._credits is not None:
            room = min(room, self._credits)
        count = min(room, len(self._unacked) - self._in_flight)
        if count <= 0:
            return []
        sent = [self._unacked[index] for index in range(self._in_flight, self._in_flight + count)]
        self._in_flight += count
        if self._credits is not None:
            self._credits -= count
        return sent

    def acked(self, number: int) -> list[int]:
        """The other end has made everything up to `number` durable. Returns the numbers that this was news of."""
        if number >= self._next:
            raise OutOfOrderError(f"{number} was acked, but {self._next - 1} is the newest ever sent")
        news = []
        while self._unacked and self._unacked[0][0] <= number:
            news.append(self._unacked.popleft()[0])
            if self._in_flight:
                self._in_flight -= 1
        self._acked = max(self._acked, number)
        return news

    def received(self, seq: int) -> bool:
        """Whether `seq` is the next in order (True) or a duplicate (False). OutOfOrderError on a gap."""
        if seq <= self._received:
            return False
        if seq != self._received + 1:
            raise OutOfOrderError(f"got {seq} after {self._received}")
        self._received = seq
        return True

    def resume_after(self, seq: int) -> None:
        """The next payload in is `seq` + 1: the other end is a new one, or has no more what was before."""
        self._received = seq
        self._ack_said = min(self._ack_said, seq)

    @property
    def ack_due(self) -> int | None:
        """The number to ack, if the other end does not know it yet. Call `ack_said` when it has been sent."""
        return self._received if self._received > self._ack_said else None

    def ack_said(self, number: int) -> None:
        """An ack up to `number` went onto the connection."""
        self._ack_said = max(self._ack_said, number)

    def credit(self, more: int) -> None:
        """The other end can take `more` payloads."""
        self._credits = (self._credits or 0) + more

    def reconnected(self, peer_received: int, *, credits: int | None = None) -> None:
        """A new connection, at whose other end everything up to `peer_received` is durable. The rest goes again."""
        self.acked(peer_received)
        self._in_flight = 0
        self._credits = credits
        self._connected = True
        self._ack_said = 0

    def disconnected(self) -> None:
        """The connection is gone; `push` goes on."""
        self._connected = False
        self._in_flight = 0
