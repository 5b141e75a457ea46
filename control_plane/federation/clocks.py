"""How far the wall clocks of agents are from ours, pure: shown to people, and nothing is decided by it.

A heartbeat says what the agent's clock showed when it left; on its way it grows old. So each difference is too low by
the time that its heartbeat took, and none is too high: the highest of the last few is the nearest to the truth, wrong
by no more than the quickest of them took.
"""

from __future__ import annotations

from collections import deque

_LAST = 12  # heartbeats


class Clocks:
    """Of all agents that are connected here."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}

    def heard(self, cluster: str, theirs: float, ours: float) -> None:
        """A heartbeat that left at `theirs` by the agent's clock came at `ours`."""
        self._seen.setdefault(cluster, deque(maxlen=_LAST)).append(theirs - ours)

    def ahead(self, cluster: str) -> float | None:
        """Seconds that the agent's clock is ahead of ours; None: not known."""
        seen = self._seen.get(cluster)
        return max(seen) if seen else None

    def forget(self, cluster: str) -> None:
        """The agent is gone; who comes next may have another clock."""
        self._seen.pop(cluster, None)
