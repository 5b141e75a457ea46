"""How many slots a plan reserves: for each step on each cluster that executes it.

A step wants as many as it has units there, but no more than its pool may have workers, and at least one. Where not all
of that fits on the cluster's nodes, each step gets one as long as there is room, the largest first, and what is left is
dealt out in turns. A step that gets none uses the slots of the run's other steps; where none of these is large enough,
as much is reserved besides as is missing. So one task of each step can always run, whatever other runs do, and that is
what keeps runs that hold slots from waiting for each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.base import World
from control_plane.planner.graph import Vertex
from topology.packing import LIGHT_CPUS, Room, Want, take

_MOST_SLOTS = 1024  # of a step on a cluster


def reserve(steps: Iterable[tuple[Vertex, m.StepPlan]], world: World) -> None:
    """Write into each share of the plan how many slots are reserved there."""
    by_cluster: dict[str, list[tuple[m.Share, Want]]] = {}
    for vertex, planned in steps:
        if vertex.kind not in ("step", "split", "merge"):
            continue
        size = vertex.step.resources
        for share in planned.shares:
            want = Want(size.cpus or LIGHT_CPUS, float(size.memory), _most(vertex, planned, share))
            by_cluster.setdefault(share.cluster, []).append((share, want))
    for cluster, wishes in by_cluster.items():
        nodes = world.nodes(cluster)
        free = {str(index): Room(cpus, memory or math.inf) for index, (cpus, memory) in enumerate(nodes)}
        taken = take(free, [want for _, want in wishes])
        for (share, want), slots in zip(wishes, taken.slots, strict=True):
            share.slots = len(slots) if nodes else min(want.most, 1)  # where no node is known, we hope for the best


def _most(vertex: Vertex, planned: m.StepPlan, share: m.Share) -> int:
    if vertex.kind != "step":
        return 0  # it is done before the others have much to do, or after them, and uses their slots
    units = math.ceil(share.share * planned.expected_units - 1e-6)
    return max(1, min(units, vertex.step.pool.max or _MOST_SLOTS, _MOST_SLOTS))
