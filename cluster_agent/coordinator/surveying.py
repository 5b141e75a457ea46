"""What follows from all steps of a graph together: who must hear of what, where units may go on, what is kept of them.

`reading` makes the steps and edges; `survey` looks at them once they are all there, and notes at each what it found.
"""

from __future__ import annotations

from cluster_agent.coordinator.fragment import MERGE, SOURCE, TASK, ZIP, Edge, Graph


def survey(graph: Graph) -> None:
    """Note at the graph, its steps and its edges what none of them tells by itself."""
    graph.concerned = [step for step in graph.steps if step.here or step.counts]
    graph.hurried = [step for step in graph.steps if step.queue_timeout]
    _find_audiences(graph)
    _find_zipped(graph)
    _find_free(graph)
    _find_following(graph)
    _find_ordered(graph)


def _find_audiences(graph: Graph) -> None:
    """Who must hear that a step has closed."""
    for step in graph.steps:
        hears = {*step.executors, step.counter}
        for consumer in step.consumers:
            hears.update(consumer.executors, (consumer.counter,))
            if consumer.driving is not None and any(step in edge.producers for edge in consumer.sides):
                for producer in consumer.driving.producers:  # they are held back by it only once it is not waiting
                    hears.update(producer.executors)
        step.audience = tuple(sorted(hears - {graph.cluster, ""}))


def _find_zipped(graph: Graph) -> None:
    for step in graph.steps:
        zipped = [edge for edge in step.meets if edge.pairing == ZIP]
        graph.zips = graph.zips or bool(zipped)
        together = len({index for edge in zipped for index in _beginnings(edge)}) == 1
        for edge in zipped:
            edge.together = together


def _beginnings(edge: Edge) -> set[int]:
    """The steps at which the lineage of an edge's units begins."""
    found: set[int] = set()
    for step in edge.producers:
        if step.driving is not None:
            before = step.driving if step.driving.batch is None and step.crosses is None else None
        else:
            before = next((each for each in step.meets if each.pairing == ZIP), None)
        found |= {step.index} if before is None else _beginnings(before)
    return found


def _find_ordered(graph: Graph) -> None:
    """Which steps' units must know their place in the order of lineage."""
    for step in reversed(graph.steps):
        edges = [edge for out in step.outs.values() for edge in out]
        step.ordered = any(edge.consumer.kind == MERGE or (_leads(edge) and edge.consumer.ordered) for edge in edges)


def _leads(edge: Edge) -> bool:
    """Whether what a task makes takes its place from the units of this edge."""
    return edge in (edge.consumer.driving, edge.consumer.crosses, *edge.consumer.meets)


def _find_following(graph: Graph) -> None:
    """Where each unit on a port becomes a task of one step, here: a node that made or opened it can go on by itself."""
    for step in graph.steps:
        if step.kind not in (SOURCE, TASK) or not step.here:
            continue
        for port, edges in step.outs.items():
            consumer = edges[0].consumer if len(edges) == 1 else None
            if (
                consumer is not None
                and consumer.kind == TASK
                and consumer.executors == (graph.cluster,)
                and consumer.inputs == [consumer.driving]
                and edges[0].batch is None
                and not consumer.cache_key  # it is looked up before
            ):
                step.follow[port] = edges[0]
                graph.follows = True


def _find_free(graph: Graph) -> None:
    """Which steps leave a choice, and who chooses: their executors and those that make units for them."""
    listeners: set[str] = set()
    for step in graph.steps:
        step.free = step.driving is not None and not step.pinned and len(step.executors) > 1
        if step.free and step.here:
            listeners.update(step.executors, *(producer.executors for producer in step.producers))
    graph.listeners = tuple(sorted(listeners - {graph.cluster}))
