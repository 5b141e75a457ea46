"""A node of this cluster as it is now: what it told of itself, and what it was given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cluster_agent.coordinator.fragment import SPLIT, Step
from cluster_agent.coordinator.messages import Place, RunKey
from cluster_agent.coordinator.nodes.claims import Hold

_ROUNDING: Final = 1e-9  # of processors


@dataclass(slots=True, eq=False)
class Node:
    """A node as it is now. Room is counted for the tasks that it was given, not for those that it happens to run."""

    name: str
    connected: bool = False
    incarnation: bytes = b""
    stream: int = 0
    cpus: float = 0.0
    memory: int = 0
    cordoned: bool = False
    disk_free: int = 0  # bytes, as it said last
    disk_size: int = 0  # 0 = not told
    promised: int = 0  # bytes that the tasks which it was given are expected to take
    full: bool = False  # a task that makes it fuller was held back
    place: Place = field(default_factory=lambda: Place("", ""))
    used_cpus: float = 0.0
    split_cpus: float = 0.0  # beside: splits may wait for what they are in the way of, so they are in nobody's
    used_memory: int = 0
    tasks: dict[tuple[RunKey, bytes], int] = field(default_factory=dict)  # -> bytes that it was promised
    running: dict[str, int] = field(default_factory=dict)  # definition -> tasks that it was given
    works: set[int] = field(default_factory=set)  # numbers of the works that it was told since it joined
    fetching: int = 0  # bytes that were sent for
    places: frozenset[str] = frozenset()  # shared ones that it reaches
    told_places: frozenset[str] = frozenset()  # those that others reach, too, as it was told
    holds: dict[RunKey, Hold] = field(default_factory=dict)  # what runs reserved here
    lost_at: float = 0.0
    written_off: bool = False  # away for so long that its tasks went to others

    @property
    def open(self) -> bool:
        """Whether it takes new tasks."""
        return self.connected and not self.cordoned

    def fits(self, step: Step) -> bool:
        """Whether it is large enough for a task of the step, if there is nothing beside."""
        return step.cpus <= self.cpus + _ROUNDING and step.memory <= self.memory

    def has_cpus(self, step: Step, depth: int = 1, before: int = 0) -> bool:
        """Whether `depth` times its processors are enough for one more of the step's tasks, behind `before` others."""
        used = self.used_cpus + (self.split_cpus if step.kind == SPLIT else 0.0)
        return used + (before + 1) * step.cpus <= self.cpus * depth + _ROUNDING


class Nodes(dict[str, Node]):
    """Nodes by name. One that never joined is there, and not connected, as soon as anything names it."""

    def __missing__(self, name: str) -> Node:
        node = self[name] = Node(name)
        return node
