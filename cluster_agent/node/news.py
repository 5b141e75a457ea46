"""What is told of pools: how many workers start, are idle and busy, once for all that has changed since it was told.

Whoever sends asks for it when it can; what changes meanwhile is told as one.
"""

from __future__ import annotations

from bdw_fed.v1 import node_pb2
from cluster_agent.node.core import NodeCore
from cluster_agent.node.messages import PoolChanged
from cluster_agent.node.workers import Workers


class PoolNews:
    """The pools of which there is something to tell."""

    def __init__(self, core: NodeCore, workers: Workers) -> None:
        self._core = core
        self._workers = workers
        self._changed: dict[str, PoolChanged] = {}

    @property
    def any(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._changed)

    def changed(self, change: PoolChanged) -> None:
        """A pool's numbers have changed."""
        if change.error or change.start_seconds:
            self._changed[change.pool] = change
        else:
            self._changed.setdefault(change.pool, change)

    def all_changed(self) -> None:
        """All are news again: the agent is new to us."""
        for pool in self._workers.pools():
            self.changed(PoolChanged(pool))

    def take(self) -> list[node_pb2.NodeMessage]:
        """What there is to tell, which is told then."""
        changes = list(self._changed.values())
        self._changed.clear()
        return [node_pb2.NodeMessage(workers=self._told(change)) for change in changes]

    def _told(self, change: PoolChanged) -> node_pb2.WorkersChanged:
        starting, idle, busy = self._core.counts(change.pool)
        return node_pb2.WorkersChanged(
            step=self._workers.definition(change.pool),
            starting=starting,
            idle=idle,
            busy=busy,
            start_seconds=change.start_seconds,
            error=change.error.partition("\0")[0],
            full=self._core.is_full(change.pool),
            final=change.final,
        )
