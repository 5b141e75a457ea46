"""One coordinator on a desk: events go in by hand, and what it says comes out readable."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from bdw_fed.v1 import federation_pb2, model_pb2, node_pb2, peer_pb2
from cluster_agent.coordinator import messages, records
from cluster_agent.coordinator.actions import Action, Append, Publish, SendHub, SendPeer, TellNode, WakeAt
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.messages import Place, RunKey
from cluster_agent.orders.messages import Failure, Output
from tests.coordinator.federation import made
from tests.coordinator.workflows import Use, fragments
from tests.fixtures import words
from wire.digests import source_task_id

RUN = RunKey("default", "run-1")
RUNNING = model_pb2.DESIRED_STATE_RUNNING


@dataclass
class Said:
    """What a coordinator said in answer to some events."""

    records: list[object] = field(default_factory=list)
    nodes: list[tuple[str, str, Message]] = field(default_factory=list)  # node, kind, command
    peers: list[tuple[str, str, peer_pb2.PeerMessage]] = field(default_factory=list)  # cluster, kind, message
    hub: list[tuple[str, Message]] = field(default_factory=list)
    published: list[Publish] = field(default_factory=list)
    wake: float | None = None

    @property
    def starts(self) -> list[words.Task]:
        return [command for _, kind, command in self.nodes if kind == "start"]  # type: ignore[misc]

    def to_nodes(self, kind: str) -> list[tuple[str, Message]]:
        return [(node, command) for node, said, command in self.nodes if said == kind]

    def to_peers(self, kind: str) -> list[tuple[str, peer_pb2.PeerMessage]]:
        return [(cluster, message) for cluster, said, message in self.peers if said == kind]

    def recorded(self, kind: type) -> list[object]:
        return [record for record in self.records if type(record) is kind]

    @property
    def ended(self) -> model_pb2.FragmentStatus | None:
        found = [message for kind, message in self.hub if kind == "ended"]
        return found[-1] if found else None  # type: ignore[return-value]

    def freed(self, node: str = "n1") -> set[bytes]:
        return {
            unit.unit for name, unit in self.to_nodes("free") if name == node and isinstance(unit, node_pb2.UnitKey)
        }


class Desk:
    """`edge1`, unless said otherwise, with nodes of two cpus each; time stands still unless it is set."""

    def __init__(
        self,
        steps: Sequence[Use] = (),
        parts: dict[str, dict[str, int]] | None = None,
        *,
        clusters: Sequence[str] = ("edge1",),
        nodes: Sequence[str] = ("n1",),
        policy: Policy | None = None,
        run_policy: model_pb2.Policy | None = None,
        cpus: float = 2.0,
        undialled: Sequence[str] = (),
    ) -> None:
        self.cluster = clusters[0]
        self.policy = policy or Policy()
        self.run_policy = run_policy
        self.core = Coordinator(self.cluster, self.policy)
        self.ears = defaultdict[str, words.Ears](words.Ears)
        self.now = 10.0
        self.cpus = cpus
        self.log: list[bytes] = []
        self.steps = steps
        self.clusters = clusters
        self.parts = parts or {}
        self.undialled = undialled
        if len(clusters) > 1:
            self.know_peers()
        self.streams = 0
        self.joined = [self.join(node) for node in nodes]
        self.first = self.assign() if steps else Said()

    def know_peers(self) -> Said:
        """The hub says which clusters there are."""
        directory = federation_pb2.PeerDirectory()
        for other in self.clusters[1:]:
            peer = directory.peers.add(cluster=other, reachable=True, bandwidth=1e8, latency=0.001)
            peer.can_dial, peer.can_be_dialled = other not in self.undialled, True
        return self.do(messages.PeersKnown(directory.SerializeToString()))

    def assign(self, *, epoch: int = 1, desired: int = RUNNING) -> Said:
        fragment = fragments(self.steps, self.parts, self.clusters, epoch=epoch, policy=self.run_policy)[self.cluster]
        return self.do(messages.FragmentAssigned(fragment, desired))

    def do(self, *events: messages.Event) -> Said:
        return self.hear(self.core.handle_all(events, self.now))

    def at(self, now: float) -> Said:
        """The timer rings."""
        self.now = now
        return self.do(messages.Tick())

    def hear(self, actions: Sequence[Action]) -> Said:
        said = Said()
        for action in actions:
            match action:
                case Append(record=record):
                    said.records.append(record)
                    self.log.append(records.encode(record))  # type: ignore[arg-type]
                case TellNode(node=node, command=command):
                    said.nodes += [(node, kind, heard) for kind, heard in self.ears[node].hear(command)]
                case SendPeer(cluster=cluster, message=serialised):
                    message = peer_pb2.PeerMessage.FromString(serialised)
                    said.peers.append((cluster, message.WhichOneof("kind") or "", message))
                case SendHub(kind=kind, message=serialised):
                    proto = federation_pb2.FragmentAccepted if kind == "accepted" else model_pb2.FragmentStatus
                    said.hub.append((kind, proto.FromString(serialised)))
                case Publish():
                    said.published.append(action)
                case WakeAt(at=at):
                    said.wake = at
        return said

    def restart(self) -> Said:
        """The agent is killed and started again: only the log is left."""
        self.core = Coordinator(self.cluster, self.policy)
        for record in self.log:
            self.core.apply(records.decode(record))
        return self.hear(self.core.resume(self.now))

    # ------------------------------------------------------------------------------------------------- nodes say

    def join(
        self,
        node: str = "n1",
        *,
        process: bytes = b"1",
        running: Sequence[words.Task] = (),
        units: Sequence[bytes] = (),
        fetching: Sequence[bytes] = (),
        places: Sequence[str] = (),
    ) -> Said:
        self.ears[node] = words.Ears()
        self.streams += 1
        return self.do(
            messages.NodeJoined(
                node,
                process,
                self.cpus,
                1 << 30,
                Place(self.cluster, node, f"{node}:1", node),
                tuple((RUN, task.key.task, task.key.attempt) for task in running),
                tuple((RUN, unit) for unit in units),
                tuple((RUN, unit) for unit in fetching),
                stream=self.streams,
                places=tuple(places),
            )
        )

    def lose(self, node: str = "n1", process: bytes = b"1") -> Said:
        return self.do(messages.NodeLost(node, process))

    def read(self, step: str, index: int = 0, node: str = "n1") -> Said:
        return self.do(self.part(step, index, node))

    def part(self, step: str, index: int = 0, node: str = "n1") -> messages.SourceRead:
        output = made(source_task_id("default", "run-1", step, index), "out", 0, 1000)
        return messages.SourceRead(node, RUN, step, index, (output,), asked=True)

    def result(
        self, task: words.Task, node: str = "n1", *, count: int = 1, seconds: float = 1.0, size: int = 1000
    ) -> messages.NodeSaid:
        return messages.NodeSaid(
            node, words.done(RUN, task.key.task, task.key.attempt, outputs(task, count, size), seconds, 1000)
        )

    def done(
        self, task: words.Task, node: str = "n1", *, count: int = 1, seconds: float = 1.0, size: int = 1000
    ) -> Said:
        return self.do(self.result(task, node, count=count, seconds=seconds, size=size))

    def failed(self, task: words.Task, node: str = "n1", kind: str = "exception", code: int = 0) -> Said:
        failure = Failure(kind, "ValueError: bad row", "Traceback", code)
        return self.do(messages.NodeSaid(node, words.failed(RUN, task.key.task, task.key.attempt, failure)))

    def fetched(self, unit: bytes, node: str = "n1", *, error: str = "", gone: bool = False) -> Said:
        return self.do(messages.FetchEnded(node, RUN, unit, 1000, 0.1, error, gone))

    # ------------------------------------------------------------------------------------------------- peers say

    def peer(self, cluster: str, *, epoch: int = 1, revision: int = 1, **kind: Message) -> Said:
        return self.do(self.word(cluster, epoch=epoch, revision=revision, **kind))

    def word(self, cluster: str, *, epoch: int = 1, revision: int = 1, **kind: Message) -> messages.PeerSaid:
        message = peer_pb2.PeerMessage(
            namespace="default",
            run="run-1",
            epoch=epoch,
            revision=revision,
            **kind,  # type: ignore[arg-type]
        )
        return messages.PeerSaid(cluster, message.SerializeToString())

    def status(self) -> model_pb2.FragmentStatus:
        return self.core.status(RUN)

    def progress(self, step: str) -> model_pb2.StepProgress:
        return next(progress for progress in self.status().steps if progress.step == step)


def outputs(task: words.Task, count: int = 1, size: int = 1000) -> tuple[Output, ...]:
    return tuple(made(task.key.task, port.name, index, size) for port in task.start.outputs for index in range(count))


def unit_ids(task: words.Task, port: str) -> list[bytes]:
    return [unit.id for given in task.inputs if given.port == port for unit in given.units]


def sum_of(*identifiers: bytes) -> model_pb2.SetDigest:
    total = sum(int.from_bytes(identifier, "big") for identifier in identifiers) % (1 << 128)
    return model_pb2.SetDigest(count=len(identifiers), sum=total.to_bytes(16, "big"))
