"""Which of the clusters left execute a step, and with what share of its units.

Units that are bound to their data are shared as the data is. A step with one task goes to the cluster that scores
best. All others are shared among the best few: units stay where they are as long as there is room for them, the rest
goes by room and score. The coordinators decide each unit; the shares tell them what was planned. Another strategy
(exact, by a solver) has the same signature: vertex and candidates in, shares out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2 import Problem
from control_plane.planner.base import World
from control_plane.planner.graph import Vertex
from control_plane.planner.scores import bringing, free_slots, totals
from wire.errors import ProblemError

_MOST_EXECUTORS = 16
_HALVES_EVERY = 20.0  # points of score


def by_data(parts: Mapping[str, tuple[float, float]]) -> list[m.Share]:
    """Shares as the data lies: cluster -> (units, bytes). By bytes, or by units where a size is not known."""
    by_bytes = all(size > 0 for _, size in parts.values())
    weights = {cluster: (size if by_bytes else max(units, 1e-9)) for cluster, (units, size) in parts.items()}
    return _shares(weights)


def in_place(
    candidates: Sequence[str], made_on: Sequence[str], world: World, arriving: Mapping[str, tuple[float, float]]
) -> list[m.Share] | None:
    """Shares of a step that takes what was made on each cluster: all of these that may execute it, as their data lies.

    None if none of them may, or not all of the others reach one that does.
    """
    chosen = [cluster for cluster in made_on if cluster in candidates]
    others = [cluster for cluster in made_on if cluster not in chosen]
    if not chosen or any(not any(world.reachable(other, cluster) for cluster in chosen) for other in others):
        return None
    data = {cluster: arriving.get(cluster, (0.0, 0.0)) for cluster in chosen}
    known = {cluster: amount for cluster, amount in data.items() if amount[0]}
    shares = {share.cluster: share.share for share in by_data(known)} if known else {}
    return [m.Share(cluster=cluster, share=shares.get(cluster, 0.0)) for cluster in sorted(chosen)]


def nearest(candidates: Sequence[str], sizes: Mapping[str, float], world: World) -> m.Share:
    """All of it on the cluster to which the rest is brought soonest: as a rule, the one that has most bytes."""
    seconds = {to: sum(bringing(world, source, to, size) for source, size in sizes.items()) for to in candidates}
    return m.Share(cluster=min(candidates, key=lambda cluster: (seconds[cluster], cluster)), share=1.0)


def by_score(
    vertex: Vertex,
    candidates: Sequence[str],
    scores: Sequence[m.Score],
    arriving: Mapping[str, tuple[float, float]],
    world: World,
    filtered: Sequence[m.FilterVerdict] = (),
) -> list[m.Share]:
    """Shares of a step that may move its input. `arriving`: cluster -> (units, bytes) of input made there.

    ProblemError where it can't be moved to any of the candidates, with what is said in `filtered` of where it is.
    """
    total = totals(scores)
    ranked = sorted(candidates, key=lambda cluster: (-total[cluster], cluster))
    units = sum(count for count, _ in arriving.values())
    if vertex.single or units <= 1:
        return _shares({ranked[0]: 1.0})
    chosen = ranked[:_MOST_EXECUTORS]
    for source in arriving:
        if not any(world.reachable(source, cluster) for cluster in chosen):
            reached = [cluster for cluster in ranked if world.reachable(source, cluster)]
            if not reached:
                raise ProblemError([_cut_off(vertex, source, ranked, filtered)])
            chosen.append(reached[0])
    best = total[ranked[0]]
    slots = {cluster: free_slots(vertex, cluster, world) for cluster in chosen}
    weights = {cluster: slots[cluster] * 2.0 ** ((total[cluster] - best) / _HALVES_EVERY) for cluster in chosen}
    return _shares(_near_data(weights, slots, arriving))


def _near_data(
    weights: Mapping[str, float], slots: Mapping[str, int], arriving: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Leave units where they are, up to twice what the tasks that fit there would be fair; the rest goes by weight.

    A cluster whose weight is small may get nothing: it takes what the others can't.
    """
    data = {share.cluster: share.share for share in by_data(arriving)}
    most = {cluster: 2.0 * slots[cluster] / sum(slots.values()) for cluster in weights}
    stays = {cluster: min(data.get(cluster, 0.0), most[cluster]) for cluster in weights}
    room = {cluster: (most[cluster] - stays[cluster]) * weight for cluster, weight in weights.items()}
    rest = max(0.0, 1.0 - sum(stays.values())) / sum(room.values())  # twice the room there is: some is always left
    return {cluster: stays[cluster] + rest * room[cluster] for cluster in weights}


def largest(shares: Sequence[m.Share]) -> list[str]:
    """The clusters from the largest share to the smallest; equal ones by name."""
    return [share.cluster for share in sorted(shares, key=lambda share: (-share.share, share.cluster))]


def _shares(weights: Mapping[str, float]) -> list[m.Share]:
    whole = sum(weights.values())
    return [m.Share(cluster=cluster, share=weight / whole) for cluster, weight in sorted(weights.items())]


def _cut_off(vertex: Vertex, source: str, candidates: Sequence[str], filtered: Sequence[m.FilterVerdict]) -> Problem:
    itself = "".join(f"; {source} itself {verdict.reason}" for verdict in filtered if source in verdict.clusters)
    return Problem(
        field=f"spec.steps.{vertex.name}",
        message=f"units made on {source} can't get to a cluster that may execute {vertex.name} "
        f"({', '.join(candidates)}): no link is declared{itself}",
        remedy=f"let the step run on {source}, or declare a link between {source}'s zone and one of theirs",
    )
