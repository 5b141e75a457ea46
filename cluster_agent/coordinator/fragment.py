"""A fragment read once into the form that the core asks questions of: steps and edges by number, each knowing its ends.

The proto is what travels and what is logged; the graph is derived from it whenever a fragment is taken or a log is
replayed, and never changes. All constant parts of a step's commands are made here, so that starting a task adds only
the task's own bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.coordinator.clusters.measured import Fit
from topology.packing import LIGHT_CPUS
from workflow import keys
from workflow.keys import KeyOf

SOURCE: Final = 0
SPLIT: Final = 1
OUTPUT: Final = 2
TASK: Final = 3
MERGE: Final = 4

FAIL: Final = "fail"  # what a task without attempts left does to its run, see surrendering
CONTINUE: Final = "continue"

EACH: Final = int(model_pb2.PAIRING_EACH)
SAME_CLUSTER: Final = int(model_pb2.PAIRING_SAME_CLUSTER)
GATHER_ALL: Final = int(model_pb2.PAIRING_GATHER_ALL)
BROADCAST: Final = int(model_pb2.PAIRING_BROADCAST)
CROSS: Final = int(model_pb2.PAIRING_CROSS)
ZIP: Final = int(model_pb2.PAIRING_ZIP)
GROUP: Final = int(model_pb2.PAIRING_GROUP)
GATHER_EACH: Final = int(model_pb2.PAIRING_GATHER_EACH)

_KINDS: Final = {"source": SOURCE, "split": SPLIT, "output": OUTPUT, "merge": MERGE}


@dataclass(slots=True, eq=False)
class Edge:
    """To an in port of a step from the out ports that it reads; `id` is "CONSUMER.PORT"."""

    index: int
    id: str
    port: str
    format: str
    form: str  # how a function is given it; empty: as a path
    pairing: int
    consumer: Step
    made: list[tuple[Step, str]]  # producers and their ports
    meets: bool = False  # its units have a cluster where they meet, and make tasks once all of that cluster's are there
    together: bool = False  # of units that are zipped: they come of the same beginnings, and meet where these lay
    keys: KeyOf | None = None  # how the names of units that meet tell what they have in common
    batch: model_pb2.Batch | None = None  # a task takes several units
    parameter: model_pb2.Filled | None = None  # its unit is no input, but the value of this parameter
    copied: bool = False  # each cluster that executes the consumer gets each of its units
    side: bool = False  # its units make no tasks: they are read beside those that do, and not counted as consumed

    @property
    def producers(self) -> list[Step]:
        """The steps that it reads from."""
        return [producer for producer, _ in self.made]


@dataclass(slots=True, eq=False)
class Step:
    """A step of the run as this cluster sees it: what feeds it, what it feeds, who executes and who counts it."""

    index: int
    name: str
    kind: int
    definition: str
    executors: tuple[str, ...]
    shares: dict[str, float]
    counter: str
    here: bool  # this cluster executes it
    counts: bool  # this cluster counts it
    pinned: bool
    preemptible: bool
    slots: int  # reserved for it on this cluster; 0 where it has none of its own
    cpus: float
    memory: int
    pool_min: int
    pool_max: int  # 0 = as many as fit
    pool_idle: float
    pool_step: int  # most workers started at a time, 0 = as many as are wanted; then none for
    pool_pause: float  # seconds
    attempts: int
    backoff: float
    factor: float
    max_backoff: float
    start: bytes  # a serialised StartTask without key and inputs
    jitter: float = 0.0
    on: frozenset[str] = frozenset()  # kinds of failure that are tried again; empty: all
    not_on: frozenset[str] = frozenset()
    queue_timeout: float = 0.0  # see deadlines; 0 = not limited
    start_timeout: float = 0.0
    on_failure: str = FAIL
    file: str = ""  # an output's: the name that the workflow saves it under
    retain: float = 0.0  # an output's: seconds that it is kept after the run's end; 0 = as long as the run
    away: bool = False  # an output's: once the run has ended, it lies in object storage
    prefer: str = ""  # which of several executors a unit goes to: see expected
    tolerates: Mapping[str, float] = field(default_factory=dict)  # NoExecute taints, KEY or KEY=VALUE -> for seconds
    measured: dict[str, Fit] = field(default_factory=dict)  # cluster -> of its tasks, as known when it was planned
    ports: tuple[str, ...] = ()
    inputs: list[Edge] = field(default_factory=list)
    outs: dict[str, list[Edge]] = field(default_factory=dict)
    driving: Edge | None = None
    drives: int = 0  # the place of `driving` among the inputs
    sides: list[Edge] = field(default_factory=list)
    gathers: list[Edge] = field(default_factory=list)
    crosses: Edge | None = None  # the port each of whose units makes a task with each driving unit
    meets: list[Edge] = field(default_factory=list)
    producers: list[Step] = field(default_factory=list)
    consumers: list[Step] = field(default_factory=list)
    audience: tuple[str, ...] = ()  # the other clusters that must hear of its closing

    cache_key: bytes = b""  # see caching; empty: its results are not cached
    cache_age: float = 0.0  # seconds since it was executed that a result is taken; 0 = not limited
    fresh: bool = False  # none is
    whole: bool = False  # a source's: a part is a directory, and one unit
    per_slot: bool = False  # a split that makes as many parts as its reader has slots
    ordered: bool = False  # a merge sorts what is made of its units, by their lineage
    free: bool = False  # each of its units may go to one of several clusters
    follow: dict[str, Edge] = field(default_factory=dict)  # out port -> where the node that made a unit may go on

    @property
    def placed(self) -> bool:
        """Its tasks need a node's room; sources and outputs do not."""
        return self.kind in (SPLIT, TASK, MERGE)

    @property
    def awaits(self) -> list[Step]:
        """The steps that must have closed before it makes a task."""
        return [producer for edge in (*self.gathers, *self.meets, *self.sides) for producer in edge.producers]


@dataclass(slots=True, eq=False)
class Graph:
    """The whole graph of a run, seen from one cluster."""

    namespace: str
    run: str
    cluster: str
    epoch: int
    revision: int
    epochs: dict[str, int]
    workflow: str
    reserve: str  # none, hold or lend
    stop_after: float  # seconds without the hub after which our part is stopped; 0 = never
    replace: bool  # the run may begin again without a cluster that is lost
    timeout: float  # seconds that the run may go on; 0 = not limited
    priority: int
    retain: float  # seconds that data is kept of a run that has not succeeded
    quota: int  # bytes that it may have stored on this cluster at once; 0 = not limited
    steps: list[Step]
    edges: list[Edge]
    step_by_name: dict[str, Step]
    edge_by_id: dict[str, Edge]
    parts: list[tuple[int, int, str, int]]  # step, index, path, size: the data that lies here
    concerned: list[Step] = field(default_factory=list)  # executed or counted here: what must close before we end
    broadcasts: list[Edge] = field(default_factory=list)
    follows: bool = False  # some step has `follow`
    table: bytes = b""  # the hub's word on the epochs, a serialised SignedEpochs; empty at the first revision
    zips: bool = False  # the lineage of units is kept
    hurried: list[Step] = field(default_factory=list)  # those with a timeout for their queue
    listeners: tuple[str, ...] = ()  # the other clusters that may send us units, and want to know how busy we are


@lru_cache(maxsize=1)  # a fragment is checked as it comes, then taken
def read(serialised: bytes, cluster: str) -> Graph:
    """The graph of a serialised `bdw_fed.v1.Fragment`, seen from `cluster`.

    Raises ValueError where the fragment contradicts itself: an edge from a step or port that is not there, a step
    before the one that feeds it, a step with several driving ports, or with gathering and driving ports.
    """
    fragment = model_pb2.Fragment.FromString(serialised)
    graph = Graph(
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
    for proto in fragment.steps:
        step = _step(proto, len(graph.steps), fragment.workflow, cluster)
        for port in proto.inputs:
            _connect(graph, step, port)
        _check_pairing(step)
        graph.steps.append(step)
        graph.step_by_name[step.name] = step
    for step in graph.steps:
        hears = {*step.executors, step.counter}
        for consumer in step.consumers:
            hears.update(consumer.executors, (consumer.counter,))
            if consumer.driving is not None and any(step in edge.producers for edge in consumer.sides):
                for producer in consumer.driving.producers:  # they are held back by it only once it is not waiting
                    hears.update(producer.executors)
        step.audience = tuple(sorted(hears - {cluster, ""}))
    for part in fragment.sources:
        if part.step not in graph.step_by_name:
            raise ValueError(f"sources: part {part.index} belongs to step {part.step!r}, which is not in the fragment")
        graph.parts.append((graph.step_by_name[part.step].index, part.index, part.path, part.size))
    graph.concerned = [step for step in graph.steps if step.here or step.counts]
    _find_zipped(graph)
    graph.hurried = [step for step in graph.steps if step.queue_timeout]
    _find_free(graph)
    _find_following(graph)
    _find_ordered(graph)
    return graph


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


def _step(proto: model_pb2.Step, index: int, workflow: str, cluster: str) -> Step:
    executors = tuple(share.cluster for share in proto.executors)
    kind = _KINDS.get(proto.execution.WhichOneof("kind") or "", TASK)
    start = node_pb2.StartTask()
    start.workflow = workflow
    start.step = proto.name
    start.definition = proto.definition or proto.name
    start.execution.CopyFrom(proto.execution)
    start.outputs.extend(proto.outputs)
    start.parameters_json = proto.parameters_json
    start.resources.CopyFrom(proto.resources)
    start.timeout = proto.timeout
    return Step(
        index=index,
        name=proto.name,
        kind=kind,
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
        start=start.SerializeToString(),
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


def _connect(graph: Graph, consumer: Step, port: model_pb2.InputPort) -> None:
    producer = graph.step_by_name.get(port.from_step)
    edge_id = f"{consumer.name}.{port.name}"
    if producer is None:
        raise ValueError(f"edge {edge_id}: it comes from step {port.from_step!r}, which does not stand before it")
    known = graph.edge_by_id.get(edge_id)
    if known is not None and known.pairing != (int(port.pairing) or EACH):
        raise ValueError(f"edge {edge_id}: it pairs in two ways")
    edge = known or Edge(
        index=len(graph.edges),
        id=edge_id,
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
    if (producer, port.from_port) in edge.made:
        raise ValueError(f"edge {edge_id}: it comes twice from {port.from_step}.{port.from_port}")
    edge.made.append((producer, port.from_port))
    if producer not in consumer.producers:
        consumer.producers.append(producer)
        producer.consumers.append(consumer)
    if port.from_port not in producer.outs:
        producer.ports = (*producer.ports, port.from_port)
    producer.outs.setdefault(port.from_port, []).append(edge)
    if known is not None:
        return
    graph.edges.append(edge)
    graph.edge_by_id[edge_id] = edge
    consumer.inputs.append(edge)
    if edge.copied:
        graph.broadcasts.append(edge)
    if edge.pairing == CROSS:
        if consumer.crosses is not None:
            raise ValueError(f"edge {edge_id}: step {consumer.name} is crossed with {consumer.crosses.id} already")
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
        raise ValueError(f"edge {edge_id}: step {consumer.name} is driven by {consumer.driving.id} already")


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
