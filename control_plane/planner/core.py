"""The planner, pure: a workflow, the clusters and their data in; a plan, its reasons and the fragments out.

    compile ─▶ for each vertex, in topological order:
                 filters ─▶ scores ─▶ shares ─▶ what moves ─▶ next
            ─▶ slots to reserve, where the workflow wants that
            ─▶ counters and successors ─▶ one fragment for each cluster that takes part

Everything that was decided on the way stands in the plan: who was filtered and why, every score, what is expected to
move. Raises ProblemError, with all problems found, where a step has no cluster left.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2 import Problem
from control_plane.planner import assign, reserving
from control_plane.planner.base import Request, World
from control_plane.planner.compile import compiled
from control_plane.planner.estimate import Amounts, Estimate, shipping_all
from control_plane.planner.filters import Situation, verdicts
from control_plane.planner.graph import Graph, Vertex
from control_plane.planner.irreplaceable import irreplaceable
from control_plane.planner.narrow import narrow
from control_plane.planner.scores import scored
from control_plane.planner.sources import Data
from wire.errors import ProblemError
from workflow import graph as shape

_NAMED = 10  # clusters in a message
_MOST_SKIPPED = 500


@dataclass(frozen=True)
class Planned:
    """A plan, the compiled steps of the whole graph in topological order, and the fragments by cluster."""

    plan: m.Plan
    steps: list[m.Step]
    fragments: dict[str, m.Fragment]


def plan(request: Request) -> Planned:
    """Plan a run of objects that have been checked against each other. ProblemError where it can't be placed."""
    graph = compiled(request.workflow, request.definitions, request.parameters, request.topology, fresh=request.fresh)
    for vertex in graph:
        for secret in vertex.step.execution.secrets.values():
            secret.namespace = request.namespace
    world = World(request.topology, request.clusters, request.denied)
    data = Data(graph, world)
    estimate = Estimate(graph, world, data, request.measured)
    result = m.Plan(
        namespace=request.namespace,
        run=request.run,
        workflow=request.workflow.metadata.name,
        revision=request.revision,
    )
    result.skipped.update(sorted(request.skipped.items())[:_MOST_SKIPPED])
    executors: dict[str, list[str]] = {}
    load: dict[str, float] = {}
    problems: list[Problem] = []
    for vertex in graph:
        situation = Situation(graph, world, data, executors)
        try:
            planned = _place(vertex, situation, estimate, load)
        except ProblemError as error:
            problems += error.problems
            # What comes after is still judged, as if this vertex could run everywhere it is wanted.
            planned = estimate.settle(vertex, [m.Share(cluster=next(iter(world.clusters)), share=1.0)], stays=False)
        executors[vertex.name] = [share.cluster for share in planned.shares]
        for share in planned.shares:
            load[share.cluster] = load.get(share.cluster, 0.0) + (share.share if vertex.kind == "step" else 0.0)
        ranked = assign.largest(planned.shares)
        planned.counter = ranked[0]
        result.steps.append(planned)
        vertex.step.counter = ranked[0]
        vertex.step.successor = ranked[1] if len(ranked) > 1 else ""
    if problems:
        raise ProblemError(problems)
    if request.workflow.spec.policy.reserve != "none":
        reserving.reserve(zip(graph, result.steps, strict=True), world)
    for vertex, planned in zip(graph, result.steps, strict=True):
        vertex.step.executors.extend(planned.shares)
        vertex.step.measured.extend(_known(vertex, planned, world))
    taking_part = sorted({cluster for clusters in executors.values() for cluster in clusters})
    result.epochs.update(dict.fromkeys(taking_part, request.epoch))
    result.transfers.extend(estimate.transfers)
    result.expected_seconds = estimate.seconds
    result.expected_cost = estimate.cost
    result.alternatives.extend(shipping_all(estimate, data, graph, world))
    result.warnings.extend(_warnings(graph, data, estimate, executors, world))
    result.warnings.extend(narrow(request, graph, data, estimate, executors))
    result.warnings.extend(irreplaceable(request.workflow, data, executors, world))
    steps = [vertex.step for vertex in graph]
    fragments = {cluster: _fragment(cluster, request, result, steps, data, world) for cluster in taking_part}
    return Planned(result, steps, fragments)


def _place(vertex: Vertex, situation: Situation, estimate: Estimate, load: dict[str, float]) -> m.StepPlan:
    """Decide one vertex. ProblemError where no cluster is left, or one that must take part can't."""
    arriving = estimate.arriving(vertex)
    if vertex.kind not in ("step", "merge"):
        return estimate.settle(vertex, _where_made(vertex, arriving, situation.executors), stays=True)
    left, filtered = verdicts(vertex, situation)
    bound = vertex.name in situation.graph.bound
    missing = _among(arriving, filtered) if bound else []
    if not left or missing:
        raise ProblemError([_nowhere(vertex, filtered, missing)])
    world = situation.world
    sizes = {cluster: size for cluster, (_, size) in arriving.items()}
    if vertex.kind == "merge" and vertex.single:
        planned = estimate.settle(vertex, [assign.nearest(left, sizes, world)], stays=False)
    elif bound:  # there is nothing to weigh: it runs where its data lies
        planned = estimate.settle(vertex, assign.by_data(arriving), stays=True)
    else:
        scores = scored(vertex, left, sizes, load, world)
        shares = _shared(vertex, left, scores, arriving, situation, filtered)
        planned = estimate.settle(vertex, shares, stays=False)
        planned.scores.extend(scores)
    planned.filtered.extend(filtered)
    return planned


def _shared(
    vertex: Vertex,
    left: Sequence[str],
    scores: Sequence[m.Score],
    arriving: Amounts,
    situation: Situation,
    filtered: Sequence[m.FilterVerdict],
) -> Sequence[m.Share]:
    if vertex.stays_apart:
        makers = {port.from_step for port in vertex.step.inputs if port.pairing == m.PAIRING_GATHER_EACH}
        made_on = sorted({cluster for maker in makers for cluster in situation.executors[maker]})
        in_place = assign.in_place(left, made_on, situation.world, arriving)
        if in_place is not None:
            return in_place
    return assign.by_score(vertex, left, scores, arriving, situation.world, filtered)


def _known(vertex: Vertex, planned: m.StepPlan, world: World) -> list[m.MeasuredStep]:
    """What the executors' coordinators should expect of the step's tasks before they have executed any."""
    return [
        world.task(cluster, vertex.step.definition)
        or m.MeasuredStep(
            definition=vertex.step.definition, cluster=cluster, fixed_seconds=seconds, mean_seconds=seconds
        )
        for cluster, seconds in sorted(planned.task_seconds.items())
    ]


def _where_made(vertex: Vertex, arriving: Amounts, executors: Mapping[str, list[str]]) -> Sequence[m.Share]:
    """Built-in vertices take units where they are: wherever any may be made, if none is expected there, too."""
    if not arriving:
        raise ProblemError(
            [
                Problem(
                    field=f"spec.{vertex.name}",
                    message=f"no part of {vertex.dataset or vertex.name} lies where it is needed",
                    remedy="declare a part or a replica of it on the clusters whose data it is paired with",
                )
            ]
        )
    shares = assign.by_data(arriving)
    expected = {share.cluster for share in shares}
    may = {cluster for port in vertex.step.inputs for cluster in executors[port.from_step]}
    return [*shares, *(m.Share(cluster=cluster) for cluster in sorted(may - expected))]


def _among(clusters: Container[str], verdicts: Sequence[m.FilterVerdict]) -> list[m.FilterVerdict]:
    """The verdicts as far as they are on these clusters."""
    found = []
    for verdict in verdicts:
        if of_them := [each for each in verdict.clusters if each in clusters]:
            found.append(m.FilterVerdict(clusters=of_them, filter=verdict.filter, reason=verdict.reason))
    return found


def _nowhere(vertex: Vertex, filtered: Sequence[m.FilterVerdict], missing: Sequence[m.FilterVerdict]) -> Problem:
    reasons = "; ".join(
        f"{cluster} {verdict.reason}" for verdict in (missing or filtered) for cluster in _few(verdict.clusters)
    )
    if missing:
        return Problem(
            field=f"spec.steps.{vertex.name}",
            message=f"step {vertex.name} must run where its data lies, "
            f"but not all of those clusters may run it: {reasons}",
            remedy="relax the step's place, or change what stands in the way on the clusters named",
        )
    if vertex.kind == "merge":
        owner, port, *_ = vertex.name.split(".")
        within = "spec.outputs" if owner == shape.OUTPUTS else f"spec.steps.{owner}.in"
        return Problem(
            field=f"{within}.{port}.merge",
            message=f"no cluster can have all units to merge: {reasons}",
            remedy="relax the place of the step that reads them, or declare links to one cluster that may",
        )
    return Problem(
        field=f"spec.steps.{vertex.name}",
        message=f"no cluster is left for step {vertex.name}: {reasons}",
        remedy="relax the step's place or resources, or wait until the clusters are ready",
    )


def _few(clusters: Sequence[str]) -> list[str]:
    """All of them by name, or the first and how many there are besides."""
    if len(clusters) <= _NAMED:
        return list(clusters)
    return [*clusters[: _NAMED - 1], f"each of {len(clusters) - _NAMED + 1} others"]


def _warnings(graph: Graph, data: Data, estimate: Estimate, executors: dict[str, list[str]], world: World) -> list[str]:
    found = []
    waiting: dict[str, list[str]] = {}
    for name, clusters in executors.items():
        for cluster in clusters:
            if graph[name].kind != "output" and world.state(cluster) != "ready":
                waiting.setdefault(cluster, []).append(name)
    for cluster, names in sorted(waiting.items()):
        found.append(f"{cluster} is {world.state(cluster)}: {', '.join(names)} wait there until its agent is back")
    unknown = sorted({part.path for parts in data.parts.values() for part in parts if not part.size})
    if unknown:
        found.append(
            f"the size of {', '.join(unknown[:5])}{' and others' if len(unknown) > 5 else ''} is not known: "
            "bytes and times that depend on it are counted as nothing; declare `size` in the topology"
        )
    if estimate.bounded:
        found.append("bytes that come out of steps are upper bounds (as many as go in), until a run has measured them")
    return found


def _fragment(
    cluster: str, request: Request, result: m.Plan, steps: Sequence[m.Step], data: Data, world: World
) -> m.Fragment:
    policy = request.workflow.spec.policy
    disconnect = shape.disconnect(request.workflow, world.clusters[cluster].disconnect)
    return m.Fragment(
        namespace=request.namespace,
        run=request.run,
        cluster=cluster,
        epoch=request.epoch,
        revision=request.revision,
        epochs=result.epochs,
        steps=steps,
        sources=[
            m.SourcePart(step=source, index=part.index, path=part.path, size=part.size)
            for source, parts in data.parts.items()
            for part in parts
            if part.cluster == cluster
        ],
        policy=m.Policy(
            reserve=policy.reserve,
            lost_after=disconnect.lost_after,
            stop_after=disconnect.stop_after,
            replace=disconnect.replace and policy.reserve == "none",
            keep=disconnect.keep,
            timeout=policy.timeout,
            priority=policy.priority,
            retain=policy.retain,
            quota=policy.quota,
        ),
        durability=policy.durability,
        workflow=request.workflow.metadata.name,
    )
