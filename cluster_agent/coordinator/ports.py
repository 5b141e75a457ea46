"""What the driver needs of the core and of the parts that carry messages, so that each can be put to a test alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from bdw_fed.v1.control_plane_pb2 import CachedStep, HeldSlots, NamespaceStored, PoolStatus, TaskInfo
from bdw_fed.v1.model_pb2 import FragmentStatus, MeasuredLink, MeasuredStep, Run
from cluster_agent.coordinator.actions import Action
from cluster_agent.coordinator.messages import Event, RunKey
from cluster_agent.coordinator.records import AnyRecord
from cluster_agent.orders.messages import Downward

HUB = "hub"
_PEER = "peer/"


def peer(cluster: str) -> str:
    """A cluster's name as a destination and source in the log; no cluster's name is like the hub's."""
    return f"{_PEER}{cluster}"


def cluster_of(name: str) -> str:
    """The cluster of a destination or source that is a peer; empty if it is none."""
    return name.removeprefix(_PEER) if name.startswith(_PEER) else ""


class Core(Protocol):
    """The pure coordinator. `handle_all` has applied the records that it returns; `apply` is for replay."""

    def handle_all(self, events: Iterable[Event], now: float) -> list[Action]:
        """These things happened, in this order."""

    def apply(self, record: AnyRecord) -> None:
        """A record of an earlier life."""

    def resume(self, now: float) -> list[Action]:
        """All records are applied: say again what may not have been heard."""

    def status(self, run: RunKey) -> FragmentStatus:
        """The run's counters here. KeyError if the run is not."""

    def run(self, run: RunKey) -> Run:
        """The run as far as it is known here. KeyError if it is not."""

    def tasks(self, run: RunKey) -> list[TaskInfo]:
        """The run's tasks that failed, wait longest or run; none if the run is not here."""

    def inventory(self) -> Iterable[tuple[str, str, int, int]]:
        """The fragments held, or reserved for: namespace, run, epoch, desired state."""

    def reserved(self) -> list[HeldSlots]:
        """The slots that runs have reserved."""

    def measured(self) -> tuple[list[MeasuredLink], list[MeasuredStep]]:
        """Of the links to this cluster and of steps' tasks."""

    def cached(self, namespace: str, step: str) -> list[CachedStep]:
        """What the cache has of a namespace, or of one of its steps."""

    def stored(self) -> list[NamespaceStored]:
        """What the runs of each namespace that has a quota have stored."""

    def pools(self) -> list[PoolStatus]:
        """The pools of warm workers."""

    def snapshot(self) -> bytes:
        """The durable state."""

    def restore(self, snapshot: bytes, /) -> None:
        """The state of `snapshot`."""


class Nodes(Protocol):
    """The way to the node daemons."""

    def tell(self, node: str, stream: int, commands: Sequence[bytes | Downward]) -> None:
        """Send serialised NodeCommands and orders in as few messages as may be; they are lost if that stream ended."""


class Carrier(Protocol):
    """The way to the hub, or to all peers: sessions over the log's outbox and inbox."""

    def pushed(self, destination: str, messages: Sequence[tuple[int, bytes]]) -> None:
        """These are in the outbox now, with their numbers: they may leave."""

    def durable(self, source: str, log_id: bytes, seq: int) -> None:
        """What the source said up to `seq` is in the log: it may be acked."""

    def renumbered(self, destination: str, messages: Sequence[tuple[int, bytes]], following: int) -> None:
        """All that is in the outbox has these numbers now; the next message gets `following`."""

    def flush(self) -> None:
        """The tick is over: send what it made ready, one frame for each destination."""


class Peers(Carrier, Protocol):
    """The way to all peers."""

    def load(self, cluster: str, load: bytes) -> None:
        """Tell a cluster how busy we are, a serialised Load. It may be lost."""


class Progress(Protocol):
    """Where a run's counters go."""

    def progress(self, status: FragmentStatus) -> None:
        """The newest counters; they may be lost."""
