"""The driver's door: where streams, timers and sessions put what happened, and wait while there is no room.

It stands apart from the driver because those who fill it are also those to whom the driver speaks.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cluster_agent.coordinator.actions import SendHub
from cluster_agent.coordinator.messages import Event

_QUEUE = 4_096


class Mark(NamedTuple):
    """The number that a source gave to a message: durable once the message's consequences are."""

    source: str
    log_id: bytes
    seq: int


class Renumber(NamedTuple):
    """Number the outbox of a destination anew from `first`."""

    destination: str
    first: int


class Intake:
    """A bounded queue with one reader, the driver. Writers `submit`, then await `room` before they read on."""

    def __init__(self, limit: int = _QUEUE) -> None:
        self.queue: deque[tuple[Event | Renumber | SendHub | None, Mark | None]] = deque()
        self.wake = asyncio.Event()
        self._limit = limit
        self._room = asyncio.Event()
        self._room.set()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._acked: dict[str, int] = {}
        self._kept: dict[str, bytes] = {}
        self._progress_asked = False
        self.acks_awaited = False  # whether the driver wants to know of them at once

    def submit(self, event: Event | None, mark: Mark | None = None) -> None:
        """Something happened; `mark` numbers it if it is a message of a session (no event: a mark alone)."""
        self.queue.append((event, mark))
        if len(self.queue) >= self._limit:
            self._room.clear()
        self.wake.set()

    async def room(self) -> None:
        """Returns when more may be submitted."""
        await self._room.wait()

    async def ask(self, asked: Callable[[int], Event]) -> bytes:
        """Have the event of a number handled that is answered (`Answered`), once what follows from it is in the log."""
        number = next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self.submit(asked(number))
            return await answer
        finally:
            del self._asked[number]

    @property
    def full(self) -> bool:
        """Whether there is no room now: what may be lost is dropped then."""
        return not self._room.is_set()

    def taken(self) -> None:
        """The driver took something out."""
        if len(self.queue) <= self._limit // 2:
            self._room.set()

    def acked(self, destination: str, seq: int) -> None:
        """The destination has everything up to `seq`: its rows go with the next commit."""
        self._acked[destination] = seq
        if self.acks_awaited:
            self.wake.set()

    def keep(self, name: str, value: bytes) -> None:
        """A small value to have after a restart: goes with the next commit, which is soon."""
        self._kept[name] = value
        self.wake.set()

    def renumber(self, destination: str, first: int) -> None:
        """The destination counts otherwise; its carrier's `renumbered` is called when the outbox follows."""
        self.queue.append((Renumber(destination, first), None))
        self.wake.set()

    def say(self, message: SendHub) -> None:
        """Something for the hub that the core has said once and need not know that it is said again."""
        self.queue.append((message, None))
        self.wake.set()

    def ask_progress(self) -> None:
        """The hub may have missed what it was told: tell it the counters of all runs."""
        self._progress_asked = True
        self.wake.set()

    # ------------------------------------------------------------------------------- for the driver

    def answer(self, number: int, answer: bytes) -> None:
        """To whom asked, if somebody still waits for it."""
        asked = self._asked.get(number)
        if asked is not None and not asked.done():
            asked.set_result(answer)

    @property
    def acks(self) -> Mapping[str, int]:
        """What was acked since `take_acked`."""
        return self._acked

    def take_acked(self) -> dict[str, int]:
        """What was acked since the last call."""
        acked, self._acked = self._acked, {}
        return acked

    def forget_acked(self, destination: str) -> None:
        """Its numbers mean nothing any more."""
        self._acked.pop(destination, None)

    @property
    def has_kept(self) -> bool:
        """Whether a value waits for a commit."""
        return bool(self._kept)

    def take_kept(self) -> dict[str, bytes]:
        """The values to keep since the last call."""
        kept, self._kept = self._kept, {}
        return kept

    def take_progress_asked(self) -> bool:
        """Whether the counters of all runs are asked for."""
        asked, self._progress_asked = self._progress_asked, False
        return asked
