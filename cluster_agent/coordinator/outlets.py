"""What the driver gathers in a tick, and how it leaves once it is committed: to nodes, peers, the hub and the bus."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster_agent.coordinator.actions import Answered, Publish
from cluster_agent.coordinator.intake import Intake
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.ports import HUB, Carrier, Nodes, Peers
from cluster_agent.coordinator.runs.counters import Counters
from cluster_agent.events import EventBus
from cluster_agent.log import Batch, Sent
from cluster_agent.orders.messages import Downward


@dataclass
class Gathered:
    """What one commit is to make true, and what may happen after it."""

    batch: Batch = field(default_factory=Batch)
    records: list[object] = field(default_factory=list)
    commands: dict[tuple[str, int], list[bytes | Downward]] = field(default_factory=dict)  # node, stream
    events: list[Publish] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    progress: dict[RunKey, None] = field(default_factory=dict)
    loads: dict[str, bytes] = field(default_factory=dict)  # cluster -> our newest load
    actions: int = 0

    def __bool__(self) -> bool:
        return bool(self.actions or self.batch)


class Outlets:
    """All ways that lead out of the coordinator."""

    def __init__(
        self, nodes: Nodes, peers: Peers, hub: Carrier, bus: EventBus, intake: Intake, counters: Counters
    ) -> None:
        self._nodes = nodes
        self._peers = peers
        self._hub = hub
        self._bus = bus
        self._intake = intake
        self._counters = counters

    def let_happen(self, gathered: Gathered, sent: list[Sent]) -> None:
        """It is in the log, and its messages have these numbers: all of it may be seen."""
        for (node, stream), commands in gathered.commands.items():
            self._nodes.tell(node, stream, commands)
        by_destination: dict[str, list[tuple[int, bytes]]] = {}
        for destination, seq, body in sent:
            by_destination.setdefault(destination, []).append((seq, body))
        for destination, messages in by_destination.items():
            self.carrier(destination).pushed(destination, messages)
        for source, position in gathered.batch.received.items():
            self.carrier(source).durable(source, position.log_id, position.seq)
        for cluster, load in gathered.loads.items():
            self._peers.load(cluster, load)
        if by_destination or gathered.batch.received or gathered.loads:
            self._peers.flush()
            self._hub.flush()
        if gathered.events:
            self._bus.publish(gathered.events)
        for answered in gathered.answers:
            self._intake.answer(answered.number, answered.answer)
        for run in gathered.progress:
            self._counters.changed(run)

    def carrier(self, name: str) -> Carrier:
        """The way to a destination, and from a source."""
        return self._hub if name == HUB else self._peers
