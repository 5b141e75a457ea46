"""What goes into the core of the Kubernetes runtime and what comes out of it: see `core`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod
from cluster_agent.runtimes.kubernetes.api.reasons import Reason

# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Listed:
    """All pods that there are have been told."""


@dataclass(frozen=True, slots=True)
class Unlisted:
    """What pods there are can't be found out."""

    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod of ours is like this."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such pod (any more); `pod` is its last state known."""

    name: str
    pod: Pod | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A worker is asked for. If a pod has to be made for it, it is called `name`."""

    request: int
    template: str
    name: str


@dataclass(frozen=True, slots=True)
class Unwanted:
    """It is not, any more."""

    request: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The pod was not created. `no_room`: there is no room for it just now."""

    name: str
    message: str
    no_room: bool = False


@dataclass(frozen=True, slots=True)
class Linked:
    """The pod's starter has answered."""

    name: str


@dataclass(frozen=True, slots=True)
class Unlinked:
    """There is no link to the pod's starter any more, or can't be one."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Explained:
    """What was found out about a pod beside its state, and its last words."""

    name: str
    reason: Reason | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """A worker was stopped; `reusable`: its pod may be another worker of the same template."""

    name: str
    reusable: bool


@dataclass(frozen=True, slots=True)
class RoomNeeded:
    """There is no room for a pod that is asked for."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The daemon is about to end: what is released from now on is for the next one."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event: TypeAlias = (
    Listed
    | Unlisted
    | Seen
    | Gone
    | Wanted
    | Unwanted
    | Refused
    | Linked
    | Unlinked
    | Explained
    | Released
    | RoomNeeded
    | Leave
    | Tick
)

# --------------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class Create:
    """Create a pod for a request; say Refused if that can't be. That it is there is seen."""

    name: str
    request: int


@dataclass(frozen=True, slots=True)
class Link:
    """Connect with a pod's starter as soon as it listens; say Linked, and Unlinked when that is over."""

    name: str


@dataclass(frozen=True, slots=True)
class Explain:
    """Find out more about a pod that does not come up; say Explained."""

    name: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The pod is up, and the worker of this request from now on."""

    request: int
    name: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The request can't be granted."""

    request: int
    message: str
    detail: str = ""
    no_room: bool = False


@dataclass(frozen=True, slots=True)
class Died:
    """A pod that is used is no worker any more."""

    name: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Delete:
    """Cut the link, if any, and delete the pod; say Gone."""

    name: str


@dataclass(frozen=True, slots=True)
class Clear:
    """A pod is gone: cut the link, if any, and remove its directory."""

    name: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a Tick then."""

    at: float


Action: TypeAlias = Create | Link | Explain | Grant | Fail | Died | Delete | Clear | WakeAt
