"""The agents that are connected to other hubs, pure: which hub has which, by the records, and what that hub says of it.

A record names the hub with which its agent has its session, and counts as long as that hub lives. What the hub told
last of the agent's state holds until it tells otherwise; before it has told anything, the agent is ready.
"""

from __future__ import annotations

from collections.abc import Collection

from control_plane.federation.liveness import State

_STATES: dict[str, State] = {"ready": "ready", "not-ready": "not-ready", "unknown": "unknown"}


class Elsewhere:
    """By cluster. `own_id` is this hub's."""

    def __init__(self, own_id: bytes) -> None:
        self._own_id = own_id
        self._living: frozenset[bytes] = frozenset()
        self._hub_of: dict[str, bytes] = {}
        self._states: dict[str, State] = {}

    def hub(self, cluster: str) -> bytes:
        """The hub to which the agent is connected, if it is another one and lives; else b""."""
        hub_id = self._hub_of.get(cluster, b"")
        return hub_id if hub_id in self._living else b""

    def clusters(self) -> set[str]:
        """All whose agents are connected to another hub that lives."""
        return {cluster for cluster, hub_id in self._hub_of.items() if hub_id in self._living}

    def state(self, cluster: str) -> State | None:
        """How the agent is; None if it is not connected to another hub."""
        return self._states.get(cluster, "ready") if self.hub(cluster) else None

    def has_told(self, cluster: str) -> bool:
        """Whether the agent's hub has said how it is."""
        return cluster in self._states

    def recorded(self, cluster: str, hub_id: bytes) -> bool:
        """An agent's record names this hub. Whether another one that lives has lost it by that."""
        before = self.hub(cluster)
        if self._hub_of.get(cluster) != hub_id:
            self._states.pop(cluster, None)
        self._hub_of[cluster] = hub_id
        return bool(before) and not self.hub(cluster)

    def told(self, hub_id: bytes, cluster: str, state: str) -> bool:
        """A hub says how an agent is; whether it is the one that knows."""
        if not hub_id or self.hub(cluster) != hub_id:
            return False
        self._states[cluster] = _STATES.get(state, "ready")
        return True

    def living(self, hubs: Collection[bytes]) -> set[str]:
        """These are the hubs that live. The clusters whose agents have lost theirs by that."""
        before = self.clusters()
        self._living = frozenset(hubs) - {self._own_id}
        lost = before - self.clusters()
        for cluster in lost:
            self._states.pop(cluster, None)
        return lost

    def forget(self, cluster: str) -> None:
        """The agent will not come back."""
        self._hub_of.pop(cluster, None)
        self._states.pop(cluster, None)
