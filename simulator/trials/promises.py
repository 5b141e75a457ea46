"""Nothing is said before it is durable: every frame that leaves is held against the log, or the store, of who sends it.

End.write ─▶ Promises ─ numbers and acks of the frame ─▶ the sender's log, the hub's etcd ─▶ Ledger.violated
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import peer_pb2
from bdw_fed.v1 import store_pb2 as s
from cluster_agent.coordinator.ports import HUB, peer
from simulator.trials.streams import End

if TYPE_CHECKING:
    from cluster_agent.log import CoordinatorLog
    from simulator.trials.etcd import Etcd
    from simulator.trials.ledger import Ledger


class Promises:
    """`log_of` finds the open log of an agent by its cluster."""

    def __init__(self, ledger: Ledger, etcd: Etcd, log_of: Callable[[str], CoordinatorLog]) -> None:
        self._ledger = ledger
        self._etcd = etcd
        self._log_of = log_of
        self._stored: dict[str, int] = {}  # the highest ack of the hub that was found true, by cluster

    def sent(self, end: End, message: Any) -> None:
        """This frame leaves."""
        match message:
            case peer_pb2.ExchangeRequest() | peer_pb2.ExchangeResponse():
                self._of_peer(_cluster(end.here), _cluster(end.there), message.frame)
            case f.SessionRequest():
                self._of_agent(_cluster(end.here), message)
            case f.SessionResponse():
                self._ledger.heard(end.here, _cluster(end.there))
                self._of_hub(_cluster(end.there), message)

    def _of_peer(self, cluster: str, other: str, frame: peer_pb2.PeerFrame) -> None:
        log = self._log_of(cluster)
        last = frame.seq + len(frame.messages) - 1
        if frame.messages and last >= log.next_seq(peer(other)):
            self._ledger.violated(f"{cluster} says number {last} to {other}, which is not in its log")
        known = log.received().get(peer(other))
        if known is not None and known.log_id == frame.peer_log_id and frame.ack > known.seq:
            self._ledger.violated(
                f"{cluster} acknowledges {frame.ack} of {other}, of which only {known.seq} are in its log"
            )

    def _of_agent(self, cluster: str, frame: f.SessionRequest) -> None:
        log = self._log_of(cluster)
        if frame.HasField("relay"):
            self._of_peer(cluster, frame.relay.to_cluster, frame.relay.frame)
        if frame.seq >= log.next_seq(HUB):
            self._ledger.violated(f"{cluster} says number {frame.seq} to the hub, which is not in its log")

    def _of_hub(self, cluster: str, frame: f.SessionResponse) -> None:
        if frame.ack <= self._stored.get(cluster, 0):
            return
        value = self._etcd.value(f"/bdw-fed/v1/agents/{cluster}".encode())
        received = s.AgentRecord.FromString(value).received
        if frame.ack > received:
            self._ledger.violated(f"the hub acknowledges {frame.ack} of {cluster}, of which it has stored {received}")
        self._stored[cluster] = received


def _cluster(name: str) -> str:
    """The cluster of an agent's name; the hub's own otherwise."""
    return name.partition("/")[2] or name
