"""Making a write stay that an old etcd has acknowledged too early.

An etcd before 3.5.5 that is the only member answers before the write is in its log; killed at that moment, it forgets
(etcd's issue 14370). It takes up its next batch of requests only when the writes of the one before are in the log,
though, and a read that all members agree on goes through such a batch. So once such a read, sent after the write was
answered, is answered as well, the write stays: if it was the same etcd that answered both. One that was started anew
says so by its term, which every start counts up. One such read serves all that were answered before it was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Settler:
    """Shares second requests. `ask` sends one and returns the term of the etcd that answered it."""

    def __init__(self, ask: Callable[[], Awaitable[int]]) -> None:
        self._ask = ask
        self._current: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    async def settled(self, term: int) -> bool:
        """Whether what was answered in this term, before this call, stays. Raises what the second request raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._follow(self._current))
        return await asyncio.shield(self._next) == term

    async def _follow(self, before: asyncio.Task[int] | None) -> int:
        if before is not None:
            await asyncio.wait([before])
        self._current, self._next = self._next, None  # who comes from here on needs a later one
        return await self._ask()
