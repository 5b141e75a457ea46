"""What a hub knows of each agent that was ever seen: what it said last of its cluster, and how it is.

    heartbeats, breaks of streams ─┐
    records, other hubs ───────────┼─▶ status and state of each
    revocations, operators' taints ┘

Whoever is connected here is judged by what is heard of it; an agent of another hub is as that hub says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence

import structlog

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import store_pb2 as s
from control_plane.federation.clocks import Clocks
from control_plane.federation.elsewhere import Elsewhere
from control_plane.federation.liveness import Liveness, State
from control_plane.federation.statuses import Statuses
from control_plane.membership.members import Members
from wire.clocks import is_wrong

_log = structlog.get_logger(__name__)


class KnownAgents:
    """By cluster. `here` are those that are connected to this hub, `taints` gives what operators have put on one."""

    def __init__(self, hub_id: bytes, heartbeat: float, members: Members, here: Collection[str]) -> None:
        self._members = members
        self._here = here
        self._status: dict[str, cp.ClusterStatus] = {}
        self._generations: dict[str, int] = {}  # of the certificate that each showed last
        self._liveness = Liveness(heartbeat)
        self._clocks = Clocks()
        self._elsewhere = Elsewhere(hub_id)
        self.taints: Callable[[str], Sequence[cp.ClusterTaint]] = lambda _: ()

    # ------------------------------------------------------------------------------------------------- questions

    def statuses(self) -> Statuses:
        """What each agent that was ever seen said last, and its state now."""
        now = time.monotonic()

        def look(cluster: str) -> cp.ClusterStatus:
            shown = cp.ClusterStatus()
            shown.CopyFrom(self._status[cluster])
            shown.state = self._state(cluster, now)
            shown.taints.extend(self.taints(cluster))
            return shown

        return Statuses(self._status, look)

    def told(self, cluster: str) -> cp.ClusterStatus:
        """What other hubs are told of an agent that is connected here."""
        told = cp.ClusterStatus()
        told.CopyFrom(self._status[cluster])
        told.state = self.heard_state(cluster)
        return told

    def heard_state(self, cluster: str) -> State:
        """The state of an agent by what was heard of it here."""
        return self._liveness.state(cluster, time.monotonic())

    def out_of_touch(self, cluster: str) -> bool:
        """Whether the agent was not heard for long, or never, or will not be heard again."""
        return self._state(cluster, time.monotonic()) in ("unknown", "never-seen", "revoked")

    def silence(self) -> dict[str, float]:
        """Seconds since each agent was heard last, of those that were ever seen and are not another hub's to judge."""
        now = time.monotonic()
        ours = [cluster for cluster in self._status if cluster in self._here or not self._elsewhere.hub(cluster)]
        found = {cluster: self._liveness.silence(cluster, now) for cluster in ours}
        return {cluster: silence for cluster, silence in found.items() if silence is not None}

    def seconds_to_next_change(self) -> float | None:
        """When some state changes if nothing is heard; None: none will."""
        now = time.monotonic()
        change = self._liveness.next_change(now)
        return None if change is None else change - now

    def is_revoked(self, cluster: str) -> bool:
        """Whether the certificate that the agent showed last is not valid any more."""
        return self._generations.get(cluster, 0) < self._members.revocations.valid_from(cluster)

    def hub(self, cluster: str) -> bytes:
        """The hub to which the agent is connected, if it is another one and lives; else b""."""
        return self._elsewhere.hub(cluster)

    def elsewhere(self) -> set[str]:
        """All whose agents are connected to another hub."""
        return self._elsewhere.clusters()

    # ------------------------------------------------------------------------------------------------- connected here

    def connected(self, cluster: str, generation: int, record: s.AgentRecord) -> None:
        """The agent has a session here, and has shown a certificate of this generation."""
        self._generations[cluster] = generation
        self._status[cluster] = record.status
        self._liveness.heard(cluster, time.monotonic())

    def disconnected(self, cluster: str) -> None:
        """Its session has ended."""
        self._liveness.broken(cluster)
        self._clocks.forget(cluster)

    def heard(self, cluster: str, heartbeat: f.Heartbeat) -> tuple[cp.ClusterStatus, bool]:
        """The agent lives, and says how its nodes are: its status, and whether it is another one than before."""
        self._liveness.heard(cluster, time.monotonic())
        before = self._status.get(cluster)
        status = cp.ClusterStatus()
        status.CopyFrom(heartbeat.status)
        status.name = cluster
        status.last_seen = time.time()
        if heartbeat.wall_clock:
            self._compare_clocks(status, heartbeat.wall_clock)
        self._status[cluster] = status
        return status, before is None or _worth_storing(before) != _worth_storing(status)

    def _compare_clocks(self, status: cp.ClusterStatus, theirs: float) -> None:
        """Note how far the agent's clock is from ours; log when it goes wrong, and when it is right again."""
        was_wrong = is_wrong(self._clocks.ahead(status.name))
        self._clocks.heard(status.name, theirs, status.last_seen)
        ahead = self._clocks.ahead(status.name)
        assert ahead is not None
        status.clock_ahead = ahead
        if is_wrong(ahead) and not was_wrong:
            _log.warning("an agent's clock is not ours", cluster=status.name, seconds_ahead=round(ahead, 1))
        elif was_wrong and not is_wrong(ahead):
            _log.info("an agent's clock is ours again", cluster=status.name, seconds_ahead=round(ahead, 1))

    # ------------------------------------------------------------------------------------------------- what is told

    def told_by(self, hub_id: bytes, status: cp.ClusterStatus) -> None:
        """A hub says how an agent is, which counts if it is the one that has it."""
        if status.name not in self._here and self._elsewhere.told(hub_id, status.name, status.state):
            self._status[status.name] = status

    def recorded(self, record: s.AgentRecord) -> bool:
        """An agent's record, as some hub has written it; whether the agent can be reached otherwise now."""
        cluster = record.cluster
        renewed = self._generations.get(cluster, 0) < record.generation
        if renewed:
            self._generations[cluster] = record.generation
        lost = self._elsewhere.recorded(cluster, record.hub)
        if cluster in self._here:
            return renewed
        known = self._status.get(cluster)
        if known is None or (self._elsewhere.hub(cluster) and not self._elsewhere.has_told(cluster)):
            self._status[cluster] = record.status  # what an agent said here is newer than what is stored of it
        if lost:
            self._wait_for([cluster])
        self._liveness.known(cluster, time.monotonic())
        return renewed or known is None or known.gateway_address != record.gateway_address

    def hubs(self, others: Collection[bytes]) -> None:
        """These are the other hubs that live: the agents of one that has died are waited for from now on."""
        self._wait_for(self._elsewhere.living(others))

    def forget(self, cluster: str) -> None:
        """The agent will not come back."""
        self._status.pop(cluster, None)
        self._generations.pop(cluster, None)
        self._elsewhere.forget(cluster)
        self._liveness.forget(cluster)

    def _wait_for(self, clusters: Iterable[str]) -> None:
        for cluster in clusters:
            if cluster not in self._here:
                self._liveness.heard(cluster, time.monotonic())
                self._liveness.broken(cluster)

    def _state(self, cluster: str, now: float) -> State:
        if self.is_revoked(cluster):
            return "revoked"
        here = cluster in self._here
        return (None if here else self._elsewhere.state(cluster)) or self._liveness.state(cluster, now)


def _worth_storing(status: cp.ClusterStatus) -> list[tuple[object, ...]]:
    return [(node.name, node.ready, node.data_address, node.cpus, node.memory, node.cordoned) for node in status.nodes]
