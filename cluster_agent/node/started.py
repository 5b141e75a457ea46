"""Which tasks run for a while: only of those it is told that they have started, of the others just their end.

Now and then somebody looks, as long as there is something to see. What is seen for the second time is told; and a
worker that is at a task for long is relieved of those behind it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from cluster_agent.node.core import NodeCore
from cluster_agent.node.executions import Executions
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.outbox import Outbox
from cluster_agent.node.small import SmallTasks

_LOOK_SECONDS: Final = 0.002


class Started:
    """Looks at what runs, and tells the outbox. `close` it at the end."""

    def __init__(self, core: NodeCore, executions: Executions, small: SmallTasks, outbox: Outbox) -> None:
        self._core = core
        self._executions = executions
        self._small = small
        self._outbox = outbox
        self._seen: dict[TaskKey, bool] = {}  # tasks that ran when we looked last, and whether that was told
        self._timer: asyncio.TimerHandle | None = None

    def look_soon(self) -> None:
        """Something has begun."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def tell_anew(self) -> None:
        """Nobody has heard yet what runs."""
        self._seen.clear()
        self.look_soon()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        seen: dict[TaskKey, bool] = {}
        for key in (*self._executions.keys(), *self._small.current(now)):
            told = self._seen.get(key)
            if told is False and self._core.wants(key):
                self._outbox.started(key)
                told = True
            seen[key] = bool(told)
        self._seen = seen
        self._small.relieve(now)
        if self._small.any or not all(seen.values()):
            self.look_soon()
