"""A federation in memory: real coordinators, fake nodes, and a driver that loses whatever a driver may lose.

Every way (a node's stream, a pair of peers, the hub) keeps its order; across ways anything may overtake anything. A
batch is committed as a whole: records, outgoing peer messages, consumed incoming ones. A crash before the commit loses
the batch, a crash after it loses what was to be told to nodes. Peers' messages arrive exactly once; what nodes say may
be repeated, and is lost with the stream. Nodes may restart, with or without their store, and stay away.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

from bdw_fed.v1 import federation_pb2, model_pb2, node_pb2, peer_pb2
from cluster_agent.coordinator import messages, records
from cluster_agent.coordinator.actions import (
    Action,
    Answered,
    Append,
    Publish,
    SendHub,
    SendPeer,
    TellLoad,
    TellNode,
    WakeAt,
)
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.clusters.records import Offered, OutReleased, Rerouted
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.messages import Place, RunKey
from cluster_agent.coordinator.state import DONE, Task
from cluster_agent.coordinator.stored import Record
from cluster_agent.coordinator.tasks.records import Closed, Committed
from cluster_agent.orders.messages import Downward, Failure, Output, Results, UnitInfo
from tests.coordinator.workflows import Use, fragments
from tests.fixtures import words
from wire.digests import bytes_digest, content_name, source_task_id, unit_id
from wire.lines import CACHE

RUN = RunKey("default", "run-1")
RUNNING = model_pb2.DESIRED_STATE_RUNNING
CANCELLED = model_pb2.DESIRED_STATE_CANCELLED


@dataclass
class Faults:
    """How often things go wrong, as probabilities of each chance."""

    attempt_fails: float = 0.0
    crash: float = 0.0  # of an agent, at each batch
    node_restart: float = 0.0
    node_loses_store: float = 0.0  # when it restarts
    stream_breaks: float = 0.0
    repeats: float = 0.0  # a node says something twice
    cut: float = 0.0  # a peer's way stands still for a while
    taint: float = 0.0  # a cluster must not begin anything for a while
    budget: int = 40  # node restarts, crashes and breaks in all, so that every run comes to an end

    @classmethod
    def everything(cls, *, crash: float = 0.03) -> Faults:
        """All that a run must bear: new ones, since a run uses up their budget."""
        return cls(attempt_fails=0.05, crash=crash, node_restart=0.02, stream_breaks=0.02, repeats=0.1, cut=0.02)


class FakeNode:
    """A node daemon: a store, tasks that end when the test wants, results repeated until they are acknowledged."""

    def __init__(self, agent: Agent, name: str, cpus: float) -> None:
        self.agent = agent
        self.federation = agent.federation
        self.name = name
        self.cpus = cpus
        self.memory = 1 << 30
        self.incarnations = 0
        self.said: deque[messages.Event] = deque()
        self.stream = 0
        self.store: dict[tuple[RunKey, bytes], bytes] = {}  # unit -> digest
        self.disk = 0  # bytes that its store takes; 0: whatever comes
        self.cuts = False  # its splits make one part after the other; they do where it has a disk
        self.weight: dict[tuple[RunKey, bytes], int] = {}  # unit -> bytes; files of datasets have none
        self.fullest = 0
        self.refused = 0  # times that something met a full disk
        self.boot()

    def boot(self, *, journal: bool = False) -> None:
        kept = self.unacked if journal else {}
        self.incarnations += 1
        self.incarnation = f"{self.name}#{self.incarnations}".encode()
        self.running: dict[tuple[RunKey, bytes, int], words.Task] = {}
        self.unacked: dict[tuple[RunKey, bytes, int], messages.NodeSaid] = kept
        self.expected: dict[tuple[RunKey, bytes], bytes] = {}  # unit -> digest
        self.fetches: deque[node_pb2.FetchUnit] = deque()
        self.pushes: deque[node_pb2.PushUnit] = deque()
        self.opens: deque[tuple[node_pb2.OpenSource, Callable[[UnitInfo], words.Task] | None]] = deque()
        self.commands: deque[bytes | Downward] = deque()
        self.ears = words.Ears()
        self.connected = False
        self.pools: dict[str, int] = {}
        self.cut_so_far: dict[tuple[RunKey, bytes, int], list[Output]] = {}  # of splits that wait in the middle

    @property
    def free(self) -> int:
        """Bytes that its store takes still."""
        return self.disk - sum(self.weight.get(key, 0) for key in self.store)

    def take_in(self, run: RunKey, unit: UnitInfo) -> bool:
        """Store a unit, if there is room for it."""
        if (run, unit.id) not in self.store:
            if self.disk and unit.size > self.free:
                self.refused += 1
                return False
            self.weight[run, unit.id] = unit.size
        self.store[run, unit.id] = unit.digest
        self.tell_disk()
        return True

    def tell_disk(self) -> None:
        if self.disk:
            self.fullest = max(self.fullest, self.disk - self.free)
            self.say(messages.DiskTold(self.name, self.free, self.disk))

    @property
    def address(self) -> str:
        return f"{self.agent.cluster}/{self.name}:1"

    def say(self, event: messages.Event) -> None:
        if self.connected:
            self.said.append(event)

    def connect(self) -> None:
        """Open the stream: results first, then what is here."""
        self.connected = True
        self.stream += 1
        self.ears = words.Ears()
        self.said.extend(self.unacked.values())
        cut = [
            messages.NodeSaid(self.name, words.produced(*key, tuple(so))) for key, so in self.cut_so_far.items() if so
        ]
        fetching = [(key_of(f.key), f.key.unit) for f in self.fetches] + list(self.expected)
        self.said.append(
            messages.NodeJoined(
                node=self.name,
                incarnation=self.incarnation,
                cpus=self.cpus,
                memory=self.memory,
                place=Place(self.agent.cluster, self.name, self.address, f"{self.name}.{self.agent.cluster}"),
                running=(*self.running, *self.unacked),
                units=tuple(self.store),
                fetching=tuple(fetching),
                stream=self.stream,
                disk_free=self.free if self.disk else 0,
                disk_size=self.disk,
            )
        )
        self.said.extend(cut)

    def disconnect(self) -> None:
        """The stream breaks: what was on its way either way is lost."""
        if self.connected:
            self.connected = False
            self.commands.clear()
            self.lose(self.incarnation)

    def lose(self, incarnation: bytes) -> None:
        """What was on its way is lost, but that streams have ended."""
        losses = [event for event in self.said if isinstance(event, messages.NodeLost)]
        self.said.clear()
        self.said.extend([*losses, messages.NodeLost(self.name, incarnation)])

    def restart(self, *, store: bool) -> None:
        was_connected = self.connected
        incarnation = self.incarnation
        self.boot(journal=store)
        if not store:
            self.store.clear()
        if was_connected:
            self.lose(incarnation)

    # ------------------------------------------------------------------------------------------- what can happen

    def moves(self) -> list[Callable[[], None]]:
        """What this node could do next."""
        found: list[Callable[[], None]] = []
        if self.commands:
            found.append(self.take_command)
        if self.opens:
            found.append(self.open_one)
        if self.fetches:
            found.append(self.fetch_one)
        if self.pushes:
            found.append(self.push_one)
        if self.with_workers():
            found.append(self.finish_one)
        return found

    def take_command(self) -> None:
        for kind, command in self.ears.hear(self.commands.popleft()):
            self.obey(kind, command)

    def obey(self, kind: str, command: Any) -> None:
        if kind == "start":
            self.start(command)
        elif kind == "cancel":
            self.running.pop((key_of(command.key), command.key.task, command.key.attempt), None)
        elif kind == "ack":
            self.unacked.pop((key_of(command), command.task, command.attempt), None)
        elif kind == "free":
            self.store.pop((key_of(command), command.unit), None)
            self.tell_disk()
        elif kind == "fetch":
            key = (key_of(command.key), command.key.unit)
            if self.store.get(key) != command.unit.digest:
                self.fetches.append(command)
            else:
                self.say(messages.FetchEnded(self.name, *key))
        elif kind == "expect":
            key = (key_of(command.key), command.key.unit)
            if self.store.get(key) != command.unit.digest:
                self.expected[key] = command.unit.digest
            else:
                self.say(messages.FetchEnded(self.name, *key))
        elif kind == "push":
            self.pushes.append(command)
        elif kind == "open":
            self.open(command)
        elif kind == "pool":
            self.pools[command.definition] = command.workers
        elif kind == "adopt":
            of, run = RunKey(command.namespace, command.from_run), key_of(command)
            for unit in command.units:
                if (of, unit) in self.store:
                    self.store[run, unit] = self.store[of, unit]
        elif kind == "keep":
            for unit in command.units:
                if (key_of(command), unit) in self.store:
                    digest = self.store[key_of(command), unit]
                    self.store[RunKey(command.namespace, CACHE), content_name(digest)] = digest
        elif kind == "take":
            self.take(command)
        elif kind == "end_run":
            self.end_run(command)

    def take(self, command: node_pb2.TakeContents) -> None:
        """Contents of the cache become a task's result, if all are here."""
        cache, run = RunKey(command.namespace, CACHE), key_of(command)
        found = all(self.store.get((cache, content_name(each.digest))) == each.digest for each in command.contents)
        if found:
            self.store.update({(run, each.unit): each.digest for each in command.contents})
        self.say(messages.ContentsTaken(self.name, run, command.task, found))

    def start(self, start: words.Task) -> None:
        run = key_of(start.key)
        for port in start.inputs:
            for unit in port.units:
                digest = self.store.get((run, unit.id))
                assert digest == unit.digest or self.federation.faulty, f"an input of {start.step} is not here"
                if digest != unit.digest:  # lost; or made again here with other bytes, while the order was on its way
                    failure = Failure("data", "an input is not in the store, or has other bytes")
                    self.end(words.failed(run, start.key.task, start.key.attempt, failure))
                    return
        self.running[run, start.key.task, start.key.attempt] = start

    def end_run(self, end: node_pb2.EndRun) -> None:
        run = RunKey(end.namespace, end.run)
        keep = set(end.keep)
        self.store = {key: digest for key, digest in self.store.items() if key[0] != run or key[1] in keep}
        self.running = {key: task for key, task in self.running.items() if key[0] != run}
        self.fetches = deque(fetch for fetch in self.fetches if key_of(fetch.key) != run)
        self.opens = deque((o, follow) for o, follow in self.opens if RunKey(o.namespace, o.run) != run)
        self.expected = {key: digest for key, digest in self.expected.items() if key[0] != run}
        self.tell_disk()

    def open(self, command: node_pb2.OpenSource) -> None:
        """Once at a time; one that is under way goes on as it was told."""
        about = (command.namespace, command.run, command.step, command.index)
        if about not in [(o.namespace, o.run, o.step, o.index) for o, _ in self.opens]:
            self.opens.append((command, self.ears.opening(command)))

    def open_one(self) -> None:
        command, follow = self.opens.popleft()
        run = RunKey(command.namespace, command.run)
        asked = follow is not None
        if self.federation.unreadable and command.path in self.federation.unreadable:
            error = messages.SourceRead(self.name, run, command.step, command.index, (), "no such file", asked)
            self.say(error)
            return
        maker = source_task_id(run.namespace, run.run, command.step, command.index)
        output = made(maker, "out", 0, self.federation.size)
        self.store[run, output.unit.id] = output.unit.digest
        held = self.ears.held.get(run, False)
        followed = follow is not None and not held and self.federation.chance(self.federation.follow)
        self.say(
            messages.SourceRead(
                self.name, run, command.step, command.index, (output,), "", asked, followed, command.epoch
            )
        )
        if follow is not None and followed:
            task = follow(output.unit)
            self.running.setdefault((run, task.key.task, task.key.attempt), task)
            self.federation.followed += 1

    def fetch_one(self) -> None:
        fetch = self.fetches.popleft()
        key = (key_of(fetch.key), fetch.key.unit)
        source = self.federation.node_at(fetch.addresses[0]) if fetch.addresses else None
        if source is None or not source.alive:
            self.say(messages.FetchEnded(self.name, *key, error="cannot connect"))
        elif source.store.get(key) != fetch.unit.digest:
            self.say(messages.FetchEnded(self.name, *key, error="not found", gone=True))
        elif not self.take_in(key[0], words.info(fetch.unit)):
            self.say(messages.FetchEnded(self.name, *key, error="no room on the disk"))
        else:
            if source.agent is not self.agent:
                self.federation.crossed[fetch.unit.digest, self.agent.cluster] += 1
            self.say(messages.FetchEnded(self.name, *key, bytes=fetch.unit.size, seconds=0.01))

    def push_one(self) -> None:
        push = self.pushes.popleft()
        key = (key_of(push.key), push.key.unit)
        target = self.federation.node_at(push.address)
        digest = push.unit.digest
        if self.store.get(key) != digest:
            self.say(messages.PushEnded(self.name, *key, push.address, error="it is not here", gone=True))
        elif target is None or not target.alive or digest not in (target.expected.get(key), target.store.get(key)):
            self.say(messages.PushEnded(self.name, *key, push.address, error="it is not expected"))
        elif target.store.get(key) != digest and not target.take_in(key[0], words.info(push.unit)):
            target.expected.pop(key)
            target.say(messages.FetchEnded(target.name, *key, error="no room on the disk"))
            self.say(messages.PushEnded(self.name, *key, push.address, error="no room on its disk"))
        else:
            if key in target.expected:
                target.expected.pop(key)
                self.federation.crossed[push.unit.digest, target.agent.cluster] += 1
                target.say(messages.FetchEnded(target.name, *key, bytes=push.unit.size, seconds=0.01))
            self.say(messages.PushEnded(self.name, *key, push.address))

    def with_workers(self) -> list[tuple[tuple[RunKey, bytes, int], words.Task]]:
        """The first tasks that fit are with workers; any of these may end, but for splits that wait for their disk."""
        room = self.cpus
        found = []
        for key, task in self.running.items():
            if task.start.execution.WhichOneof("kind") != "split":  # these need no worker
                room -= task.start.resources.cpus or 0.1
            if room < -1e-9 and found:
                break
            found.append((key, task))
        return [each for each in found if not self.waits(*each)]

    def waits(self, key: tuple[RunKey, bytes, int], task: words.Task) -> bool:
        """A split's next part would take more of the disk, or of its window, than it may."""
        if self.disk and task.order.leave > self.free:
            return True
        most = self.ears.windows.get(key, task.order.most)
        so_far = self.cut_so_far.get(key, [])
        outputs = self.federation.outputs_of(task) if most else ()
        if len(so_far) >= len(outputs):
            return False
        stored = sum(part.unit.size for part in so_far if (key[0], part.unit.id) in self.store)
        return stored > 0 and stored + outputs[len(so_far)].unit.size > most

    def cut_one(self, key: tuple[RunKey, bytes, int], task: words.Task) -> None:
        """A split makes its next part, and tells it."""
        so_far = self.cut_so_far.setdefault(key, [])
        outputs = self.federation.outputs_of(task)
        if len(so_far) < len(outputs):
            part = outputs[len(so_far)]
            if self.take_in(key[0], part.unit):
                so_far.append(part)
                self.say(messages.NodeSaid(self.name, words.produced(*key, (part,))))
                return
            result = words.failed(*key, Failure("full", "no room on the disk"))
        else:
            result = words.done(*key, outputs, 0.01, 1000)
        del self.running[key], self.cut_so_far[key]
        self.end(result)

    def finish_one(self) -> None:
        with_workers = self.with_workers()
        key, task = self.federation.random.choice(with_workers)
        run, task_id, attempt = key
        if (self.disk or self.cuts) and task.start.execution.WhichOneof("kind") == "split":
            self.cut_one(key, task)
            return
        self.say(messages.NodeSaid(self.name, words.started(run, task_id, attempt)))
        del self.running[key]
        if self.federation.chance(self.federation.faults.attempt_fails) or task.step in self.federation.broken_steps:
            failure = Failure("exception", "ValueError: bad row", "Traceback …")
            self.end(words.failed(run, task_id, attempt, failure, 0.01))
            return
        outputs = self.federation.outputs_of(task)
        if self.disk and sum(output.unit.size for output in outputs) > self.free:
            self.refused += 1
            self.end(words.failed(run, task_id, attempt, Failure("full", "no room on the disk")))
            return
        for output in outputs:
            self.take_in(run, output.unit)
            if task.start.execution.WhichOneof("kind") == "split" and self.federation.random.random() < 0.5:
                self.say(messages.NodeSaid(self.name, words.produced(run, task_id, attempt, (output,))))
        size = sum(unit.size for port in task.inputs for unit in port.units)
        follow = self.ears.following(task, outputs) if self.federation.chance(self.federation.follow) else None
        for start in follow or ():
            self.running[run, start.key.task, start.key.attempt] = start
            self.federation.followed += 1
        seconds = self.federation.seconds(task)
        self.end(words.done(run, task_id, attempt, outputs, seconds, size, followed=follow is not None))

    def end(self, results: Results) -> None:
        said = messages.NodeSaid(self.name, results)
        for result in results.results:
            self.unacked[RunKey(results.namespace, results.run), result.task, result.attempt] = said
        self.say(said)

    @property
    def alive(self) -> bool:
        return True


def consumed_by(step: Step, task: Task) -> Iterator[tuple[str, bytes]]:
    """What a task alone consumes: of each edge a unit; of ports that are crossed a pair."""
    if step.crosses is not None:
        yield step.name, b"".join(unit for units in task.inputs for unit in units)
        return
    for edge, units in zip(step.inputs, task.inputs, strict=True):
        for unit in units:
            yield edge.id, unit


def key_of(key: node_pb2.TaskKey | node_pb2.UnitKey | node_pb2.KeepContents | node_pb2.TakeContents) -> RunKey:
    return RunKey(key.namespace, key.run)


def made(maker: bytes, port: str, index: int, size: int, varied: bytes = b"") -> Output:
    """What any node makes for the same task: same id, and the same content unless it is `varied`."""
    identifier = unit_id(maker, port, index)
    digest = bytes_digest(identifier + varied)
    return Output(port, index, UnitInfo(identifier, digest, size, name=f"{port}-{index}.csv"))


class Agent:
    """A cluster: its coordinator, the log, and the outboxes that survive it."""

    def __init__(self, federation: Federation, cluster: str, nodes: dict[str, float]) -> None:
        self.federation = federation
        self.cluster = cluster
        self.core = Coordinator(cluster, federation.policy)
        self.snapshot = self.core.snapshot()
        self.log: list[bytes] = []
        self.hub: deque[messages.Event] = deque()
        self.nodes = {name: federation.node_type(self, name, cpus) for name, cpus in nodes.items()}
        self.wake: float | None = None
        self.told_hub: list[tuple[str, bytes]] = []
        self.published: list[Publish] = []
        self.answers: dict[int, bytes] = {}
        self.progress = 0

    def ways(self) -> list[deque[messages.Event]]:
        """The ways in that have something."""
        found = [way for way in [self.hub, *(node.said for node in self.nodes.values())] if way]
        for other in self.federation.agents:
            way = self.federation.ways[other, self.cluster]
            if way and (other, self.cluster) not in self.federation.cut:
                found.append(way)
        return found

    def step(self, way: deque[messages.Event]) -> None:
        """Run the core on a batch from one way, commit it, and do what it says, unless it crashes in between."""
        federation = self.federation
        count = min(len(way), federation.random.choice((1, 1, 2, 5)))
        events = [way[index] for index in range(count)]
        if any(isinstance(event, messages.Tick) for event in events):
            self.wake = None
        self.run(events, lambda: [way.popleft() for _ in range(count)], way)

    def run(
        self, events: list[messages.Event], consume: Callable[[], object], way: deque[messages.Event] | None = None
    ) -> None:
        federation = self.federation
        if federation.random.random() < 0.5:
            actions = self.core.handle_all(events, federation.now)
        else:
            actions = [action for event in events for action in self.core.handle(event, federation.now)]
        if federation.misfortune(federation.faults.crash):
            if way is not self.hub and not any(isinstance(event, messages.PeerSaid) for event in events):
                consume()  # what a node said is lost with its stream; the hub and peers say it again
            self.crash()
            return
        consume()
        if federation.chance(federation.faults.repeats):
            for event in events:
                if isinstance(event, messages.NodeSaid | messages.SourceRead | messages.FetchEnded) and way is not None:
                    way.append(event)
        tell_nodes = not federation.misfortune(federation.faults.crash)
        self.perform(actions, tell_nodes=tell_nodes)
        if not tell_nodes:
            self.crash()

    def perform(self, actions: Iterable[Action], *, tell_nodes: bool = True) -> None:
        for action in actions:
            if isinstance(action, Append):
                assert isinstance(action.record, Record)
                self.log.append(records.encode(action.record))  # type: ignore[arg-type]
                self.federation.observe(self, action.record)
            elif isinstance(action, SendPeer):
                way = self.federation.ways[self.cluster, action.cluster]
                way.append(messages.PeerSaid(self.cluster, action.message))
            elif isinstance(action, TellLoad):
                self.federation.ways[self.cluster, action.cluster].append(
                    messages.PeerLoad(self.cluster, b"log", action.load)
                )
            elif isinstance(action, SendHub):
                self.told_hub.append((action.kind, action.message))
                self.federation.hear(self, action.kind, action.message)
            elif isinstance(action, TellNode):
                node = self.nodes[action.node]
                if tell_nodes and node.connected and node.stream == action.stream:
                    node.commands.append(action.command)
            elif isinstance(action, WakeAt):
                self.wake = action.at
            elif isinstance(action, Publish):
                self.published.append(action)
            elif isinstance(action, Answered):
                self.answers[action.number] = action.answer
            else:
                self.progress += 1
        self.check_replay()

    def check_replay(self) -> None:
        if self.federation.random.random() < self.federation.replay_checks:
            self.rebuilt(check=True)

    def rebuilt(self, *, check: bool) -> Coordinator:
        core = Coordinator(self.cluster, self.federation.policy)
        core.restore(self.snapshot)
        for record in self.log:
            core.apply(records.decode(record))
        if check:
            assert core.snapshot() == self.core.snapshot(), "a replay gives another state"
        return core

    def crash(self) -> None:
        """Start again from what is committed; the nodes' streams end with us."""
        self.core = self.rebuilt(check=False)
        if self.federation.random.random() < 0.3:
            self.snapshot, self.log = self.core.snapshot(), []
        self.wake = None
        for node in self.nodes.values():
            node.connected = False
            node.said.clear()
            node.commands.clear()
        self.perform(self.core.resume(self.federation.now))

    def tick(self) -> None:
        self.wake = None
        self.run([messages.Tick()], lambda: None)

    def state(self, run: RunKey = RUN) -> int:
        return self.core.status(run).state


@dataclass
class Federation:
    """Everything at once, driven by one random source."""

    node_type: ClassVar[type[FakeNode]] = FakeNode
    random: Random
    clusters: dict[str, dict[str, float]]  # cluster -> node -> cpus
    faults: Faults = field(default_factory=Faults)
    policy: Policy = field(default_factory=Policy)
    replay_checks: float = 0.02
    size: int = 1000
    follow: float = 0.5  # how often a node goes on by itself where it may
    run_policy: model_pb2.Policy = field(default_factory=model_pb2.Policy)

    def __post_init__(self) -> None:
        self.now = 100.0
        self.cut: set[tuple[str, str]] = set()
        self.tainted: dict[str, None] = {}
        self.ways: dict[tuple[str, str], deque[messages.Event]] = {
            (a, b): deque() for a in self.clusters for b in self.clusters
        }
        self.crossed: Counter[tuple[bytes, str]] = Counter()
        self.rerouted: set[bytes] = set()  # digests of units that were offered to one cluster, and then to another
        self.released: set[tuple[bytes, str]] = set()  # units, and the clusters that were done with them once
        self.consumed: Counter[tuple[str, bytes]] = Counter()
        self.closed: Counter[str] = Counter()
        self.results: dict[tuple[str, bytes], str] = {}
        self.ended: dict[tuple[str, int], int] = {}
        self.failures: list[model_pb2.Failure] = []
        self.unreadable: set[str] = set()
        self.broken_steps: set[str] = set()
        self.quotas: dict[str, int] = {}  # namespace -> bytes
        self.units_per_split = 3
        self.sizes: dict[str, int] = {}  # of what a step makes, where it differs
        self.units_in: dict[str, int] = {}  # that a split makes, where that is not left to chance
        self.misfortunes = 0
        self.followed = 0
        self.replaced = False
        self.steps_taken = 0
        self.agents = {cluster: Agent(self, cluster, nodes) for cluster, nodes in self.clusters.items()}
        self.undialled: set[tuple[str, str]] = set()  # (from, to) that cannot be dialled

    @property
    def faulty(self) -> bool:
        return self.misfortunes > 0 or self.replaced

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    def misfortune(self, probability: float) -> bool:
        if self.misfortunes < self.faults.budget and self.chance(probability):
            self.misfortunes += 1
            return True
        return False

    def node_at(self, address: str) -> FakeNode | None:
        for agent in self.agents.values():
            for node in agent.nodes.values():
                if node.address == address:
                    return node
        return None

    def outputs_of(self, task: words.Task) -> tuple[Output, ...]:
        count = 1
        if task.start.execution.WhichOneof("kind") == "split":
            count = task.order.parts or self.units_in.get(task.step) or task.key.task[0] % (self.units_per_split + 1)
        return tuple(
            made(task.key.task, port.name, index, self.sizes.get(task.step, self.size))
            for port in task.start.outputs
            for index in range(count)
        )

    def seconds(self, task: words.Task) -> float:
        return 0.01

    # ------------------------------------------------------------------------------------------------ starting

    def introduce(self) -> None:
        """Tell every agent how it reaches the others, and let the nodes come."""
        for cluster in self.agents:
            self.tell_directory(cluster)

    def tell_directory(self, cluster: str, *taints: str) -> None:
        """How a cluster reaches the others, and what it must not begin."""
        quotas = [federation_pb2.StorageQuota(namespace=name, storage=size) for name, size in self.quotas.items()]
        directory = federation_pb2.PeerDirectory(no_execute=taints, quotas=quotas)
        for other in self.agents:
            if other != cluster:
                directory.peers.add(
                    cluster=other,
                    can_dial=(cluster, other) not in self.undialled,
                    can_be_dialled=(other, cluster) not in self.undialled,
                    bandwidth=1e8,
                    latency=0.001,
                    reachable=True,
                )
        self.agents[cluster].hub.append(messages.PeersKnown(directory.SerializeToString()))

    def submit(self, steps: list[Use], parts: dict[str, dict[str, int]], *, run: str = "run-1", epoch: int = 1) -> None:
        self.uses = {step.name: step for step in steps}
        self.parts = parts
        self.replaced |= epoch > 1
        told = fragments(steps, parts, self.agents, run=run, epoch=epoch, policy=self.run_policy)
        for cluster, fragment in told.items():
            self.agents[cluster].hub.append(messages.FragmentAssigned(fragment, RUNNING))

    def want(self, desired: int, run: RunKey = RUN) -> None:
        for agent in self.agents.values():
            agent.hub.append(messages.DesiredChanged(run, desired))

    # ------------------------------------------------------------------------------------------------- running

    def moves(self) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = []
        for agent in self.agents.values():
            found += [lambda agent=agent, way=way: agent.step(way) for way in agent.ways()]  # type: ignore[misc]
            for node in agent.nodes.values():
                found += node.moves()
                if not node.connected and not node.said:
                    found.append(node.connect)
        return found

    def step(self) -> bool:
        """One thing happens; False if nothing ever will."""
        self.steps_taken += 1
        self.misbehave()
        moves = self.moves()
        if moves and (self.random.random() < 0.98 or self.starting()):
            self.random.choice(moves)()
            return True
        waking = [agent for agent in self.agents.values() if agent.wake is not None]
        if waking:
            agent = min(waking, key=lambda agent: agent.wake or 0.0)
            assert agent.wake is not None
            self.now = max(self.now, agent.wake)
            agent.tick()
            return True
        if moves:
            self.random.choice(moves)()
            return True
        if self.cut or self.tainted:
            self.cut.clear()
            self.lift_taints()
            return True
        return False

    def starting(self) -> bool:
        """A cluster has no node yet: time does not pass."""
        return not all(agent.core._book.state.incarnations for agent in self.agents.values())

    def misbehave(self) -> None:
        faults = self.faults
        nodes = [node for agent in self.agents.values() for node in agent.nodes.values()]
        if self.misfortune(faults.node_restart):
            self.random.choice(nodes).restart(store=not self.chance(faults.node_loses_store))
        if self.misfortune(faults.stream_breaks):
            self.random.choice(nodes).disconnect()
        if self.misfortune(faults.cut) and len(self.agents) > 1:
            self.cut.add(self.random.choice(list(self.ways)))
        if self.cut and self.random.random() < 0.01:
            self.cut.clear()
        if faults.taint and self.misfortune(faults.taint):
            cluster = self.random.choice(list(self.agents))
            self.tainted[cluster] = None
            self.tell_directory(cluster, "removed=")
        if self.tainted and self.random.random() < 0.01:
            self.lift_taints()

    def lift_taints(self) -> None:
        for cluster in self.tainted:
            self.tell_directory(cluster)
        self.tainted.clear()

    def run(self, *, until: Callable[[], bool] | None = None, most: int = 30_000) -> None:
        """Go on until `until`, or until nothing happens any more."""
        for _ in range(most):
            if until is not None and until():
                return
            if not self.step():
                return
        raise AssertionError(f"no end after {most} steps: {self.story()}")

    def story(self) -> str:
        """What stands where, for a failing test."""
        lines = []
        for cluster, agent in self.agents.items():
            for key in agent.core.runs():
                live = agent.core._book.lives[key]
                lines.append(f"{cluster} {key.run}: state {live.run.state} owed {live.owed} unclosed {live.unclosed}")
                for step in live.graph.concerned:
                    state = live.run.steps[step.index]
                    tasks = Counter(task.state for task in live.run.tasks.values() if task.step == step.index)
                    lines.append(f"   {step.name}: closed {state.closed} open {state.open} tasks {dict(tasks)}")
                lines.append(f"   incoming {[(i.edges, i.node) for i in live.run.incoming.values()]}")
                lines.append(f"   fetches {[(f.node, f.said, f.crossing, f.tries) for f in live.fetches.values()]}")
                lines.append(f"   parked {len(live.parked)} missing {live.missing}")
                lines.append(f"   outs {[(o.cluster, o.state) for _, _, o in live.ways_out()]}")
        return "\n".join(lines)

    # ----------------------------------------------------------------------------------------------- observing

    def observe(self, agent: Agent, record: Record) -> None:
        """Count what was committed."""
        if isinstance(record, Committed):
            live = agent.core._book.lives.get(record.run)
            if live is None:
                return
            task = live.run.tasks[record.task]
            assert task.state == DONE or task.remake
            key = (agent.cluster, record.task)
            if key in self.results:
                return  # made again
            self.results[key] = record.node
            step = live.graph.steps[task.step]
            for edge, unit in consumed_by(step, task):
                self.consumed[edge, unit] += 1
        elif isinstance(record, Rerouted):
            self.rerouted.add(bytes_digest(record.unit))
        elif isinstance(record, OutReleased):
            self.released.add((record.unit, record.cluster))
        elif isinstance(record, Offered):
            again = {unit for _, unit in record.units if (unit, record.cluster) in self.released}
            self.rerouted.update(map(bytes_digest, again))
        elif isinstance(record, Closed):
            live = agent.core._book.lives[record.run]
            step = live.graph.steps[record.step]
            if step.counts:
                self.closed[step.name] += 1

    def hear(self, agent: Agent, kind: str, message: bytes) -> None:
        """What the hub hears."""
        if kind == "ended":
            status = model_pb2.FragmentStatus.FromString(message)
            self.ended[agent.cluster, status.epoch] = status.state
            if status.state == model_pb2.FRAGMENT_STATE_FAILED:
                self.failures.append(status.failures[-1])
                for other in self.agents.values():
                    cancel = messages.DesiredChanged(RunKey(status.namespace, status.run), CANCELLED)
                    other.hub.append(cancel)

    def check_failed(self) -> None:
        """All that must hold once a run went wrong: it is over everywhere, and every node is free."""
        over = (model_pb2.FRAGMENT_STATE_FAILED, model_pb2.FRAGMENT_STATE_CANCELLED, model_pb2.FRAGMENT_STATE_SUCCEEDED)
        for agent in self.agents.values():
            assert agent.state() in over, self.story()
            agent.rebuilt(check=True)
            for node in agent.core._book.nodes.values():
                assert not node.tasks and not node.used_cpus, "a slot leaked"
            for fake in agent.nodes.values():
                assert not fake.running, "a task of a run that failed is still running"

    def check_succeeded(self) -> None:
        """All that must hold once a run went well."""
        for cluster, agent in self.agents.items():
            assert agent.state() == model_pb2.FRAGMENT_STATE_SUCCEEDED, f"{cluster}: {self.story()}"
            assert self.ended[cluster, 1] == model_pb2.FRAGMENT_STATE_SUCCEEDED
        assert {edge: count for edge, count in self.consumed.items() if count != 1} == {}
        assert set(self.closed) == set(self.uses)
        assert {step: count for step, count in self.closed.items() if count != 1} == {}
        for agent in self.agents.values():
            agent.rebuilt(check=True)
            for node in agent.core._book.nodes.values():
                assert not node.tasks and not node.used_cpus and not node.used_memory, "a slot leaked"
                assert not any(node.running.values())
        self.check_let_go()

    def check_crossed_once(self) -> None:
        """No bytes came to a cluster twice, unless it had them, was done with them, and was offered them anew."""
        twice = [digest for (digest, _), count in self.crossed.items() if count != 1 and digest not in self.rerouted]
        assert not twice, "bytes crossed to a cluster more than once"

    def check_let_go(self) -> None:
        """Nothing holds a unit any more, but the results, and offers that were taken back when all was over."""
        for agent in self.agents.values():
            for key in agent.core.runs():
                run = agent.core._book.lives[key].run
                offers = {unit for unit, incoming in run.incoming.items() if not any(incoming.edges.values())}
                for unit in run.units.values():
                    assert not unit.uses or unit.kept or unit.id in offers, f"a unit with {unit.uses} uses is left"

    def check_freed(self) -> None:
        """Nothing but results is left in any store."""
        for cluster, agent in self.agents.items():
            live = agent.core._book.lives[RUN]
            kept = {unit for _, unit in live.run.outputs}
            for node in agent.nodes.values():
                left = {unit for _, unit in node.store} - kept
                assert not left, f"{len(left)} units are left on {cluster}/{node.name}"


def peer_message(message: messages.PeerSaid) -> peer_pb2.PeerMessage:
    return peer_pb2.PeerMessage.FromString(message.message)
