"""How well a cluster suits a step: scores from -100 to 100, each with a weight and a reason that can be shown.

`transfer` looks at the time that the step's input would need to get there over the declared links, `slots` at the tasks
that fit there now, `spread` at what this plan already puts there, `taints` at those that ask to be avoided, `ready` at
agents that are silent just now. Within one score the best cluster gets 100, and the others are measured against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.base import World
from control_plane.planner.filters import tolerated
from control_plane.planner.graph import Vertex

WEIGHTS: Mapping[str, float] = {"transfer": 3.0, "slots": 1.0, "spread": 0.5, "taints": 2.0, "ready": 5.0}
_UNKNOWN_BYTES = 1 << 20  # stands for an input whose size nobody knows, so that distance counts all the same


def scored(
    vertex: Vertex,
    clusters: Sequence[str],
    arriving: Mapping[str, float],
    load: Mapping[str, float],
    world: World,
) -> list[m.Score]:
    """Scores of each of `clusters`. `arriving`: cluster -> bytes of input made there; `load`: shares of steps there."""
    scores: list[m.Score] = []
    seconds = {to: sum(bringing(world, source, to, size) for source, size in arriving.items()) for to in clusters}
    slots = {cluster: free_slots(vertex, cluster, world) for cluster in clusters}
    loads = {cluster: load.get(cluster, 0.0) for cluster in clusters}
    quickest, busiest = _bounds(seconds), _bounds(loads)
    roomiest = _bounds(slots)[1]
    size = sum(arriving.values())
    for cluster in clusters:
        moved = size - arriving.get(cluster, 0.0)
        takes, room, here = seconds[cluster], slots[cluster], loads[cluster]
        scores += [
            _score(cluster, "transfer", _less(takes, *quickest), _moved(moved, takes)),
            _score(cluster, "slots", _more(room, roomiest), f"{room} tasks fit there now"),
            _score(cluster, "spread", _less(here, *busiest), f"{here:g} steps of this plan are there"),
        ]
        avoid = [
            taint.key
            for taint in world.taints(cluster)
            if taint.effect == "PreferNoSchedule" and not tolerated(taint, vertex.place.tolerate)
        ]
        if avoid:
            scores.append(_score(cluster, "taints", -100.0, f"asks to be avoided: {', '.join(avoid)}"))
        if world.state(cluster) != "ready":
            scores.append(_score(cluster, "ready", -100.0, "its agent is silent just now"))
    return scores


def totals(scores: Iterable[m.Score]) -> dict[str, float]:
    """Each cluster's weighted mean, again from -100 to 100."""
    sums: dict[str, tuple[float, float]] = {}
    for score in scores:
        value, weight = sums.get(score.cluster, (0.0, 0.0))
        sums[score.cluster] = (value + score.value * score.weight, weight + score.weight)
    return {cluster: value / weight for cluster, (value, weight) in sums.items()}


def free_slots(vertex: Vertex, cluster: str, world: World) -> int:
    """Tasks of the step that could start there now; at least 1, because every queue moves on."""
    wanted = vertex.step.resources
    room = world.slots(cluster, wanted.cpus, wanted.memory, vertex.step.pool.max)
    return max(1, room - world.running(cluster))


def bringing(world: World, source: str, to: str, size: float) -> float:
    """Seconds to bring what was made on `source` to another cluster."""
    if source == to:
        return 0.0
    return world.seconds(source, to, size or _UNKNOWN_BYTES) if world.reachable(source, to) else 0.0


def _bounds(values: Mapping[str, float]) -> tuple[float, float]:
    return min(values.values(), default=0.0), max(values.values(), default=0.0)


def _less(value: float, least: float, most: float) -> float:
    """100 for the least, towards -100 for the most."""
    return 100.0 - 200.0 * (value - least) / most if most > 0 else 100.0


def _more(value: float, most: float) -> float:
    """100 for the most, towards -100 for nothing."""
    return 200.0 * value / most - 100.0 if most > 0 else 100.0


def _moved(size: float, seconds: float) -> str:
    if not seconds:
        return "all input is there already"
    return f"{size / 1e6:.2f} MB would move in {seconds:.2f} s" if size else "input of unknown size would move"


def _score(cluster: str, name: str, value: float, reason: str) -> m.Score:
    return m.Score(cluster=cluster, name=name, value=round(value, 2), weight=WEIGHTS[name], reason=reason)
