"""What follows from the durable state, kept ready so that no event needs a search: queues, counts, who runs where.

A `LiveRun` stands beside each durable run. It is changed where records are applied, and `rebuilt` from the durable run
after a restart gives what was there before, but for what only time or a connection can tell.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator.fragment import CROSS, SPLIT, Graph, Step
from cluster_agent.coordinator.messages import Place, RunKey
from cluster_agent.coordinator.nodes.claims import Hold
from cluster_agent.coordinator.records import Made
from cluster_agent.coordinator.space import footprint
from cluster_agent.coordinator.space.bounds import Quota, Window, stored_by
from cluster_agent.coordinator.space.footprint import Need
from cluster_agent.coordinator.state import (
    ASSIGNED,
    OFFERED,
    PENDING,
    QUEUED,
    READY,
    RETRYING,
    KnownOutput,
    Out,
    Run,
    Task,
)
from cluster_agent.orders.messages import Output
from cluster_agent.pools.ahead import Arriving

_GOING = (model_pb2.FRAGMENT_STATE_ASSIGNED, model_pb2.FRAGMENT_STATE_RUNNING)


@dataclass(slots=True, eq=False)
class Node:
    """A node as it is now. Room is counted for the tasks that it was given, not for those that it happens to run."""

    name: str
    connected: bool = False
    incarnation: bytes = b""
    stream: int = 0
    cpus: float = 0.0
    memory: int = 0
    cordoned: bool = False
    disk_free: int = 0  # bytes, as it said last
    disk_size: int = 0  # 0 = not told
    promised: int = 0  # bytes that the tasks which it was given are expected to take
    full: bool = False  # a task that makes it fuller was held back
    place: Place = field(default_factory=lambda: Place("", ""))
    used_cpus: float = 0.0
    split_cpus: float = 0.0  # beside: splits may wait for what they are in the way of, so they are in nobody's
    used_memory: int = 0
    tasks: dict[tuple[RunKey, bytes], int] = field(default_factory=dict)  # -> bytes that it was promised
    running: dict[str, int] = field(default_factory=dict)  # definition -> tasks that it was given
    works: set[int] = field(default_factory=set)  # numbers of the works that it was told since it joined
    fetching: int = 0  # bytes that were sent for
    places: frozenset[str] = frozenset()  # shared ones that it reaches
    told_places: frozenset[str] = frozenset()  # those that others reach, too, as it was told
    holds: dict[RunKey, Hold] = field(default_factory=dict)  # what runs reserved here
    lost_at: float = 0.0
    written_off: bool = False  # away for so long that its tasks went to others

    @property
    def open(self) -> bool:
        """Whether it takes new tasks."""
        return self.connected and not self.cordoned


@dataclass(slots=True, eq=False)
class Fetch:
    """Bytes on their way to a node: from another node, or from the cluster that granted the unit."""

    unit: bytes
    node: str
    tasks: list[bytes] = field(default_factory=list)  # assigned to the node, waiting for the bytes
    crossing: bool = False
    set_aside: int = 0  # bytes of the node's disk, see underway
    source: str = ""  # the node of ours that they come from
    tries: int = 0
    checks: bool = False  # it is there, as we believe; the node looks
    said: bool = False  # the node was told, and has not answered
    unshared: bool = False  # a shared place did not give it: it is asked for elsewhere


@dataclass(slots=True, eq=False)
class Rescue:
    """An output that only a bucket has, and the node that is to take it over. See rescuing."""

    node: str = ""
    stream: int = -1  # of that node's connections the one on which it was told; -1: it has answered that it can't
    tries: int = 0
    asked: set[str] = field(default_factory=set)  # nodes that may have it by now


@dataclass(slots=True, eq=False)
class Clearing:
    """Who was told to delete a leftover in a shared place; `stream` tells a node's connections apart."""

    node: str = ""
    stream: int = 0
    tries: int = 0


@dataclass(slots=True)
class Sought:
    """A task that waits until it is known whether it must be executed. `asked`: the clusters that have not answered."""

    key: bytes  # in a cache; empty: it is not looked for there
    due: float  # then it waits no more
    contents: bytes = b""  # that it reads, where others may know it from before the run began again
    outputs: tuple[Output, ...] | None = None  # None: nobody knows them so far
    places: dict[bytes, Place] = field(default_factory=dict)  # of outputs: where peers have them
    executed: float = 0.0
    node: str = ""  # that looks for the contents, or gets them
    fetches: bool = False  # its outputs are on their way from peers
    asked: set[str] = field(default_factory=set)
    lacking: set[bytes] = field(default_factory=set)  # units on their way


@dataclass(slots=True)
class Listing:
    """A long list of what a task has made: how many of it each cluster was told."""

    made: Made
    told: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Serving:
    """A result in our cache that other clusters have asked for, and whose contents a node looks for."""

    clusters: list[str]
    key: bytes
    node: str
    outputs: tuple[Output, ...]
    executed: float


@dataclass(slots=True)
class Waiting:
    """Units that are to be batched: their bytes, and when they are at the latest."""

    size: int
    due: float = 0.0  # 0 = nobody has looked at them yet


class Nodes(dict[str, Node]):
    """Nodes by name. One that never joined is there, and not connected, as soon as anything names it."""

    def __missing__(self, name: str) -> Node:
        node = self[name] = Node(name)
        return node


class LiveRun:
    """The derived side of a run."""

    __slots__ = (
        "arriving",
        "assigned",
        "batches",
        "bounded",
        "brings",
        "check",
        "contents",
        "counted_since",
        "fetches",
        "formed",
        "graph",
        "header",
        "key",
        "lacking",
        "leaves",
        "listings",
        "look_asked",
        "looks_until",
        "measured",
        "missing",
        "needs",
        "offered",
        "owed",
        "parked",
        "pending_parts",
        "promised",
        "push_tries",
        "queued",
        "queues_watched",
        "ready",
        "refused",
        "released",
        "relocated",
        "requeued",
        "rescues",
        "results",
        "run",
        "sent",
        "serving",
        "short",
        "sides",
        "silent",
        "sought",
        "sought_units",
        "spurned",
        "started",
        "starved",
        "stock",
        "stored",
        "strays",
        "stuck_at",
        "twins",
        "unanswered",
        "unclosed",
        "waiting",
        "watched",
        "windows",
        "works",
    )

    def __init__(self, run: Run, graph: Graph) -> None:
        steps = len(graph.steps)
        self.run = run
        self.arriving: list[Arriving | None] = []  # what will come to each step, when it was looked at last
        self.looks_until = 0.0  # when all that it was looked at is worked off, see foreseeing
        self.look_asked = False  # a timer looks at it
        self.measured: dict[int, tuple[int, float]] = {}  # step -> tasks and seconds that its pool knows of
        self.graph = graph
        self.batches: dict[int, Waiting] = {}  # step -> what waits to be batched
        self.brings: set[int] = set()  # steps for which the copies of broadcasts are brought
        self.key = run.key
        self.ready: list[deque[bytes]] = [deque() for _ in range(steps)]
        self.waiting = 0  # tasks in `ready`, over all steps
        self.requeued: set[bytes] = set()  # tasks that are to be tried again and whose time has come
        self.formed: deque[bytes] = deque()  # tasks whose result may be known, see remembering
        self.pending_parts: deque[int] = deque()  # parts of sources that a node should open
        self.assigned = [0] * steps
        self.started: dict[bytes, float] = {}  # task -> since when a worker has it
        self.stock: dict[bytes, KnownOutput] = {  # unit of a remembered task -> where its bytes are
            each.unit.id: each for entry in run.known.values() for each in entry.outputs
        }
        self.starved: dict[int, float] = {}  # step whose tasks wait for a node, and none was given one -> since when
        self.queues_watched: set[int] = set()  # steps whose waiting tasks a timer looks after
        self.counted_since: float | None = None  # from when the run's time is not in the state yet
        self.strays: dict[bytes, list[str]] = {}  # unit that we don't know -> nodes that have it all the same
        self.missing: dict[bytes, int] = {}  # assigned task -> inputs that are not on its node yet
        self.fetches: dict[tuple[bytes, str], Fetch] = {}
        self.rescues: dict[bytes, Rescue] = {}  # outputs, once the fragment has ended
        self.parked: dict[bytes, list[bytes]] = {}  # unit that no connected node has -> tasks that need it
        self.queued: dict[str, deque[tuple[int, bytes]]] = {}  # cluster -> (edge, unit) to be offered
        self.offered: dict[str, dict[tuple[int, bytes], float]] = {}  # not granted yet -> since when
        self.sent: dict[tuple[str, int], int] = {}  # (cluster, step) -> units sent and not released
        self.push_tries: dict[tuple[bytes, str], int] = {}  # (unit, cluster) -> pushes that failed
        self.silent: dict[str, int] = {}  # cluster -> times in a row that offers to it were left without an answer
        self.watched: set[str] = set()  # clusters whose offers a timer looks after
        self.owed = 0  # units on their way out
        self.unclosed = len(graph.concerned)
        self.sides: dict[int, dict[str, list[list[bytes]]]] = {}  # step -> origin -> units of each side port
        self.check: set[int] = set()  # steps that may form a group, close or report
        self.refused: set[tuple[str, int]] = set()  # (cluster, epoch) that were told that they are not heard any more
        self.released: list[tuple[str, int, bytes]] = []  # (cluster, edge, unit) to be told to its sender
        self.relocated: list[bytes] = []  # units that had no copy and have one again
        self.results: list[tuple[int, bytes]] = []  # (output step, unit) to be told to the hub
        self.sought: dict[bytes, Sought] = {}  # tasks whose result may be known: they wait, see seeking
        self.sought_units: dict[bytes, bytes] = {}  # unit that is fetched for one of them -> that task
        self.spurned: set[bytes] = set()  # units that were fetched for tasks that are executed all the same
        self.listings: dict[bytes, Listing] = {}  # task whose units go to other clusters -> what those are told of it
        self.serving: dict[bytes, Serving] = {}  # tasks of other clusters whose result is looked for on a node
        self.lacking: set[int] = set()  # steps that no node can hold
        self.short: dict[int, tuple[str, ...]] = {}  # step whose tasks wait for disk -> nodes that have none for them
        self.leaves: dict[tuple[int, str], int] = {}  # (split, node) -> bytes of the disk that it was told to leave
        self.needs: dict[bytes, Need] = {}  # of tasks that have met a full disk
        self.stored = stored_by(run)  # bytes of copies of its units, see copies
        self.promised = 0  # bytes that the tasks which nodes were given are expected to take
        self.windows: dict[bytes, Window] = {}  # of splits that nodes were given, where there is a quota
        self.bounded: dict[int, Quota] = {}  # step whose tasks wait, or OFFERS -> the quota that they wait for
        self.unanswered: dict[tuple[int, bytes], None] = {}  # (edge, unit) that are offered, and wait for disk here
        self.stuck_at: tuple[int, ...] | None = None  # what had been done when it was seen to stand still, see stuck
        self.twins: dict[bytes, list[bytes]] = {}  # unit on its way here -> others of the same content
        self.contents: dict[bytes, bytes] = {}  # digest -> first unit of that content that came from elsewhere
        self.works: dict[tuple[int, bool], int] = {}  # (step, may the node go on by itself) -> number of the work
        self.header = peer_pb2.PeerMessage(
            namespace=graph.namespace, run=graph.run, epoch=graph.epoch, revision=graph.revision
        ).SerializeToString()

    @property
    def going(self) -> bool:
        """The fragment has not ended."""
        return self.run.state in _GOING

    @property
    def dispatching(self) -> bool:
        """New work may start."""
        return self.run.state in _GOING and self.run.desired == model_pb2.DESIRED_STATE_RUNNING

    def fetching(self, unit: bytes, node: str) -> bool:
        """The unit's bytes are on their way to the node."""
        return (unit, node) in self.fetches

    def stocked(self, unit: bytes, node: str) -> bool:
        """The node's copy of a unit that is not known yet is remembered: it may be wanted."""
        stock = self.stock.get(unit)
        return stock is not None and node in stock.copies

    def make_ready(self, task: Task) -> None:
        """Put a task into its step's queue.

        First comes what somebody may be waiting for, since that begins where all else is held back. Then what another
        cluster has sent here, and at the end the rest.
        """
        queue = self.ready[task.step]
        if self.is_awaited(task):
            queue.appendleft(task.id)
        elif self.was_sent(task):
            queue.insert(self._awaited(queue), task.id)
        else:
            queue.append(task.id)
        self.waiting += 1

    def is_awaited(self, task: Task) -> bool:
        """Units that the task has made may be lost, and waited for: it was done, or is a split that had begun."""
        return task.remake or (task.attempt > self.run.attempts_before and self.graph.steps[task.step].kind == SPLIT)

    def _awaited(self, queue: deque[bytes]) -> int:
        """How many tasks there are at the head of a step's queue for which somebody may be waiting."""
        tasks = self.run.tasks
        return next((place for place, task in enumerate(queue) if not self.is_awaited(tasks[task])), len(queue))

    def was_sent(self, task: Task) -> bool:
        """Another cluster, that had a choice, has sent the task's unit here."""
        step = self.graph.steps[task.step]
        return step.free and task.inputs[step.drives][0] in self.run.incoming

    def unready(self, task: Task) -> None:
        """Take a task out of its step's queue, where it mostly stands first; nothing happens if it is not there."""
        queue = self.ready[task.step]
        if queue and queue[0] == task.id:
            queue.popleft()
        elif task.id in queue:
            queue.remove(task.id)
        else:
            return
        self.waiting -= 1
        self.requeued.discard(task.id)

    def unpark(self, unit: bytes) -> None:
        """A connected node has the unit (again): tasks that waited for it may be placed."""
        for task_id in self.parked.pop(unit, ()):
            task = self.run.tasks[task_id]
            if task.state == RETRYING:
                self.requeued.add(task_id)
            elif task.state != READY:
                continue  # its result came after all
            self.make_ready(task)

    def going_away(self) -> list[bytes]:
        """The run's outputs that lie in object storage once it has ended."""
        return [unit for step, unit in self.run.outputs if self.graph.steps[step].away]

    def inputs(self, task: Task) -> list[list[bytes]]:
        """A task's unit ids for each in port of its step, side inputs included."""
        step = self.graph.steps[task.step]
        if not step.sides:
            return task.inputs
        sides = iter(self.side_units(step, task.origin))
        found = []
        for edge, units in zip(step.inputs, task.inputs, strict=True):
            beside = next(sides) if edge.side else units
            found.append(units if edge.pairing == CROSS else beside)
        return found

    def side_units(self, step: Step, origin: str) -> list[list[bytes]]:
        """For each side port: its units of that origin, of a broadcast all of them, sorted.

        They are complete once the step's groups may form.
        """
        by_origin = self.sides.get(step.index)
        if by_origin is None:
            by_origin = self.sides[step.index] = {}
        found = by_origin.get(origin)
        if found is None:
            units = self.run.units
            found = [
                sorted(unit for unit in self.run.edges[edge.index].held if edge.copied or units[unit].origin == origin)
                for edge in step.sides
            ]
            by_origin[origin] = found
        return found

    def queue_out(self, cluster: str, edge: int, unit: bytes) -> None:
        """Put a unit at the end of what is to be offered to a cluster, and count it as sent there."""
        queue = self.queued.get(cluster)
        if queue is None:
            queue = self.queued[cluster] = deque()
        queue.append((edge, unit))
        self.count_out(cluster, edge, 1)

    def count_out(self, cluster: str, edge: int, by: int) -> None:
        """Count a unit that is on its way to a cluster, or is no more."""
        self.owed += by
        if not self.graph.edges[edge].side:  # a copy is no work that the cluster has before it
            key = (cluster, self.graph.edges[edge].consumer.index)
            self.sent[key] = self.sent.get(key, 0) + by

    def ways_out(self) -> Iterator[tuple[int, bytes, Out]]:
        """All that is on its way to other clusters: edge, unit, and how far it is."""
        for edge, edge_state in enumerate(self.run.edges):
            for unit, out in edge_state.outs.items():
                yield edge, unit, out
            for unit, copies in edge_state.copies.items():
                for out in copies.values():
                    yield edge, unit, out

    def parts_open(self, step: int) -> bool:
        """All parts of a source that lie here were opened, so that no more units can come of it."""
        return all(part.known for part in self.run.parts if part.step == step)


class Lives(dict[RunKey, LiveRun]):
    """All runs that we have, and apart from those that have ended: what is going, and who listens.

    Runs that have ended stay until nobody wants their results, and there may be very many of them. What is done in each
    batch looks at the others alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.going: dict[RunKey, LiveRun] = {}  # those that have not ended
        self.listeners: dict[str, dict[RunKey, LiveRun]] = {}  # of these: cluster that may send us units -> runs
        self.stored: Counter[str] = Counter()  # namespace -> bytes, of all runs

    def take(self, live: LiveRun) -> None:
        """Put a run in, or another live side in the place of what it had."""
        self.set_aside(live.key)
        if live.key in self:
            del self[live.key]
        self[live.key] = live
        self.stored[live.key.namespace] += live.stored
        if live.going:
            self.going[live.key] = live
            for cluster in live.graph.listeners:
                self.listeners.setdefault(cluster, {})[live.key] = live

    def __delitem__(self, run: RunKey) -> None:
        self.stored[run.namespace] -= self[run].stored
        super().__delitem__(run)

    def set_aside(self, run: RunKey) -> None:
        """The run has ended, or is about to be dropped; nothing happens if it had ended before."""
        live = self.going.pop(run, None)
        if live is None:
            return
        for cluster in live.graph.listeners:
            runs = self.listeners[cluster]
            del runs[run]
            if not runs:
                del self.listeners[cluster]


def rebuilt(run: Run, graph: Graph, nodes: Nodes, now: float) -> LiveRun:
    """The live side of a durable run, with its tasks counted against their nodes' room."""
    live = LiveRun(run, graph)
    for step in graph.concerned:
        if run.steps[step.index].closed:
            live.unclosed -= 1
    for edge, unit, out in live.ways_out():
        if out.state == QUEUED:
            live.queue_out(out.cluster, edge, unit)
            continue
        live.count_out(out.cluster, edge, 1)
        if out.state == OFFERED:
            live.offered.setdefault(out.cluster, {})[edge, unit] = now
    if live.going:
        live.pending_parts.extend(index for index, part in enumerate(run.parts) if part.state == PENDING)
        for task in run.tasks.values():
            if task.state == READY:
                live.make_ready(task)
                if run.remembers or graph.steps[task.step].cache_key:
                    live.formed.append(task.id)
            elif task.state == ASSIGNED:
                live.assigned[task.step] += 1
                take_room(nodes, live, task)
    live.check.update(range(len(graph.steps)))
    return live


def take_room(nodes: Nodes, live: LiveRun, task: Task) -> None:
    """Count a task against the room of the node that it is assigned to."""
    node = nodes[task.node]
    step = live.graph.steps[task.step]
    node.running[step.definition] = node.running.get(step.definition, 0) + 1
    if step.kind == SPLIT:
        node.split_cpus += step.cpus
    else:
        node.used_cpus += step.cpus
        node.used_memory += step.memory
        if (hold := node.holds.get(live.key)) is not None:
            hold.used.add(step.cpus, step.memory)
    promised = footprint.promised(live, task, node.name)
    if task.attempt == 1:  # it may go on by itself; where it is told not to, that is given back
        promised += footprint.follows(live, step)
    node.promised += promised
    live.promised += promised
    node.tasks[live.key, task.id] = promised


def give_room(nodes: Nodes, live: LiveRun, task: Task) -> None:
    """The task is not on its node any more."""
    node = nodes[task.node]
    step = live.graph.steps[task.step]
    promised = node.tasks.pop((live.key, task.id))
    node.promised -= promised
    live.promised -= promised
    if live.windows:
        live.windows.pop(task.id, None)
    node.running[step.definition] -= 1
    if step.kind == SPLIT:
        node.split_cpus -= step.cpus
    else:
        node.used_cpus -= step.cpus
        node.used_memory -= step.memory
        if (hold := node.holds.get(live.key)) is not None:
            hold.used.add(-step.cpus, -step.memory)
    if not node.tasks:  # so that rounding does not add up
        node.used_cpus = node.split_cpus = 0.0
        node.used_memory = 0
    live.started.pop(task.id, None)
    live.missing.pop(task.id, None)
