"""What follows from a run's durable state, kept ready so that no event needs a search: queues, counts, who runs where.

A `LiveRun` stands beside each durable run. It is changed where records are applied, and `lives.rebuilt` from the
durable run after a restart gives what was there before, but for what only time or a connection can tell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator.cache.searches import Listing, Serving, Sought
from cluster_agent.coordinator.clusters.ways import Out
from cluster_agent.coordinator.fragment import CROSS, SPLIT, Graph, Step
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.space.bounds import Need, Quota, Still, Window, stored_by
from cluster_agent.coordinator.state import RETRYING, KnownOutput, Run, Task
from cluster_agent.coordinator.tasks.queues import Queue
from cluster_agent.coordinator.units.errands import Fetch, Rescue
from cluster_agent.pools.ahead import Arriving

_GOING = (model_pb2.FRAGMENT_STATE_ASSIGNED, model_pb2.FRAGMENT_STATE_RUNNING)


@dataclass(slots=True)
class Waiting:
    """Units that are to be batched: their bytes, and when they are at the latest."""

    size: int
    due: float = 0.0  # 0 = nobody has looked at them yet


@dataclass(slots=True, eq=False)
class LiveRun:
    """The derived side of a run."""

    run: Run
    graph: Graph
    key: RunKey = field(init=False)
    header: bytes = field(init=False)  # how each of its messages to other clusters begins
    counted_since: float | None = None  # from when the run's time is not in the state yet
    unclosed: int = field(init=False)  # steps
    check: set[int] = field(default_factory=set)  # steps that may form a group, close or report
    results: list[tuple[int, bytes]] = field(default_factory=list)  # (output step, unit) to be told to the hub
    refused: set[tuple[str, int]] = field(default_factory=set)  # (cluster, epoch) that were told so

    # Tasks, and what they form from.
    pending_parts: deque[int] = field(default_factory=deque)  # parts of sources that a node should open
    sides: dict[int, dict[str, list[list[bytes]]]] = field(default_factory=dict)  # step -> origin -> its ports' units
    batches: dict[int, Waiting] = field(default_factory=dict)  # step -> what waits to be batched
    brings: set[int] = field(default_factory=set)  # steps for which the copies of broadcasts are brought
    ready: list[Queue] = field(init=False)  # for each step the tasks that wait for a node
    waiting: int = 0  # tasks in `ready`, over all steps
    requeued: set[bytes] = field(default_factory=set)  # tasks that are to be tried again and whose time has come
    parked: dict[bytes, list[bytes]] = field(default_factory=dict)  # unit that no connected node has -> who needs it

    # Nodes, and what they have of the tasks.
    assigned: list[int] = field(init=False)
    missing: dict[bytes, int] = field(default_factory=dict)  # assigned task -> inputs that are not on its node yet
    started: dict[bytes, float] = field(default_factory=dict)  # task -> since when a worker has it
    works: dict[tuple[int, bool], int] = field(default_factory=dict)  # (step, node may go on by itself) -> number
    starved: dict[int, float] = field(default_factory=dict)  # step of which no waiting task got a node -> since when
    queues_watched: set[int] = field(default_factory=set)  # steps whose waiting tasks a timer looks after
    lacking: set[int] = field(default_factory=set)  # steps that no node can hold
    measured: dict[int, tuple[int, float]] = field(default_factory=dict)  # step -> tasks, seconds its pool knows of
    arriving: list[Arriving | None] = field(default_factory=list)  # what will come to each step, as looked at last
    looks_until: float = 0.0  # when all that it was looked at is worked off, see foreseeing
    look_asked: bool = False  # a timer looks at it

    # Units that come, lie here, or got lost.
    fetches: dict[tuple[bytes, str], Fetch] = field(default_factory=dict)
    twins: dict[bytes, list[bytes]] = field(default_factory=dict)  # unit on its way here -> others of that content
    contents: dict[bytes, bytes] = field(default_factory=dict)  # digest -> first unit of it that came from elsewhere
    strays: dict[bytes, list[str]] = field(default_factory=dict)  # unit that we don't know -> nodes that have it
    relocated: list[bytes] = field(default_factory=list)  # units that had no copy and have one again
    rescues: dict[bytes, Rescue] = field(default_factory=dict)  # outputs, once the fragment has ended
    released: list[tuple[str, int, bytes]] = field(default_factory=list)  # (cluster, edge, unit) to tell its sender

    # Units that go to other clusters.
    owed: int = 0  # units on their way out
    queued: dict[str, deque[tuple[int, bytes]]] = field(default_factory=dict)  # cluster -> (edge, unit) to be offered
    offered: dict[str, dict[tuple[int, bytes], float]] = field(default_factory=dict)  # not granted yet -> since when
    sent: dict[tuple[str, int], int] = field(default_factory=dict)  # (cluster, step) -> units sent and not released
    push_tries: dict[tuple[bytes, str], int] = field(default_factory=dict)  # (unit, cluster) -> pushes that failed
    silent: dict[str, int] = field(default_factory=dict)  # cluster -> times in a row that it left offers unanswered
    watched: set[str] = field(default_factory=set)  # clusters whose offers a timer looks after

    # Results that may be known.
    formed: deque[bytes] = field(default_factory=deque)  # tasks whose result may be known, see remembering
    stock: dict[bytes, KnownOutput] = field(init=False)  # unit of a remembered task -> where its bytes are
    sought: dict[bytes, Sought] = field(default_factory=dict)  # of these tasks those that wait for it, see seeking
    sought_units: dict[bytes, bytes] = field(default_factory=dict)  # unit that is fetched for one -> that task
    spurned: set[bytes] = field(default_factory=set)  # units fetched for tasks that are executed all the same
    listings: dict[bytes, Listing] = field(default_factory=dict)  # task whose units go to others -> what they are told
    serving: dict[bytes, Serving] = field(default_factory=dict)  # tasks of others whose result a node looks for

    # Space.
    stored: int = field(init=False)  # bytes of copies of its units, see copies
    promised: int = 0  # bytes that the tasks which nodes were given are expected to take
    needs: dict[bytes, Need] = field(default_factory=dict)  # of tasks that have met a full disk
    short: dict[int, tuple[str, ...]] = field(default_factory=dict)  # step that waits for disk -> nodes without any
    leaves: dict[tuple[int, str], int] = field(default_factory=dict)  # (split, node) -> bytes it was told to leave
    windows: dict[bytes, Window] = field(default_factory=dict)  # of splits that nodes were given, within a quota
    bounded: dict[int, Quota] = field(default_factory=dict)  # step whose tasks wait, or OFFERS -> for which quota
    unanswered: dict[tuple[int, bytes], None] = field(default_factory=dict)  # offered (edge, unit) that wait for disk
    still: Still | None = None  # as it was looked at last, see stuck

    def __post_init__(self) -> None:
        run, graph = self.run, self.graph
        steps = len(graph.steps)
        self.key = run.key
        self.header = peer_pb2.PeerMessage(
            namespace=graph.namespace, run=graph.run, epoch=graph.epoch, revision=graph.revision
        ).SerializeToString()
        self.unclosed = len(graph.concerned)
        self.ready = [Queue() for _ in range(steps)]
        self.assigned = [0] * steps
        self.stock = {each.unit.id: each for entry in run.known.values() for each in entry.outputs}
        self.stored = stored_by(run)

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

    def has(self, unit: bytes, node: str) -> bool:
        """Whether a node has the unit, known or remembered, as we believe."""
        known = self.run.units.get(unit)
        return node in known.copies if known is not None else self.stocked(unit, node)

    def make_ready(self, task: Task) -> None:
        """Put a task into its step's queue."""
        queue = self.ready[task.step]
        if self.is_awaited(task):
            queue.put_awaited(task.id)
        elif self.was_sent(task):
            queue.put_sent(task.id)
        else:
            queue.put(task.id)
        self.waiting += 1

    def is_awaited(self, task: Task) -> bool:
        """Units that the task has made may be lost, and waited for: it was done, or is a split that had begun."""
        return task.remake or (task.attempt > self.run.attempts_before and self.graph.steps[task.step].kind == SPLIT)

    def was_sent(self, task: Task) -> bool:
        """Another cluster, that had a choice, has sent the task's unit here."""
        step = self.graph.steps[task.step]
        return step.free and task.inputs[step.drives][0] in self.run.incoming

    def unready(self, task: Task) -> None:
        """Take a task out of its step's queue; nothing happens if it is not there."""
        if self.ready[task.step].take(task.id):
            self.waiting -= 1
            self.requeued.discard(task.id)

    def unpark(self, unit: bytes) -> None:
        """A connected node has the unit (again): tasks that waited for it may be placed."""
        for task_id in self.parked.pop(unit, ()):
            task = self.run.tasks[task_id]
            if task.state == RETRYING:
                self.requeued.add(task_id)
            self.make_ready(task)

    def leave_parked(self, task: Task) -> None:
        """The result came from a node that was given up: the task waits for no input any more."""
        for ids in self.inputs(task):
            for unit in ids:
                if others := [each for each in self.parked.pop(unit, ()) if each != task.id]:
                    self.parked[unit] = others

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
