"""Small units that are wanted from one server while it answers are asked for together, with its next request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from cluster_agent.data.transfer import many
from cluster_agent.data.transfer.arrival import Arrival

_BATCH_BYTES: Final = 2 << 20
_REQUESTS_AT_ONCE: Final = 2  # to a server: it collects the next while we store the last

_Server = tuple[str, str]  # address and name


class Batches:
    """What waits to be asked for, by server. `ask` is one request. `close` it."""

    def __init__(self, ask: Callable[[list[Arrival]], Awaitable[None]]) -> None:
        self._ask = ask
        self._waiting: dict[_Server, deque[Arrival]] = {}
        self._asking: dict[tuple[_Server, int], asyncio.Task[None]] = {}

    def add(self, arrival: Arrival) -> None:
        """Ask for a small unit with the next request to its first server."""
        source = arrival.sources[0]
        server = (source.address, source.server_name)
        arrival.queued = True
        self._waiting.setdefault(server, deque()).append(arrival)
        for lane in range(_REQUESTS_AT_ONCE):
            if (server, lane) not in self._asking:
                self._asking[server, lane] = asyncio.create_task(self._ask_all(server, lane))
                break

    async def close(self) -> None:
        """Ask for nothing more."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _ask_all(self, server: _Server, lane: int) -> None:
        """Get what is wanted from a server, and what is wanted from it meanwhile."""
        try:
            while batch := self._next(server):
                await self._ask(batch)
        finally:
            del self._asking[server, lane]

    def _next(self, server: _Server) -> list[Arrival]:
        """What is asked for with one request: little enough that a slow line brings it, and a cut costs little."""
        waiting = self._waiting.get(server, deque())
        batch: list[Arrival] = []
        size = 0
        while waiting and len(batch) < many.AT_ONCE and (not batch or size + waiting[0].size <= _BATCH_BYTES):
            batch.append(waiting.popleft())
            size += batch[-1].size
        if not waiting:
            self._waiting.pop(server, None)
        return batch
