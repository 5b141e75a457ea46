"""Which clusters may not execute a step, and why: the first filter that says no gives the reason.

Each filter is a function of the vertex, a cluster and what is known so far; it returns a sentence that goes on after
the cluster's name ("cloud is cloud, not edge"), or None where it has nothing against the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.base import World
from control_plane.planner.execution import of_a_worker
from control_plane.planner.graph import COPIED, Graph, Vertex
from control_plane.planner.sources import Data
from topology.model import Taint
from topology.quantity import format_cpus, format_size
from workflow.model import Toleration

_MARKS = ("draining", "cordoned")  # as `bdw-fed drain` and `cordon` put them


@dataclass(frozen=True)
class Situation:
    """What a filter may look at. `executors` are those of the vertices before this one."""

    graph: Graph
    world: World
    data: Data
    executors: Mapping[str, list[str]]


def verdicts(vertex: Vertex, situation: Situation) -> tuple[list[str], list[m.FilterVerdict]]:
    """The clusters left, in the topology's order, and the verdicts on the others, one for each reason."""
    left: list[str] = []
    filtered: dict[tuple[str, str], list[str]] = {}
    wanted = situation.world.clusters if vertex.place.clusters is None else frozenset(vertex.place.clusters)
    if others := [cluster for cluster in situation.world.clusters if cluster not in wanted]:
        named = ", ".join(vertex.place.clusters or ())
        filtered["place", f"is not among the clusters wanted: {named}"] = others  # often nearly all there are
    concerned = [vertex] if vertex.reader is None else [vertex, vertex.reader]  # both on the same clusters
    for cluster in situation.world.clusters:
        if cluster not in wanted:
            continue
        for (name, judge), each in product(_FILTERS, concerned):
            if reason := judge(each, cluster, situation):
                filtered.setdefault((name, reason), []).append(cluster)
                break
        else:
            left.append(cluster)
    return left, [
        m.FilterVerdict(clusters=clusters, filter=name, reason=reason) for (name, reason), clusters in filtered.items()
    ]


def _place(vertex: Vertex, cluster: str, situation: Situation) -> str | None:
    place = vertex.place
    zone = situation.world.clusters[cluster].zone
    if place.zones is not None and zone not in place.zones:
        return f"is in zone {zone}, not in {' or '.join(place.zones)}"
    return None


def _tier(vertex: Vertex, cluster: str, situation: Situation) -> str | None:
    tier = situation.world.tier(cluster)
    if vertex.place.tier is not None and tier != vertex.place.tier:
        return f"is of tier {tier}, not {vertex.place.tier}"
    return None


def _labels(vertex: Vertex, cluster: str, situation: Situation) -> str | None:
    labels = situation.world.clusters[cluster].labels
    for key, value in (vertex.place.labels or {}).items():
        if labels.get(key) != value:
            found = f"the label {key}={labels[key]}" if key in labels else f"no label {key}"
            return f"has {found}, not {key}={value}"
    return None


def _data(vertex: Vertex, cluster: str, situation: Situation) -> str | None:
    if vertex.name not in situation.graph.bound:
        return None
    if cluster not in situation.data.origins(vertex.name):
        return "has none of the data that the step reads, which is read where it lies"
    paired: dict[str, list[str]] = {}
    for port in vertex.step.inputs:
        if port.pairing == m.PAIRING_SAME_CLUSTER:
            paired.setdefault(port.name, []).append(port.from_step)
    for name, producers in paired.items():
        if not any(cluster in situation.data.origins(producer) for producer in producers):
            return f"has data for this step, but none that {' or '.join(producers)} gives to its port {name}"
    return None


def _taints(vertex: Vertex, cluster: str, situation: Situation) -> str | None:
    for taint in situation.world.taints(cluster):
        if taint.effect != "PreferNoSchedule" and not tolerated(taint, vertex.place.tolerate):
            if taint.key in _MARKS:
                return f"is {taint.key}: nothing new is planned there until 'bdw-fed uncordon'"
            value = f"={taint.value}" if taint.value else ""
            return f"has the taint {taint.key}{value}:{taint.effect}, which the step does not tolerate"
    return None


def tolerated(taint: Taint, tolerations: tuple[Toleration, ...]) -> bool:
    """Whether one of the tolerations names this taint, for more than a while where nothing must begin any more."""
    return any(
        toleration.key == taint.key
        and toleration.value in (None, taint.value)
        and toleration.effect in (None, taint.effect)
        and (toleration.seconds is None or taint.effect != "NoExecute")
        for toleration in tolerations
    )


def _capacity(vertex: Vertex, cluster: str, situation: Situation) -> str | None:
    cpus_wanted, memory_wanted = of_a_worker(vertex.step)
    nodes = situation.world.nodes(cluster)
    if vertex.kind != "step" or not nodes or situation.world.slots(cluster, cpus_wanted, memory_wanted, 0):
        return None
    needs = f"{format_cpus(cpus_wanted)} CPUs" + (f" and {format_size(memory_wanted)}" if memory_wanted else "")
    has = ", ".join(f"{format_cpus(cpus)} CPUs/{format_size(memory)}" for cpus, memory in sorted(nodes)[-3:])
    return f"has no node with {needs} (its largest: {has})"


def _reachability(vertex: Vertex, cluster: str, situation: Situation) -> str | None:
    """From everywhere, where it gathers, groups, zips or reads a broadcast; else only from somewhere: see `assign`."""
    sources = sorted({each for port in vertex.step.inputs for each in situation.executors.get(port.from_step, ())})
    cut_off = [source for source in sources if not situation.world.reachable(source, cluster)]
    copied = {each for port in _broadcasts(vertex) for each in situation.executors.get(port.from_step, ())}
    everywhere = vertex.gathers or any(port.pairing in (m.PAIRING_GROUP, m.PAIRING_ZIP) for port in vertex.step.inputs)
    if cut_off and (everywhere or not copied.isdisjoint(cut_off) or len(cut_off) == len(sources)):
        return f"can't be reached from {', '.join(cut_off)}, where its input is: no link that one end can dial"
    return None


def _broadcasts(vertex: Vertex) -> list[m.InputPort]:
    return [port for port in vertex.step.inputs if port.pairing in COPIED]


def _ready(vertex: Vertex, cluster: str, situation: Situation) -> str | None:
    """Where the data is, there is no choice: such a step waits for its cluster, and the plan warns of it.

    A cluster that is silent for a moment is not left out, see `scores`.
    """
    if vertex.name in situation.graph.bound:
        return None
    return {
        "never-seen": "has never been seen: its agent has not connected yet",
        "unknown": "is out of touch: its agent has not been heard for long",
        "revoked": "was cut off from the federation: its certificates are revoked",
    }.get(situation.world.state(cluster))


def _slots(vertex: Vertex, cluster: str, situation: Situation) -> str | None:
    reason = situation.world.denied.get(cluster)
    return f"could not reserve slots just now: {reason}" if reason is not None and vertex.kind == "step" else None


_FILTERS: tuple[tuple[str, Callable[[Vertex, str, Situation], str | None]], ...] = (
    ("place", _place),
    ("tier", _tier),
    ("labels", _labels),
    ("data", _data),
    ("taints", _taints),
    ("capacity", _capacity),
    ("reachability", _reachability),
    ("ready", _ready),
    ("slots", _slots),
)
