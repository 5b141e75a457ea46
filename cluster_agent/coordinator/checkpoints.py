"""The log's checkpoints: what is in its WAL is written where it belongs, in a thread, while commits go on."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from cluster_agent.log import CoordinatorLog

_log = structlog.get_logger(__name__)


class Checkpoints:
    """A part of the driver, which asks for one after each commit."""

    def __init__(self, log: CoordinatorLog) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._going_on: asyncio.Future[None] | None = None

    def begin_if_due(self) -> None:
        """Begin one if the WAL got long, and none goes on."""
        if self._log.checkpoint_due and self._going_on is None:
            self._log.checkpoint_started()
            self._going_on = asyncio.get_running_loop().run_in_executor(self._thread, self._log.checkpoint)
            self._going_on.add_done_callback(self._done)

    async def close(self) -> None:
        """Wait for the one that goes on."""
        if self._going_on is not None:
            await asyncio.gather(self._going_on, return_exceptions=True)
        self._thread.shutdown()

    def _done(self, future: asyncio.Future[None]) -> None:
        self._going_on = None
        if error := future.exception():
            # The WAL has everything: a commit will fail if the disk really is full.
            _log.warning("the log's checkpoint failed", error=str(error))
