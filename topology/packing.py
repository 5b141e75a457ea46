"""Slots on nodes: how many tasks of which sizes fit side by side, and where.

The planner asks it of a cluster that is empty, the coordinator of one on which others hold slots already; because both
ask here, what was planned for an empty cluster fits on it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

LIGHT_CPUS: Final = 0.1  # what a task that asks for no processor is taken to need, so that a node's room stays finite
_EPSILON: Final = 1e-9


@dataclass(slots=True)
class Room:
    """Processors and bytes of memory."""

    cpus: float = 0.0
    memory: float = 0.0

    def fits(self, cpus: float, memory: float) -> bool:
        """Whether so much is within it."""
        return cpus <= self.cpus + _EPSILON and memory <= self.memory

    def add(self, cpus: float, memory: float) -> None:
        """Make it larger, or smaller."""
        self.cpus += cpus
        self.memory += memory


@dataclass(slots=True)
class Want:
    """`most` slots of this size for one step; 0: none of its own, it uses what the run has besides."""

    cpus: float
    memory: float
    most: int


@dataclass(slots=True)
class Taken:
    """What a run got: for each want the nodes of its slots, and room besides for those without any."""

    slots: list[list[str]]
    besides: list[tuple[int, str, Room]] = field(default_factory=list)  # want, node, how much
    lacking: list[int] = field(default_factory=list)  # wants without a slot that fit into nothing that was taken


def take(free: Mapping[str, Room], wanted: Sequence[Want]) -> Taken:
    """Take slots on nodes, of which `free` says what nobody else has.

    One for each want, the largest first; then what those without a slot need, so that one task of each can run on what
    was taken; then, in turns, the rest, each on the node with the most room.
    """
    left = {name: Room(room.cpus, room.memory) for name, room in free.items()}
    ours = {name: Room() for name in free}
    taken = Taken([[] for _ in wanted])

    def put(node: str, cpus: float, memory: float) -> None:
        left[node].add(-cpus, -memory)
        ours[node].add(cpus, memory)

    def one(index: int) -> bool:
        want = wanted[index]
        fitting = [name for name, room in left.items() if room.fits(want.cpus, want.memory)]
        if not fitting:
            return False
        node = max(fitting, key=lambda name: (left[name].cpus, left[name].memory))
        put(node, want.cpus, want.memory)
        taken.slots[index].append(node)
        return True

    largest_first = sorted(range(len(wanted)), key=lambda index: (-wanted[index].cpus, -wanted[index].memory))
    growing = [index for index in largest_first if wanted[index].most and one(index)]
    for index in largest_first:
        if not taken.slots[index]:
            want = wanted[index]
            more = {
                name: Room(max(0.0, want.cpus - room.cpus), max(0.0, want.memory - room.memory))
                for name, room in ours.items()
            }
            fitting = [name for name, room in more.items() if left[name].fits(room.cpus, room.memory)]
            if not fitting:
                taken.lacking.append(index)
                continue
            node = min(fitting, key=lambda name: (more[name].cpus, more[name].memory))
            put(node, more[node].cpus, more[node].memory)
            taken.besides.append((index, node, more[node]))
    while growing:
        growing = [index for index in growing if len(taken.slots[index]) < wanted[index].most and one(index)]
    return taken
