"""Where a run's data lies: which parts of which datasets are opened on which clusters.

The parts of a dataset are all opened where they are. Of replicas, one is opened. But of a dataset that is only paired
with other data by cluster (`same: cluster`), every cluster that has such other data opens the parts or the copy that
it has itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2 import Problem
from control_plane.planner.base import World
from control_plane.planner.graph import COPIED, Graph, Vertex
from topology.model import Dataset, Part
from wire.errors import ProblemError


@dataclass(frozen=True)
class OpenedPart:
    """Part `index` of a dataset, on a cluster. `size` in bytes, 0 = not known."""

    cluster: str
    index: int
    path: str
    size: int


class Data:
    """The parts that each source opens, and the clusters that each vertex' units stem from."""

    def __init__(self, graph: Graph, world: World) -> None:
        self.parts: dict[str, list[OpenedPart]] = {}
        self._graph = graph
        self._world = world
        self._datasets = {dataset.name: dataset for dataset in world.topology.spec.datasets}
        sources = [vertex for vertex in graph if vertex.kind == "source"]
        per_cluster = {vertex.name: self._paired_by(vertex) for vertex in sources}
        for vertex in sources:
            dataset = self._datasets[vertex.dataset]
            if not per_cluster[vertex.name]:
                self.parts[vertex.name] = (
                    [_opened(index, part) for index, part in enumerate(dataset.parts)]
                    if dataset.parts
                    else [self._one_replica(vertex, dataset)]
                )
        for vertex in sources:
            if vertex.name not in self.parts:
                self.parts[vertex.name] = self._own_parts(vertex, per_cluster[vertex.name])

    def origins(self, name: str) -> list[str]:
        """The clusters where the data lies that drives this vertex, in the order of the dataset's parts."""
        vertex = self._graph[name]
        if vertex.kind == "source":
            return list(dict.fromkeys(part.cluster for part in self.parts[name]))
        drivers = self._graph.drivers(vertex)
        return list(dict.fromkeys(origin for driver in drivers for origin in self.origins(driver.from_step)))

    def sizes(self, name: str) -> dict[str, tuple[int, int]]:
        """Of a source: cluster -> number of parts and their bytes."""
        found: dict[str, tuple[int, int]] = {}
        for part in self.parts[name]:
            count, size = found.get(part.cluster, (0, 0))
            found[part.cluster] = (count + 1, size + part.size)
        return found

    def only_there(self, name: str, cluster: str) -> bool:
        """Whether a source reads something on a cluster that it could read nowhere else."""
        if not any(part.cluster == cluster for part in self.parts[name]):
            return False
        dataset = self._datasets[self._graph[name].dataset]
        return not any(replica.at != cluster for replica in dataset.replicas)

    def _paired_by(self, source: Vertex) -> list[Vertex]:
        """The steps that pair this source's units by cluster; empty where some step reads all of it."""
        pairing: dict[str, Vertex] = {}
        once = False
        waiting = [source]
        while waiting:
            vertex = waiting.pop()
            consumers = self._graph.consumers(vertex.name)
            once = once or not consumers
            for consumer, port in consumers:
                if port.pairing == m.PAIRING_SAME_CLUSTER:
                    pairing[consumer.name] = consumer
                elif port.pairing in COPIED or _together(consumer) or consumer.kind == "output":
                    once = True
                else:
                    waiting.append(consumer)
        if pairing and once and self._datasets[source.dataset].replicas:
            raise ProblemError(
                [
                    Problem(
                        field=f"spec.{source.name}",
                        message=f"the copies of {source.dataset} are read on each cluster by "
                        f"{', '.join(sorted(pairing))}, and once by another step",
                        remedy="declare a second input with the same dataset for the other step",
                    )
                ]
            )
        return [] if once else list(pairing.values())

    def _one_replica(self, source: Vertex, dataset: Dataset) -> OpenedPart:
        """The copy that is read: on a cluster that is ready, and where a reader may run, as far as there is one.

        Whichever it is, it is the dataset's one part: what is made of it has the same ids when another copy is read.
        """
        readers = [consumer for consumer, _ in self._graph.consumers(source.name)]

        def rank(entry: tuple[int, Part]) -> tuple[bool, bool, int]:
            index, part = entry
            welcome = any(self._wanted(reader, part.at) for reader in readers)
            return (self._world.state(part.at) != "ready", not welcome, index)

        return _opened(0, min(enumerate(dataset.replicas), key=rank)[1])

    def _wanted(self, reader: Vertex, cluster: str) -> bool:
        place = reader.place
        zone = self._world.clusters[cluster].zone
        return (
            (place.tier is None or place.tier == self._world.tier(cluster))
            and (place.clusters is None or cluster in place.clusters)
            and (place.zones is None or zone in place.zones)
        )

    def _own_parts(self, source: Vertex, pairing: list[Vertex]) -> list[OpenedPart]:
        dataset = self._datasets[source.dataset]
        needed = {cluster for vertex in pairing for cluster in self.origins(vertex.name)}
        there = enumerate(dataset.parts or dataset.replicas)
        return [_opened(index, part) for index, part in there if part.at in needed]


def _together(vertex: Vertex) -> bool:
    return vertex.gathers or vertex.meets


def _opened(index: int, part: Part) -> OpenedPart:
    return OpenedPart(part.at, index, part.path, part.size or 0)
