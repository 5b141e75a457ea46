"""What one tick of the driver puts into the log, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Sent(NamedTuple):
    """A message in the outbox, with the number that its destination's session gives it (from 1)."""

    destination: str
    seq: int
    body: bytes


class Position(NamedTuple):
    """How far a source's messages are durable here: the source's log (or incarnation) and its highest number."""

    log_id: bytes
    seq: int


@dataclass
class Batch:
    """Records, messages to others, and how far others' messages are dealt with: all of it or nothing."""

    records: bytes = b""
    """What the core's records of this tick are encoded as, all together: one row of the log."""
    count: int = 0
    """How many records these are."""
    outbox: list[tuple[str, bytes]] = field(default_factory=list)
    """(destination, body): numbered by the commit."""
    received: dict[str, Position] = field(default_factory=dict)
    """source -> the newest of its messages whose consequences are in `records`."""
    acked: dict[str, int] = field(default_factory=dict)
    """destination -> the number up to which it has acked: those rows go."""
    meta: dict[str, bytes] = field(default_factory=dict)
    """Small values that are replaced."""

    def __bool__(self) -> bool:
        return bool(self.records or self.outbox or self.received or self.acked or self.meta)
