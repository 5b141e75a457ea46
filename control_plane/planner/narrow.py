"""Units that are expected to be larger than all that a run may store on a cluster, by its quota or its namespace's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from control_plane.planner.base import Request
from control_plane.planner.estimate import Estimate
from control_plane.planner.graph import Graph
from control_plane.planner.sources import Data
from topology.quantity import format_size


def narrow(
    request: Request, graph: Graph, data: Data, estimate: Estimate, executors: Mapping[str, list[str]]
) -> Iterator[str]:
    """Warnings: each step that makes such units, and each file of a dataset that must cross as it is."""
    own = request.workflow.spec.policy.quota
    quotas = [(own, "policy.quota"), (request.storage, f"namespace {request.namespace}")]
    bounds = [(limit, whose) for limit, whose in quotas if limit]
    if not bounds:
        return
    limit, whose = min(bounds)
    where = f"may store {format_size(limit)} on a cluster ({whose})"
    for vertex in graph:
        if vertex.kind == "source":
            readers = [set(executors[reader.name]) for reader, _ in graph.consumers(vertex.name)]
            for part in data.parts[vertex.name]:
                if part.size > limit and not any(part.cluster in each for each in readers):
                    yield f"{part.path} has {format_size(part.size)} and must cross as a whole, but the run {where}"
        elif vertex.kind != "output":
            size = estimate.unit_bytes(vertex.name)
            if size is not None and size > limit:
                yield f"a unit of {vertex.name} is expected to have {format_size(round(size))}, but the run {where}"
