"""Units on their way between clusters, edge by edge: which of them go where, come from where, and how far they are.

Part of the durable state: every field is changed by applying a record and by nothing else.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cluster_agent.coordinator.messages import Place
from cluster_agent.coordinator.stored import Stored, Sum

# Units on their way out, on one edge.
QUEUED: Final = 0  # not offered yet
OFFERED: Final = 1  # ours until it is granted
GRANTED: Final = 2  # the other's, who may not know yet
HEARD: Final = 3  # the other has the grant in its log

# Units on their way in, on one edge.
ACCEPTED: Final = 0  # the other's until it grants it
OURS: Final = 1  # granted, bytes on their way
HERE: Final = 2  # delivered to the consumer


class Out(Stored):
    """A unit that another cluster's consumer gets on one edge."""

    cluster: str
    state: int = QUEUED
    declined: list[str] = []


class Rival(Stored):
    """An offer of a unit beside another one. One of the two was taken back, and only a grant tells which was not."""

    place: Place
    forwarded: bool


class Incoming(Stored):
    """A unit that another cluster offers or has granted to us; `edges` maps each edge to its state."""

    cluster: str
    place: Place
    edges: dict[int, int]
    node: str = ""  # where its bytes go
    senders: dict[int, str] = {}  # of edges that were offered by another cluster than `cluster`
    forwarded: list[int] = []  # edges that were offered by a cluster that had the unit from another
    rivals: dict[int, dict[str, Rival]] = {}  # edge -> cluster that offers the unit as well
    held: list[int] = []  # edges that are ACCEPTED, but for want of disk nobody was told so

    def sender(self, edge: int) -> str:
        """Who offered the unit on an edge."""
        return self.senders.get(edge, self.cluster)

    def drop_rival(self, edge: int, cluster: str) -> Rival:
        """Its offer beside another one counts no more."""
        rival = self.rivals[edge].pop(cluster)
        if not self.rivals[edge]:
            del self.rivals[edge]
        return rival

    def turn_to(self, edge: int, cluster: str) -> None:
        """Of those who offer the unit on an edge this one counts; its offer is a rival no more."""
        rival = self.drop_rival(edge, cluster)
        if list(self.edges) == [edge]:
            self.cluster = cluster
            self.senders = {}
        else:
            self.senders[edge] = cluster
        self.place = rival.place
        self.forwarded = [each for each in self.forwarded if each != edge] + [edge] * rival.forwarded


class EdgeState(Stored):
    """One edge on this cluster. A unit on its way out is in `outs`, or of a broadcast for each cluster in `copies`."""

    outs: dict[bytes, Out] = {}
    held: dict[bytes, None] = {}  # delivered, and waiting for a group to form or kept as a side input
    arrived: Sum = msgspec.field(default_factory=Sum)
    went: dict[bytes, str] = {}  # unit -> cluster that was done with it, where the run may begin again
    copies: dict[bytes, dict[str, Out]] = {}  # of a broadcast: unit -> cluster that gets a copy -> how far that is
    pairs: dict[bytes, int] = {}  # of a port that is crossed with another: unit -> its tasks that have not committed
    came: int = 0  # of a broadcast: units that were made here or granted to us

    def out(self, unit: bytes, cluster: str) -> Out | None:
        """How far a unit is on its way to a cluster; "": to the only one that gets it."""
        out = self.outs.get(unit)
        if out is None:
            return self.copies[unit].get(cluster) if unit in self.copies else None
        return out if cluster in ("", out.cluster) else None

    def ways(self, unit: bytes) -> list[Out]:
        """All that is on its way of a unit."""
        out = self.outs.get(unit)
        return [out] if out is not None else list(self.copies.get(unit, {}).values())

    def arrived_at(self, unit: bytes, cluster: str) -> Out:
        """Take what was on its way to a cluster out; "": to the only one that gets it."""
        if unit not in self.copies:
            return self.outs.pop(unit)
        out = self.copies[unit].pop(cluster)
        if not self.copies[unit]:
            del self.copies[unit]
        return out


class Push(Stored):
    """A cluster that cannot dial us wants a unit's bytes sent to one of its nodes."""

    cluster: str
    place: Place


class Traffic(Stored):
    """What came from one cluster."""

    units: int = 0
    bytes: int = 0
    seconds: float = 0.0
