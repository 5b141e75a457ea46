"""What a federation's links carry, on virtual time: words at their latency, bytes one transfer after the other.

    coordinator ─ word ─▶ coordinator        node ─ carry ─▶ node

Without a topology all clusters are equally near, and bytes take no longer than words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from simulator.clock import Clock
from topology.model import Topology
from topology.questions import Questions

LINK_SECONDS = 0.01  # between hub and agent; between clusters where no topology says otherwise
_HANDLED_SECONDS = 0.001  # until a word that has arrived is in the log and answered
_NODE_SECONDS = 0.001  # between nodes of a cluster
_NODE_BANDWIDTH = 125e6


class Links:
    """The ways between clusters, and within them. `crossed` counts bytes by (from, to)."""

    def __init__(self, clock: Clock, topology: Topology | None) -> None:
        self.crossed: Counter[tuple[str, str]] = Counter()
        self._clock = clock
        self._questions = Questions(topology) if topology is not None else None
        self._free_at: dict[tuple[str, str], float] = {}

    def word(self, sender: str, receiver: str) -> float:
        """Seconds that a message takes."""
        if self._questions is None:
            return LINK_SECONDS
        return self._questions.latency(sender, receiver) + _HANDLED_SECONDS

    def carry(self, sender: str, receiver: str, size: int, then: Callable[[float], None]) -> None:
        """Bytes go from node to node; `then` is told how long that took from now."""
        if sender == receiver:
            seconds = _NODE_SECONDS + size / _NODE_BANDWIDTH
        elif self._questions is None:
            seconds = 2 * LINK_SECONDS
        else:
            begins = max(self._clock.now, self._free_at.get((sender, receiver), 0.0))
            ends = begins + size / self._questions.bandwidth(sender, receiver)
            self._free_at[sender, receiver] = ends
            seconds = ends - self._clock.now + 2 * self._questions.latency(sender, receiver)
        if sender != receiver:
            self.crossed[sender, receiver] += size
        self._clock.after(seconds, lambda: then(seconds))
