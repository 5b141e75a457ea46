"""A cluster on virtual time: the production coordinator with its log, and nodes that take as long as they are told.

    hub ─ assignments ─▶ coordinator ─ orders ─▶ nodes ─ results ─▶ coordinator ─ answers, ends ─▶ hub
                              └─ offers, grants ─▶ other clusters

A batch of events is committed as a whole. A crash of the agent leaves its log and its outboxes; its nodes go on, and
join it again. Nodes take what they have room for in the order in which it came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from bdw_fed.v1 import control_plane_pb2, federation_pb2, node_pb2
from cluster_agent.coordinator import messages, records
from cluster_agent.coordinator.actions import Action, Append, SendHub, SendPeer, TellLoad, TellNode, WakeAt
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.messages import Place, RunKey
from cluster_agent.orders.messages import Acks, Downward, Orders, Output, Result, Results, UnitInfo, Work
from simulator.clock import Clock
from simulator.workers import Workers
from wire.digests import bytes_digest, source_task_id, unit_id

WORD_SECONDS = 0.001  # between coordinator and node
_LIGHT_CPUS = 0.1


class World(Protocol):
    """What is around a cluster."""

    clock: Clock
    start_seconds: float  # of a worker; 0 = all are warm from the beginning

    def seconds(self, run: str, step: str, task: bytes) -> float:
        """How long a task takes."""

    def unit_bytes(self, run: str) -> int:
        """The size of each unit of a run."""

    def to_hub(self, cluster: str) -> None:
        """There is something in the cluster's outbox for the hub."""

    def to_peer(self, sender: str, receiver: str, message: bytes) -> None:
        """Pass a message on, exactly once and in order."""

    def to_peer_load(self, sender: str, receiver: str, load: bytes) -> None:
        """Pass on how busy a cluster is."""

    def directory(self, cluster: str) -> federation_pb2.PeerDirectory:
        """How it reaches the others."""

    def carry(self, sender: str, receiver: str, size: int, then: Callable[[float], None]) -> None:
        """Bytes go from a node of one cluster to one of another, or of the same; `then` is told the seconds."""

    def changed(self, cluster: Cluster) -> None:
        """The coordinator has handled something."""


Attempt = tuple[RunKey, bytes, int]


class Node:
    """A node daemon: tasks wait for room and take their time; results are repeated until they are acknowledged."""

    def __init__(self, cluster: Cluster, name: str, cpus: float) -> None:
        self.name = name
        self.cpus = cpus
        self._cluster = cluster
        self._clock = cluster.world.clock
        self._works: dict[int, node_pb2.StartTask] = {}
        self._waiting: dict[Attempt, node_pb2.StartTask] = {}
        self._parts: dict[tuple[RunKey, bytes], int] = {}  # of splits, where the coordinator has decided
        self._running: dict[Attempt, node_pb2.StartTask] = {}
        self._unacked: dict[Attempt, messages.NodeSaid] = {}
        self._store: dict[tuple[RunKey, bytes], None] = {}
        self._stream = 0
        self._workers = Workers(self._clock, cluster.world.start_seconds, self._tell_pool, self._go_on)

    @property
    def busy(self) -> float:
        """Processors in use."""
        return sum(_cpus(task) for task in self._running.values())

    def join(self) -> None:
        """Open a stream: results first, then what is here."""
        self._stream += 1
        self._works.clear()
        unfinished = tuple(self._waiting) + tuple(self._running)
        place = Place(self._cluster.name, self.name, f"{self._cluster.name}/{self.name}:1")
        joined = messages.NodeJoined(self.name, b"1", self.cpus, 1 << 40, place, unfinished, tuple(self._store))
        self._say(*self._unacked.values(), joined)

    def hear(self, said: bytes | Downward) -> None:
        """A word of the coordinator; it takes a moment, and is lost if the stream breaks meanwhile."""
        stream = self._stream
        self._clock.after(WORD_SECONDS, lambda: self._take(said) if stream == self._stream else None)

    def _take(self, said: bytes | Downward) -> None:
        match said:
            case bytes():
                self._obey(node_pb2.NodeCommand.FromString(said))
            case Work(number=number, start=start):
                self._works[number] = node_pb2.StartTask.FromString(start)
            case Orders(work=work, orders=orders):
                run = RunKey(self._works[work].key.namespace, self._works[work].key.run)
                for order in orders:
                    self._waiting[run, order.task, order.attempt] = self._works[work]
                    self._parts[run, order.task] = order.parts
                self._go_on()
            case Acks(namespace=namespace, run=run_name, tasks=tasks):
                for task, attempt in tasks:
                    self._unacked.pop((RunKey(namespace, run_name), task, attempt), None)
            case _:
                pass  # this node frees nothing, and goes on with nothing by itself

    def _obey(self, command: node_pb2.NodeCommand) -> None:
        match command.WhichOneof("kind"):
            case "open":
                task = command.open
                run = RunKey(task.namespace, task.run)
                output = self._made(run, source_task_id(task.namespace, task.run, task.step, task.index), "out", 0)
                asked = task.follow > 0  # and this node does not
                self._say(messages.SourceRead(self.name, run, task.step, task.index, (output,), asked=asked))
            case "cancel":
                key = command.cancel.key
                attempt = (RunKey(key.namespace, key.run), key.task, key.attempt)
                self._drop(attempt)
                self._go_on()
            case "adopt":
                adopt = command.adopt
                of, run = RunKey(adopt.namespace, adopt.from_run), RunKey(adopt.namespace, adopt.run)
                self._store |= {(run, unit): None for unit in adopt.units if (of, unit) in self._store}
            case "end_run":
                ended = RunKey(command.end_run.namespace, command.end_run.run)
                for attempt in [each for each in (*self._waiting, *self._running) if each[0] == ended]:
                    self._drop(attempt)
                kept = set(command.end_run.keep)
                self._store = {each: None for each in self._store if each[0] != ended or each[1] in kept}
                self._go_on()
            case "fetch":
                fetch = command.fetch
                run = RunKey(fetch.key.namespace, fetch.key.run)
                sender = fetch.from_cluster or self._cluster.name
                unit = fetch.unit

                def arrived(seconds: float) -> None:
                    self._store[run, unit.id] = None
                    self._say(messages.FetchEnded(self.name, run, unit.id, unit.size, seconds))

                self._cluster.world.carry(sender, self._cluster.name, unit.size, arrived)
            case "pool":
                self._workers.size(command.pool.definition, command.pool.workers)
            case _:
                pass  # this node pushes nothing, and tells no logs

    def _tell_pool(self, definition: str, starting: int, idle: int, busy: int, start_seconds: float) -> None:
        self._say(messages.PoolTold(self.name, definition, starting, idle, busy, start_seconds))

    def _drop(self, attempt: Attempt) -> None:
        """A task is cancelled."""
        self._waiting.pop(attempt, None)
        task = self._running.pop(attempt, None)
        if task is not None:
            self._leave(task)

    def _leave(self, task: node_pb2.StartTask) -> None:
        if _has_worker(task):
            self._workers.leave(task.definition)

    def _go_on(self) -> None:
        for attempt, task in list(self._waiting.items()):
            if self.busy + _cpus(task) > self.cpus + 1e-9:
                return
            if _has_worker(task) and not self._workers.take(task.definition):
                continue
            del self._waiting[attempt]
            self._running[attempt] = task
            seconds = self._cluster.world.seconds(attempt[0].run, task.step, attempt[1])
            self._clock.after(seconds, lambda each=attempt, took=seconds: self._finish(each, took))  # type: ignore[misc]

    def _finish(self, attempt: Attempt, seconds: float) -> None:
        task = self._running.pop(attempt, None)
        if task is None:
            return  # it was cancelled
        self._leave(task)
        run, task_id, number = attempt
        count = self._parts.get((run, task_id)) or task.execution.split.split.count or 1
        outputs = tuple(
            self._made(run, task_id, port.name, index)
            for port in task.outputs
            for index in range(count if task.execution.HasField("split") else 1)
        )
        result = Result(task_id, number, outputs, seconds=seconds, bytes_in=self._cluster.world.unit_bytes(run.run))
        said = self._unacked[attempt] = messages.NodeSaid(self.name, Results(run.namespace, run.run, (result,)))
        self._say(said)
        self._go_on()

    def _made(self, run: RunKey, maker: bytes, port: str, index: int) -> Output:
        identifier = unit_id(maker, port, index)
        self._store[run, identifier] = None
        size = self._cluster.world.unit_bytes(run.run)
        return Output(port, index, UnitInfo(identifier, bytes_digest(identifier), size, name="unit"))

    def _say(self, *events: messages.Event) -> None:
        stream = self._stream
        self._clock.after(WORD_SECONDS, lambda: self._cluster.give(*events) if stream == self._stream else None)


class Cluster:
    """An agent and its nodes."""

    def __init__(self, world: World, name: str, nodes: dict[str, float]) -> None:
        self.world = world
        self.name = name
        self.core = Coordinator(name)
        self.log: list[bytes] = []
        self.outbox: deque[tuple[str, bytes]] = deque()  # to the hub: it is there until the hub has it
        self.nodes = [Node(self, node, cpus) for node, cpus in nodes.items()]
        self._alarm = 0  # the newest that was set; it replaces those before

    def start(self) -> None:
        """The nodes join."""
        for node in self.nodes:
            node.join()

    def give(self, *events: messages.Event) -> None:
        """Have the coordinator handle a batch."""
        self._perform(self.core.handle_all(events, self.world.clock.now))

    def crash(self) -> None:
        """The agent dies and is started again from its log."""
        self._alarm += 1
        self.core = Coordinator(self.name)
        for record in self.log:
            self.core.apply(records.decode(record))
        self._perform(self.core.resume(self.world.clock.now))
        self.start()

    def lose_log(self) -> None:
        """The agent dies with its disk and is started anew, on a log that is empty; its nodes go on."""
        self._alarm += 1
        self.log.clear()
        self.outbox.clear()
        self.core = Coordinator(self.name)
        self.know()
        self.start()

    def status(self) -> control_plane_pb2.ClusterStatus:
        """As its heartbeat would tell the hub."""
        nodes = [
            control_plane_pb2.NodeStatus(name=node.name, ready=True, cpus=node.cpus, running=round(node.busy))
            for node in self.nodes
        ]
        return control_plane_pb2.ClusterStatus(name=self.name, state="ready", nodes=nodes)

    def know(self) -> None:
        """The hub tells how it reaches the others."""
        self.give(messages.PeersKnown(self.world.directory(self.name).SerializeToString()))

    def _perform(self, actions: list[Action]) -> None:
        by_name = {node.name: node for node in self.nodes}
        for action in actions:
            match action:
                case Append(record=record):
                    self.log.append(records.encode(record))  # type: ignore[arg-type]
                case TellNode(node=name, command=command):
                    by_name[name].hear(command)
                case SendPeer(cluster=receiver, message=message):
                    self.world.to_peer(self.name, receiver, message)
                case TellLoad(cluster=receiver, load=load):
                    self.world.to_peer_load(self.name, receiver, load)
                case SendHub(kind=kind, message=message):
                    self.outbox.append((kind, message))
                case WakeAt(at=at):
                    self._alarm += 1
                    alarm = self._alarm
                    self.world.clock.at(at, lambda alarm=alarm: self._ring(alarm))  # type: ignore[misc]
                case _:
                    pass
        self.world.changed(self)
        if self.outbox:
            self.world.to_hub(self.name)

    def _ring(self, alarm: int) -> None:
        if alarm == self._alarm:
            self.give(messages.Tick())


def _cpus(task: node_pb2.StartTask) -> float:
    return task.resources.cpus or _LIGHT_CPUS


def _has_worker(task: node_pb2.StartTask) -> bool:
    """Splits and merges are executed by the node itself."""
    return not (task.execution.HasField("split") or task.execution.HasField("merge"))
