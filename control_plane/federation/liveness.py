"""Which agents are alive, pure: from when their words came, on the monotonic clock.

An agent is `ready` while its heartbeats come, `not-ready` when some are missing or its stream just broke, `unknown`
when that has lasted, and `never-seen` before it first connected. The registry of links feeds this in and wakes at
`next_change`, so that a silence becomes a state without anybody asking.

A hub that stood still itself has heard nobody by its own fault: `Attention` knows since when it listens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ready", "not-ready", "unknown", "never-seen", "revoked"]


_GAP = 5.0  # seconds that a look may be late before it is taken for a pause of this hub


class Attention:
    """Since when this hub has listened without a gap, told by looks that come when they should."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._due = now

    def listened(self, now: float) -> float:
        """A look: for how many seconds silence has been the silence of others."""
        if now > self._due + _GAP:
            self._since = now
        self._due = now
        return now - self._since

    def next_at(self, due: float) -> None:
        """When the next look comes, if nothing keeps this hub from it."""
        self._due = due


@dataclass(slots=True)
class _Heard:
    last: float
    connected: bool


class Liveness:
    """The states of all agents. `heartbeat` is the interval in seconds at which they are to be heard."""

    def __init__(self, heartbeat: float) -> None:
        self._not_ready_after = 3 * heartbeat
        self._unknown_after = 12 * heartbeat
        self._heard: dict[str, _Heard] = {}

    def heard(self, cluster: str, now: float) -> None:
        """A word of the agent came over its live stream."""
        self._heard[cluster] = _Heard(now, True)

    def broken(self, cluster: str) -> None:
        """The agent's stream is gone."""
        if cluster in self._heard:
            self._heard[cluster].connected = False

    def known(self, cluster: str, now: float) -> None:
        """The agent was seen by an earlier hub; from now on it is waited for."""
        self._heard.setdefault(cluster, _Heard(now, False))

    def forget(self, cluster: str) -> None:
        """The agent will not come back."""
        self._heard.pop(cluster, None)

    def state(self, cluster: str, now: float) -> State:
        """What the agent's silence, if any, says."""
        heard = self._heard.get(cluster)
        if heard is None:
            return "never-seen"
        silence = now - heard.last
        if silence >= self._unknown_after:
            return "unknown"
        return "ready" if heard.connected and silence < self._not_ready_after else "not-ready"

    def silence(self, cluster: str, now: float) -> float | None:
        """Seconds since the agent was heard last, or since it began to be waited for; None for one never seen.

        0 while its heartbeats come: between two of them nobody is silent, however short the time that a policy gives.
        """
        heard = self._heard.get(cluster)
        if heard is None:
            return None
        return 0.0 if self.state(cluster, now) == "ready" else now - heard.last

    def next_change(self, now: float) -> float | None:
        """The next moment at which some state changes if nothing is heard; None if none will."""
        moments = [
            heard.last + after
            for heard in self._heard.values()
            for after in (self._not_ready_after, self._unknown_after)
            if heard.last + after > now
        ]
        return min(moments, default=None)
