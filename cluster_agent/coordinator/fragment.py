"""A fragment in the form that the core asks questions of: steps and edges by number, each knowing its ends.

The proto is what travels and what is logged; the graph is made from it, see `reading`, and never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator.clusters.measured import Fit
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
