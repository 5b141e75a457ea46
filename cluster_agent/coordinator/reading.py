"""A fragment is read once: the graph of its run is made from the proto, seen from this cluster.

It is read whenever a fragment is checked or taken, and as a log is replayed: step by step, each with the edges that
lead to it; `surveying` adds what follows from all of them together. All constant parts of a step's commands are made
here, so that starting a task adds only the task's own bytes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.coordinator.clusters.measured import Fit
from cluster_agent.coordinator.fragment import (
    BROADCAST,
    CROSS,
    EACH,
    FAIL,
    GATHER_ALL,
    GATHER_EACH,
    GROUP,
    MERGE,
    OUTPUT,
    SAME_CLUSTER,
    SOURCE,
    SPLIT,
    TASK,
    ZIP,
    Edge,
    Graph,
    Step,
)
from cluster_agent.coordinator.surveying import survey
from topology.packing import LIGHT_CPUS
from workflow import keys

_KINDS: Final = {"source": SOURCE, "split": SPLIT, "output": OUTPUT, "merge": MERGE}


@lru_cache(maxsize=1)  # a fragment is checked as it comes, then taken
def read(serialised: bytes, cluster: str) -> Graph:
    """The graph of a serialised `bdw_fed.v1.Fragment`, seen from `cluster`.

    Raises ValueError where the fragment contradicts itself: an edge from a step or port that is not there, a step
    before the one that feeds it, a step with several driving ports, or with gathering and driving ports.
    """
    fragment = model_pb2.Fragment.FromString(serialised)
    graph = _graph(fragment, cluster)
    for proto in fragment.steps:
        step = _step(proto, len(graph.steps), fragment.workflow, cluster)
        for port in proto.inputs:
            _connect(graph, step, port)
        _check_pairing(step)
        graph.steps.append(step)
        graph.step_by_name[step.name] = step
    for part in fragment.sources:
        if part.step not in graph.step_by_name:
            raise ValueError(f"sources: part {part.index} belongs to step {part.step!r}, which is not in the fragment")
        graph.parts.append((graph.step_by_name[part.step].index, part.index, part.path, part.size))
    survey(graph)
    return graph


def _graph(fragment: model_pb2.Fragment, cluster: str) -> Graph:
    """What the fragment says of the whole run; no step is in it yet."""
    return Graph(
        namespace=fragment.namespace,
        run=fragment.run,
        cluster=cluster,
        epoch=fragment.epoch,
        revision=fragment.revision,
        epochs=dict(sorted(fragment.epochs.items())),
        workflow=fragment.workflow,
        reserve=fragment.policy.reserve,
        stop_after=fragment.policy.stop_after,
        replace=fragment.policy.replace,
        timeout=fragment.policy.timeout,
        priority=fragment.policy.priority,
        retain=fragment.policy.retain,
        quota=fragment.policy.quota,
        steps=[],
        edges=[],
        step_by_name={},
        edge_by_id={},
        parts=[],
        table=fragment.table.SerializeToString(),
    )


def _step(proto: model_pb2.Step, index: int, workflow: str, cluster: str) -> Step:
    """A step that nothing leads to yet."""
    executors = tuple(share.cluster for share in proto.executors)
    return Step(
        index=index,
        name=proto.name,
        kind=_KINDS.get(proto.execution.WhichOneof("kind") or "", TASK),
        definition=proto.definition or proto.name,
        executors=executors,
        shares={share.cluster: share.share for share in proto.executors},
        counter=proto.counter,
        here=cluster in executors,
        counts=proto.counter == cluster,
        pinned=proto.pinned,
        preemptible=proto.preemptible,
        slots=next((share.slots for share in proto.executors if share.cluster == cluster), 0),
        cpus=proto.resources.cpus or LIGHT_CPUS,
        memory=proto.resources.memory,
        pool_min=proto.pool.min,
        pool_max=proto.pool.max,
        pool_idle=proto.pool.idle,
        pool_step=proto.pool.step,
        pool_pause=proto.pool.pause,
        attempts=proto.retry.attempts or 3,
        backoff=proto.retry.backoff if proto.HasField("retry") else 1.0,
        factor=proto.retry.factor or 2.0,
        max_backoff=proto.retry.max_backoff or 60.0,
        start=_start(proto, workflow),
        jitter=proto.retry.jitter,
        on=frozenset(proto.retry.on),
        not_on=frozenset(proto.retry.not_on),
        queue_timeout=proto.queue_timeout,
        start_timeout=proto.start_timeout,
        on_failure=proto.on_failure or FAIL,
        file=proto.execution.output.file,
        away=proto.execution.output.store == "shared",
        whole=proto.execution.source.directory,
        retain=proto.execution.output.retain,
        per_slot=proto.execution.split.split.per_slot,
        prefer=proto.prefer,
        cache_key=proto.cache.key,
        cache_age=proto.cache.age,
        fresh=proto.cache.fresh,
        tolerates={**proto.tolerates_for, **dict.fromkeys(proto.tolerates, math.inf)},
        measured={
            each.cluster: Fit(each.fixed_seconds, each.seconds_per_byte, each.mean_seconds, each.weight)
            for each in proto.measured
        },
        ports=tuple(port.name for port in proto.outputs),
        outs={port.name: [] for port in proto.outputs},
    )


def _start(proto: model_pb2.Step, workflow: str) -> bytes:
    """All of a task's StartTask that does not depend on the task."""
    start = node_pb2.StartTask()
    start.workflow = workflow
    start.step = proto.name
    start.definition = proto.definition or proto.name
    start.execution.CopyFrom(proto.execution)
    start.outputs.extend(proto.outputs)
    start.parameters_json = proto.parameters_json
    start.resources.CopyFrom(proto.resources)
    start.timeout = proto.timeout
    return start.SerializeToString()


def _connect(graph: Graph, consumer: Step, port: model_pb2.InputPort) -> None:
    """Lead what the port names to the step: over the edge that is there, or over a new one."""
    producer = graph.step_by_name.get(port.from_step)
    edge_id = f"{consumer.name}.{port.name}"
    if producer is None:
        raise ValueError(f"edge {edge_id}: it comes from step {port.from_step!r}, which does not stand before it")
    known = graph.edge_by_id.get(edge_id)
    if known is not None and known.pairing != (int(port.pairing) or EACH):
        raise ValueError(f"edge {edge_id}: it pairs in two ways")
    edge = known or _edge(len(graph.edges), edge_id, consumer, port)
    if (producer, port.from_port) in edge.made:
        raise ValueError(f"edge {edge_id}: it comes twice from {port.from_step}.{port.from_port}")
    edge.made.append((producer, port.from_port))
    if producer not in consumer.producers:
        consumer.producers.append(producer)
        producer.consumers.append(consumer)
    if port.from_port not in producer.outs:
        producer.ports = (*producer.ports, port.from_port)
    producer.outs.setdefault(port.from_port, []).append(edge)
    if known is None:
        graph.edges.append(edge)
        graph.edge_by_id[edge_id] = edge
        if edge.copied:
            graph.broadcasts.append(edge)
        _take_in(consumer, edge)


def _edge(index: int, identifier: str, consumer: Step, port: model_pb2.InputPort) -> Edge:
    return Edge(
        index=index,
        id=identifier,
        port=port.name,
        format=port.format,
        form=port.form,
        pairing=int(port.pairing) or EACH,
        consumer=consumer,
        batch=port.batch if port.HasField("batch") else None,
        parameter=port.parameter if port.HasField("parameter") else None,
        meets=port.pairing in (GROUP, GATHER_EACH, ZIP),
        keys=keys.parse(port.group_by) if port.pairing == GROUP else None,
        side=port.pairing in (SAME_CLUSTER, BROADCAST, CROSS),
        copied=port.pairing in (BROADCAST, CROSS),
        made=[],
    )


def _take_in(consumer: Step, edge: Edge) -> None:
    """What the units of a new edge are for its step."""
    consumer.inputs.append(edge)
    if edge.pairing == CROSS:
        if consumer.crosses is not None:
            raise ValueError(f"edge {edge.id}: step {consumer.name} is crossed with {consumer.crosses.id} already")
        consumer.crosses = edge
    if edge.side:
        consumer.sides.append(edge)
    elif edge.pairing == GATHER_ALL:
        consumer.gathers.append(edge)
    elif edge.meets:
        consumer.meets.append(edge)
    elif consumer.driving is None:
        consumer.driving = edge
        consumer.drives = len(consumer.inputs) - 1
    else:
        raise ValueError(f"edge {edge.id}: step {consumer.name} is driven by {consumer.driving.id} already")


def _check_pairing(step: Step) -> None:
    if not step.executors and step.inputs:
        raise ValueError(f"step {step.name}: no cluster may execute it")
    if step.gathers and len(step.gathers) != len(step.inputs):
        raise ValueError(f"step {step.name}: all of its ports must gather when one does")
    if len({edge.pairing for edge in step.meets}) > 1 or (step.meets and (step.gathers or step.driving)):
        raise ValueError(f"step {step.name}: its ports bring their units together in ways that exclude each other")
    if step.crosses is not None and (step.driving is None or step.driving.batch is not None):
        raise ValueError(f"edge {step.crosses.id}: it can be crossed with a port whose units make a task each")
    if step.sides and step.driving is None and not step.meets:
        raise ValueError(f"step {step.name}: no port drives it; one must take a unit a task")
