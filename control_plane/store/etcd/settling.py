"""Making a write stay that an old etcd has acknowledged too early.

An etcd before 3.5.5 that is the only member answers before the write is in its log; killed at that moment, it forgets
(etcd's issue 14370). It takes up the next batch of writes only when the one before is in the log, though. So once a
second write, sent after the first was answered, is answered as well, the first stays. One such second write serves all
that were answered before it was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Settler:
    """Shares second writes. `write` sends one and returns when it is answered."""

    def __init__(self, write: Callable[[], Awaitable[None]]) -> None:
        self._write = write
        self._current: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def settled(self) -> None:
        """Returns when all that was answered before this call stays. Raises what the second write raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._follow(self._current))
        await asyncio.shield(self._next)

    async def _follow(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._current, self._next = self._next, None  # who comes from here on needs a later one
        await self._write()
