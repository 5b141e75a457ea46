"""What a node has for its workers, and how much of it is in use: how the node core counts processors and memory.

An admitted task uses what its step asks for until it has left its worker, a busy worker once for all of its small
jobs. One task is always admitted, also where it asks for more than the node has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cluster_agent.node.messages import PoolSpec

ROUNDING: Final = 1e-9


class Capacity:
    """`cpus` processors and `memory` bytes (0 = not counted), and what is left of them.

    `held`: workers hold what their step asks for as long as they live, also without a task, as pods do. A node that is
    `cordoned` begins nothing more.
    """

    def __init__(self, cpus: float, memory: int, *, held: bool) -> None:
        self.held = held
        self.cordoned = False
        self._cpus = cpus
        self._memory = memory
        self._admitted = 0  # tasks without a worker, and workers with tasks
        self._used_cpus = 0.0
        self._used_memory = 0

    def change(self, cpus: float, memory: int, cordoned: bool) -> bool:
        """The node has so much from now on; whether that is more than before."""
        more = cpus > self._cpus or memory > self._memory or (self.cordoned and not cordoned)
        self._cpus, self._memory, self.cordoned = cpus, memory, cordoned
        return more

    def is_large_enough(self, spec: PoolSpec) -> bool:
        """Whether the node, with nothing else on it, has room for a task."""
        return spec.cpus <= self._cpus + ROUNDING and not 0 < self._memory < spec.memory

    def fits(self, spec: PoolSpec) -> bool:
        """Whether a task may be admitted beside those that are."""
        if self._admitted == 0:
            return True
        if self._used_cpus + spec.cpus > self._cpus + ROUNDING:
            return False
        return not self._memory or self._used_memory + spec.memory <= self._memory

    def take(self, spec: PoolSpec) -> None:
        """A task was admitted."""
        self._admitted += 1
        self._used_cpus += spec.cpus
        self._used_memory += spec.memory

    def release(self, spec: PoolSpec) -> None:
        """It is not admitted any more, or its worker has no task any more."""
        self._admitted -= 1
        self._used_cpus = self._used_cpus - spec.cpus if self._admitted else 0.0
        self._used_memory -= spec.memory

    def fits_beside(self, held: Iterable[PoolSpec], spec: PoolSpec) -> bool:
        """Whether a worker has a place beside others that hold what they ask for."""
        held = list(held)
        if held and sum(each.cpus for each in held) + spec.cpus > self._cpus + ROUNDING:
            return False
        return not (held and self._memory) or sum(each.memory for each in held) + spec.memory <= self._memory
