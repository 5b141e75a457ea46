"""The graph of a run: its vertices in an order in which each stands after those that it reads from. Pure.

`compile` makes it of a workflow; filters, estimates and the assignment ask it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2 import Problem
from wire.errors import ProblemError
from workflow.model import Place

Kind = Literal["source", "split", "merge", "step", "output"]
COPIED = (m.PAIRING_BROADCAST, m.PAIRING_CROSS)
"""How ports are read whose units are copied to each cluster."""

ASIDE = (m.PAIRING_SAME_CLUSTER, *COPIED)
"""How ports are read that make no tasks: beside the units that do."""


@dataclass(frozen=True)
class Vertex:
    """A step of the run, where its author wants it, and for a source the dataset that it reads."""

    kind: Kind
    step: m.Step
    place: Place = field(default_factory=Place)
    dataset: str = ""
    reader: Vertex | None = None  # of a merge on each cluster: who reads the one file, where it is made

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def gathers(self) -> bool:
        """One task takes everything."""
        return any(port.pairing == m.PAIRING_GATHER_ALL for port in self.step.inputs)

    @property
    def meets(self) -> bool:
        """Its units come together on a cluster that follows from them, whoever made them."""
        return any(port.pairing in (m.PAIRING_GROUP, m.PAIRING_GATHER_EACH, m.PAIRING_ZIP) for port in self.step.inputs)

    @property
    def stays_apart(self) -> bool:
        """On each cluster one task takes what was made there."""
        return any(port.pairing == m.PAIRING_GATHER_EACH for port in self.step.inputs)

    @property
    def single(self) -> bool:
        """It has exactly one task, whatever comes in."""
        return self.kind != "source" and (self.gathers or not self.step.inputs)


class Graph:
    """The vertices of a run in topological order, and who reads from whom.

    `bound` names those whose units never leave the cluster where the data lies that they stem from.
    """

    def __init__(self, vertices: Mapping[str, Vertex]) -> None:
        needs = {name: _before(vertex) for name, vertex in vertices.items()}
        try:
            order = list(TopologicalSorter(needs).static_order())
        except CycleError as error:
            raise ProblemError(
                [
                    Problem(
                        field="spec.steps",
                        message=f"the steps {' → '.join(error.args[1])} need each other's outputs",
                        remedy="a workflow has no cycles: take one of these bindings out",
                    )
                ]
            ) from error
        self.vertices = {name: vertices[name] for name in order}
        self.bound: frozenset[str] = frozenset()
        self._consumers: dict[str, list[tuple[Vertex, m.InputPort]]] = {name: [] for name in order}
        for vertex in self.vertices.values():
            for port in vertex.step.inputs:
                self._consumers[port.from_step].append((vertex, port))

    def __iter__(self) -> Iterator[Vertex]:
        return iter(self.vertices.values())

    def __getitem__(self, name: str) -> Vertex:
        return self.vertices[name]

    def consumers(self, name: str) -> list[tuple[Vertex, m.InputPort]]:
        """Who reads what this vertex makes, and through which of its ports."""
        return self._consumers[name]

    def drivers(self, vertex: Vertex) -> list[m.InputPort]:
        """The port each of whose units makes a task, once for each port that it reads from."""
        return [port for port in vertex.step.inputs if port.pairing == m.PAIRING_EACH]


def _before(vertex: Vertex) -> set[str]:
    """Whose executors are known when this vertex gets its own; of a merge's reader, those of what it reads besides."""
    reads = [*vertex.step.inputs, *(vertex.reader.step.inputs if vertex.reader is not None else ())]
    return {port.from_step for port in reads} - {vertex.name}
