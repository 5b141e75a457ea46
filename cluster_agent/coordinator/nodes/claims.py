"""What a run holds on the nodes of its cluster: slots for its steps, and what of that its own tasks use.

A claim is derived: from a fragment that reserves, as long as it has not ended, or from a half (see `reserving`), as
long as it lives. `holding` places claims on nodes and says who may use which room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cluster_agent.coordinator.fragment import Graph
from cluster_agent.coordinator.messages import RunKey
from topology.packing import Room, Want

LEND: Final = "lend"
RESERVING: Final = frozenset(("hold", LEND))


@dataclass(slots=True, eq=False)
class Hold:
    """What a run holds on one node, and what those of its tasks need that the node was given."""

    lend: bool
    held: Room = field(default_factory=Room)
    used: Room = field(default_factory=Room)

    @property
    def idle(self) -> Room:
        """What is held and not used."""
        return Room(max(0.0, self.held.cpus - self.used.cpus), max(0.0, self.held.memory - self.used.memory))


@dataclass(slots=True, eq=False)
class StepClaim:
    """The slots that one step wants, and the nodes of those that were found."""

    index: int
    name: str
    definition: str
    pool_max: int
    want: Want
    nodes: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Claim:
    """All that a run holds on this cluster."""

    run: RunKey
    lend: bool  # what is idle may be used by others
    half: bool  # not committed yet
    steps: list[StepClaim]
    whole: bool = False  # all slots were found


def claim_of(graph: Graph, *, half: bool) -> Claim:
    """What a fragment claims on the cluster from which it is seen; nothing of it is placed yet."""
    steps = [
        StepClaim(
            step.index, step.name, step.definition, step.pool_max, Want(step.cpus, float(step.memory), step.slots)
        )
        for step in graph.steps
        if step.here and step.placed
    ]
    return Claim(RunKey(graph.namespace, graph.run), graph.reserve == LEND, half, steps)


def in_words(slots: Iterable[tuple[str, int]]) -> str:
    """Slots by step as people read them: "2 of clean and 1 of join"."""
    found = [f"{count} of {step}" for step, count in slots if count]
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
