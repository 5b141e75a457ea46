"""Tells the hub the counters of runs as they change: of each run at once, and then no more often than people read them.

An end is told without delay. What is told here may get lost: what must not is said in the log's outbox.
"""

from __future__ import annotations

import asyncio

from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.outgoing import END_STATES
from cluster_agent.coordinator.ports import Core, Progress

_SECONDS = 0.2


class Counters:
    """A part of the driver, which says whose counters have changed."""

    def __init__(self, core: Core, progress: Progress) -> None:
        self._core = core
        self._progress = progress
        self._told: dict[RunKey, float] = {}  # when the hub was told of it last
        self._timers: dict[RunKey, asyncio.TimerHandle] = {}
        self._loop = asyncio.get_running_loop()

    def changed(self, run: RunKey) -> None:
        """Tell the hub: now if it has not been told just now, or if the fragment has ended."""
        if run in self._timers:
            return
        try:
            status = self._core.status(run)
        except KeyError:  # forgotten since
            self._told.pop(run, None)
            return
        now = self._loop.time()
        due = self._told.get(run, now - _SECONDS) + _SECONDS
        if status.state in END_STATES:
            self._told.pop(run, None)
            self._progress.progress(status)
        elif now >= due:
            self._told[run] = now
            self._progress.progress(status)
        else:
            self._timers[run] = self._loop.call_at(due, self._due, run)

    def close(self) -> None:
        """Nothing is told any more."""
        for timer in self._timers.values():
            timer.cancel()

    def _due(self, run: RunKey) -> None:
        del self._timers[run]
        self.changed(run)
