"""A pod as the core knows it: what it is to us, what was seen and told of it, and when it has had its time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod
from cluster_agent.runtimes.kubernetes.api.reasons import Cause, Reason, reason_of
from cluster_agent.runtimes.kubernetes.judging import LINK_SECONDS, START_SECONDS, patience, runs

SPARE_SECONDS: Final = 60.0  # that a pod without a use is kept
_LOOK_SECONDS: Final = 10.0  # after which the events of a pod are read that says nothing of itself
_NEVER: Final = float("inf")
_ROUNDING: Final = 1e-9


class State(Enum):
    """What a pod is to us."""

    STARTING = auto()  # it shall become the worker of a request
    USED = auto()  # it is one
    SPARE = auto()
    LEAVING = auto()  # it is being deleted


@dataclass(slots=True, eq=False)
class Held:
    """A pod. `since` when it is in its state; `adopted`: it was not made for the request that it has."""

    name: str
    template: str
    state: State
    since: float
    request: int = 0
    adopted: bool = False
    pod: Pod | None = None
    linking: bool = False
    linked: bool = False
    dead: Reason | None = None
    trouble: Reason | None = None
    troubled_since: float = 0.0
    remarked: bool = False  # the trouble was told by events, not by its state
    running_since: float | None = None
    looked_at: float = 0.0
    explaining: bool = False
    given_up: str = ""  # why, once it is only asked for an explanation

    @property
    def silent(self) -> bool:
        """Whether it has not come up, and its state does not say why."""
        return self.running_since is None and (self.trouble is None or self.remarked)

    @property
    def lacks_room(self) -> bool:
        """Whether it is one that the scheduler has found no place for."""
        return self.state is State.STARTING and self.unscheduled

    @property
    def unscheduled(self) -> bool:
        """Whether the scheduler has said last that it finds no place for it."""
        return self.trouble is not None and self.trouble.cause is Cause.UNSCHEDULABLE

    def note(self, now: float) -> None:
        """Take in what its state says: that it runs, or what is wrong."""
        if self.pod is None:
            return
        if runs(self.pod):
            self.trouble = None
            self.running_since = self.running_since if self.running_since is not None else now
            return
        found = reason_of(self.pod)
        if found is None:
            self.trouble = self.trouble if self.remarked else None
            return
        if self.trouble is None or self.trouble.cause is not found.cause:
            self.troubled_since = now
        self.trouble, self.remarked = found, False

    def verdict(self, now: float) -> str | None:
        """Why one that starts will not come up any more; None: it still may."""
        if self.trouble is not None and self.troubled_since + patience(self.trouble) <= now + _ROUNDING:
            return self.trouble.text
        if self.running_since is not None and self.running_since + LINK_SECONDS <= now + _ROUNDING:
            return (
                "the pod runs, but its starter can't be reached: is the node daemon's directory mounted from the node, "
                "at the same path?"
            )
        if self.since + START_SECONDS <= now + _ROUNDING:
            return f"the pod is not up after {START_SECONDS:g} s"
        return None

    def puzzles(self, now: float) -> bool:
        """Whether its events are to be read, for it has said nothing of itself for a while."""
        return self.silent and self.looked_at + _LOOK_SECONDS <= now + _ROUNDING

    def is_stale(self, now: float) -> bool:
        """Whether nobody has used it for long."""
        return self.state is State.SPARE and self.since + SPARE_SECONDS <= now + _ROUNDING

    @property
    def due(self) -> float:
        """When it is to be looked at again, should nothing be heard of it."""
        if self.state is State.SPARE:
            return self.since + SPARE_SECONDS
        if self.state is not State.STARTING or self.given_up:
            return _NEVER
        due = self.since + START_SECONDS
        if self.trouble is not None:
            due = min(due, self.troubled_since + patience(self.trouble))
        if self.running_since is not None:
            due = min(due, self.running_since + LINK_SECONDS)
        if self.silent:
            due = min(due, self.looked_at + _LOOK_SECONDS)
        return due
