"""What a plan is expected to move and to take, and what the alternative of shipping all raw data would.

Sizes come from the topology's parts; how much comes out of a step from what earlier runs have shown. Where nothing was
measured, as many bytes are taken to come out as go in, and everything that follows from it is marked as an upper
bound. Units stay where they are as far as the shares allow, and the rest goes to the nearest executor with room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.base import Measured, World
from control_plane.planner.graph import ASIDE, COPIED, Graph, Vertex
from control_plane.planner.scores import free_slots
from control_plane.planner.sources import Data

Amounts = dict[str, tuple[float, float]]  # cluster -> (units, bytes)
_BYTES_A_LINE = 100  # assumed when a split counts lines or records
_BYTES_A_MEMBER = 1 << 20  # of an archive that is unpacked


class Estimate:
    """Grows vertex by vertex, in topological order: `arriving`, then, with the shares decided, `settle`."""

    def __init__(self, graph: Graph, world: World, data: Data, measured: Mapping[str, Measured]) -> None:
        self._graph = graph
        self._world = world
        self._data = data
        self._measured = measured
        self._made: dict[str, Amounts] = {}
        self._bound: set[str] = set()  # vertices whose output's size is an upper bound only
        self._done_at: dict[str, float] = {}
        self._units: dict[str, float] = {}
        self._bytes: dict[str, float] = {}
        self.transfers: list[m.PlannedTransfer] = []

    @property
    def seconds(self) -> float:
        """The longest way through the graph."""
        return max(self._done_at.values(), default=0.0)

    @property
    def cost(self) -> float:
        return sum(transfer.cost for transfer in self.transfers)

    @property
    def bounded(self) -> bool:
        """Whether some transfer is an upper bound only."""
        return any(transfer.upper_bound for transfer in self.transfers)

    def unit_bytes(self, name: str) -> float | None:
        """What a unit that a vertex makes has, where that rests on more than a bound."""
        if name in self._bound:
            return None
        units = sum(count for count, _ in self._made[name].values())
        return sum(size for _, size in self._made[name].values()) / units if units else None

    def arriving(self, vertex: Vertex) -> Amounts:
        """What is made for this vertex, and where, not counting what it only pairs with."""
        if vertex.kind == "source":
            return {c: (float(count), float(size)) for c, (count, size) in self._data.sizes(vertex.name).items()}
        amounts: Amounts = {}
        for port in vertex.step.inputs:
            if port.pairing in ASIDE:
                continue
            for cluster, (units, size) in self._made[port.from_step].items():
                before = amounts.get(cluster, (0.0, 0.0))
                amounts[cluster] = (before[0] + units, before[1] + size)
        return amounts

    def settle(self, vertex: Vertex, shares: Sequence[m.Share], *, stays: bool) -> m.StepPlan:
        """Note where the vertex' input goes, what it makes of it and when. `stays`: its units don't move."""
        arriving = self.arriving(vertex)
        here: Amounts = arriving if stays else self._moved(vertex, shares)
        self._copied(vertex, shares)
        units = sum(count for count, _ in arriving.values())
        bytes_in = sum(size for _, size in arriving.values())
        measured = self._measured.get(vertex.step.definition, Measured())
        made = {cluster: self._output(vertex, amount, measured) for cluster, amount in here.items()}
        if vertex.single:
            made = {shares[0].cluster: (1.0, sum(size for _, size in made.values()))}
        self._made[vertex.name] = made
        inherited = any(port.from_step in self._bound for port in vertex.step.inputs)
        if inherited or (vertex.kind == "step" and measured.selectivity is None):
            self._bound.add(vertex.name)
        seconds = self._seconds(vertex, here)
        units = 1.0 if vertex.single else sum(self._tasks(vertex, *amount) for amount in here.values())
        self._units[vertex.name] = units
        self._bytes[vertex.name] = bytes_in
        self._done_at[vertex.name] = seconds + max(
            (self._done_at[port.from_step] + self._edge_seconds(vertex, port) for port in vertex.step.inputs),
            default=0.0,
        )
        return m.StepPlan(
            step=vertex.name,
            shares=shares,
            expected_units=units,
            expected_bytes_in=bytes_in,
            expected_bytes_out=sum(size for _, size in made.values()),
            expected_seconds=seconds,
            upper_bound=vertex.name in self._bound,
            task_seconds=self._expected_of_tasks(vertex, shares, bytes_in / max(1.0, units)),
        )

    def _expected_of_tasks(self, vertex: Vertex, shares: Sequence[m.Share], size: float) -> dict[str, float]:
        if vertex.kind != "step":
            return {}
        found = {share.cluster: self.task_seconds(vertex, share.cluster, size) for share in shares}
        return {cluster: seconds for cluster, seconds in found.items() if seconds}

    def seconds_on(self, cluster: str) -> float:
        """The longest way through the graph if everything ran on one cluster that has all the data."""
        done_at: dict[str, float] = {}
        for vertex in self._graph:
            here: Amounts = {cluster: (self._units[vertex.name], self._bytes[vertex.name])}
            before = max((done_at[port.from_step] for port in vertex.step.inputs), default=0.0)
            done_at[vertex.name] = before + self._seconds(vertex, here)
        return max(done_at.values(), default=0.0)

    def _output(self, vertex: Vertex, amount: tuple[float, float], measured: Measured) -> tuple[float, float]:
        units, size = amount
        if vertex.kind == "split":
            return (max(units, self._parts(vertex, units, size)), size)
        if vertex.kind == "merge":
            return (self._tasks(vertex, units, size), size)
        if vertex.kind == "step":
            selectivity = 1.0 if measured.selectivity is None else measured.selectivity
            return (self._tasks(vertex, units, size), size * selectivity)
        return amount

    def _tasks(self, vertex: Vertex, units: float, size: float) -> float:
        """Of so many units of so many bytes together; a batch is taken to be full."""
        if vertex.stays_apart:
            return min(units, 1.0)
        zipped = sum(port.pairing == m.PAIRING_ZIP for port in vertex.step.inputs)
        if zipped:
            return units / zipped
        batch = next((port.batch for port in vertex.step.inputs if port.HasField("batch")), None)
        crossed = next((port.from_step for port in vertex.step.inputs if port.pairing == m.PAIRING_CROSS), None)
        if crossed is not None:
            return units * sum(count for count, _ in self._made[crossed].values())
        if batch is None or not units:
            return units
        by_count = units / batch.count if batch.count else 0.0
        by_size = size / batch.size if batch.size else 0.0
        return min(units, math.ceil(max(by_count, by_size, 1.0)))

    def _parts(self, vertex: Vertex, units: float, size: float) -> float:
        split = vertex.step.execution.split.split
        if split.count:
            return units * split.count
        if split.per_slot:
            readers = [reader for reader, _ in self._graph.consumers(vertex.name)]
            clusters = self._world.clusters
            return units * sum(free_slots(reader, cluster, self._world) for reader in readers for cluster in clusters)
        if split.size:
            return math.ceil(size / split.size)
        return math.ceil(size / (_BYTES_A_MEMBER if split.members else (split.lines or split.records) * _BYTES_A_LINE))

    def task_seconds(self, vertex: Vertex, cluster: str, size: float) -> float:
        """What a task of `size` bytes takes on a cluster: as measured there, else anywhere; 0 if nobody knows."""
        there = self._world.task(cluster, vertex.step.definition)
        if there is not None:
            return there.fixed_seconds + size * there.seconds_per_byte
        return self._measured.get(vertex.step.definition, Measured()).task_seconds or 0.0

    def _seconds(self, vertex: Vertex, here: Amounts) -> float:
        if vertex.kind != "step":
            return 0.0
        if vertex.single:
            size = sum(size for _, size in here.values())
            return max((self.task_seconds(vertex, cluster, size) for cluster in here), default=0.0)
        tasks = {cluster: (self._tasks(vertex, units, size), size) for cluster, (units, size) in here.items()}
        return max(
            (
                self.task_seconds(vertex, cluster, size / max(units, 1.0))
                * math.ceil(units / free_slots(vertex, cluster, self._world))
                for cluster, (units, size) in tasks.items()
            ),
            default=0.0,
        )

    def _moved(self, vertex: Vertex, shares: Sequence[m.Share]) -> Amounts:
        """Route each port's units to the executors; note the transfers; what then lies where."""
        here: Amounts = {}
        for port in vertex.step.inputs:
            if port.pairing in ASIDE:
                continue
            made = self._made[port.from_step]
            for source, to, fraction in _routed(made, shares, self._world):
                units, size = made[source][0] * fraction, made[source][1] * fraction
                before = here.get(to, (0.0, 0.0))
                here[to] = (before[0] + units, before[1] + size)
                if source != to:
                    self._note(source, to, f"{vertex.name}.{port.name}", size, port.from_step in self._bound)
        return here

    def _copied(self, vertex: Vertex, shares: Sequence[m.Share]) -> None:
        """What a broadcast makes goes to every cluster that is expected to have a task."""
        for port in vertex.step.inputs:
            if port.pairing not in COPIED:
                continue
            for source, (_, size) in sorted(self._made[port.from_step].items()):
                for share in shares:
                    if share.share and share.cluster != source:
                        edge = f"{vertex.name}.{port.name}"
                        self._note(source, share.cluster, edge, size, port.from_step in self._bound)

    def _note(self, source: str, to: str, edge: str, size: float, upper_bound: bool) -> None:
        self.transfers.append(
            m.PlannedTransfer(
                from_cluster=source,
                to_cluster=to,
                edge=edge,
                bytes=size,
                seconds=self._world.seconds(source, to, size),
                cost=self._world.cost(source, to, size),
                upper_bound=upper_bound,
            )
        )

    def _edge_seconds(self, vertex: Vertex, port: m.InputPort) -> float:
        edge = f"{vertex.name}.{port.name}"
        return max((transfer.seconds for transfer in self.transfers if transfer.edge == edge), default=0.0)


def shipping_all(estimate: Estimate, data: Data, graph: Graph, world: World) -> list[m.Alternative]:
    """For each cluster of the cloud: what sending it all raw data, and executing everything there, would take and cost.

    A cluster that some of the data can't get to over a declared link is left out.
    """
    parts = {(graph[source].dataset, part.index): part for source, opened in data.parts.items() for part in opened}
    found = []
    for target in world.of_tier("cloud"):
        sizes: dict[str, float] = {}
        for part in parts.values():
            if part.cluster != target:
                sizes[part.cluster] = sizes.get(part.cluster, 0.0) + part.size
        if not sizes or not all(world.reachable(source, target) for source in sizes):
            continue
        transfers = [
            m.PlannedTransfer(
                from_cluster=source,
                to_cluster=target,
                bytes=size,
                seconds=world.seconds(source, target, size),
                cost=world.cost(source, target, size),
            )
            for source, size in sorted(sizes.items())
        ]
        found.append(
            m.Alternative(
                name=f"ship all raw data to {target}",
                bytes=sum(sizes.values()),
                seconds=max(transfer.seconds for transfer in transfers) + estimate.seconds_on(target),
                cost=sum(transfer.cost for transfer in transfers),
                transfers=transfers,
            )
        )
    return found


def _routed(made: Amounts, shares: Sequence[m.Share], world: World) -> list[tuple[str, str, float]]:
    """(from, to, fraction of what was made at `from`): first what may stay, then to the nearest with room."""
    by_bytes = any(size for _, size in made.values())
    amount = {cluster: size if by_bytes else units for cluster, (units, size) in made.items()}
    whole = sum(amount.values())
    room = {share.cluster: share.share * whole for share in shares}
    routes: list[tuple[str, str, float]] = []
    left: dict[str, float] = {}
    for cluster, size in sorted(amount.items()):
        stays = min(size, room.get(cluster, 0.0))
        if stays:
            routes.append((cluster, cluster, stays / size))
            room[cluster] -= stays
        left[cluster] = size - stays
    for cluster, size in left.items():
        rest = size
        near = sorted(
            (to for to in room if to != cluster and world.reachable(cluster, to)),
            key=lambda to, source=cluster: (world.distance(source, to), to),  # type: ignore[misc]
        )
        for to in near:
            goes = min(rest, room[to])
            if goes > whole * 1e-9:
                routes.append((cluster, to, goes / amount[cluster]))
                room[to] -= goes
                rest -= goes
        if rest > whole * 1e-9:
            to = cluster if cluster in room else next(iter(near), cluster)
            routes.append((cluster, to, rest / amount[cluster]))
    return routes
