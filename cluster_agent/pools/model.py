"""What is known of a pool and of its nodes: the autoscaler's records of them, and what it is asked and says."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from cluster_agent.pools.ahead import Arriving
from cluster_agent.pools.backoff import Backoff
from cluster_agent.pools.measured import Measured

_UNMEASURED: Final = 1.0


@dataclass(slots=True, frozen=True)
class Limits:
    """What the step's author allows: warm minimum and maximum on the cluster (0 = as many as fit), idle seconds.

    `cpus` and `memory` (bytes) are a worker's. At most `step` workers are started within `pause` seconds (of
    a start-up, if 0); `step` 0: as many as are wanted. A pool of which each node has failed to start a worker so many
    `attempts` in a row can't be started.
    """

    minimum: int
    maximum: int
    idle: float
    cpus: float
    memory: int
    step: int = 0
    pause: float = 0.0
    attempts: int = 3


@dataclass(slots=True, frozen=True)
class Room:
    """A connected node: what it has, what of that is not given away, how many tasks of the definition it was given.

    `near` says how much of what will come is made there, in any measure.
    """

    cpus: float
    memory: int
    given: int
    free: float = 0.0
    near: float = 0.0


@dataclass(slots=True, frozen=True)
class Resize:
    """Tell this node to keep so many workers."""

    node: str
    workers: int


@dataclass(slots=True, frozen=True)
class Figures:
    """A pool as people see it."""

    definition: str
    desired: int
    starting: int
    idle: int
    busy: int
    queued: int
    service: float  # seconds; 0 = not measured yet
    start: float
    reason: str


@dataclass(slots=True)
class Need:
    """What one step of a run has for the pool: tasks that no node has, and what will come."""

    queued: int
    arriving: Arriving | None


@dataclass(slots=True)
class Node:
    """A node: how many workers it was told to keep, and how many it said that it has."""

    target: int = 0
    starting: int = 0
    idle: int = 0
    busy: int = 0
    raised: float = 0.0  # when the target rose last
    low_since: float | None = None  # since when less has been wanted
    highest: int = 0  # wanted since then
    backoff: Backoff = field(default_factory=Backoff)
    failed: int = 0  # starts in a row
    error: str = ""  # of the last
    full: bool = False  # it has no place for another one, as it says
    short: bool = False  # it has lost workers, and starts others when it is told again

    @property
    def warm(self) -> int:
        """Workers that are up."""
        return self.idle + self.busy

    @property
    def there(self) -> int:
        """All that it has."""
        return self.starting + self.idle + self.busy

    @property
    def have(self) -> int:
        """All that it has, or will have when it has done what it was told, as far as it can."""
        return self.there if self.full else max(self.target, self.there)


@dataclass(slots=True)
class Pool:
    """The workers of one definition on all nodes, and who needs them."""

    limits: Limits
    start: Measured
    service: Measured = field(default_factory=lambda: Measured(_UNMEASURED))
    needs: dict[Hashable, Need] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    may_start: int = 0  # where it grows in steps
    paused_until: float = 0.0
    spent: float = 0.0  # seconds that tasks took since the last look
    ended: int = 0  # tasks since then
    looked: float | None = None
    reason: str = ""

    @property
    def queued(self) -> int:
        """Tasks that no node has."""
        return sum(need.queued for need in self.needs.values())
