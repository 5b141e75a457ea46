"""What the log says of what passes between clusters: offers, grants, pushes, and words that came too early."""

from __future__ import annotations

from cluster_agent.coordinator.cache.records import Made
from cluster_agent.coordinator.messages import Place, RunKey
from cluster_agent.coordinator.stored import Record
from cluster_agent.orders.messages import UnitInfo


class MessageKept(Record, frozen=True):
    """A peer spoke of a run whose fragment has not come here yet."""

    run: RunKey
    cluster: str
    message: bytes


class EarlyRefused(Record, frozen=True):
    """A peer has said more of such a run than is kept: all that it said is dropped, and the run can't be executed."""

    run: RunKey
    cluster: str
    revision: int


class Spilled(Record, frozen=True):
    """A task that no node has yet is given up in favour of another cluster."""

    run: RunKey
    task: bytes
    cluster: str


class Offered(Record, frozen=True):
    """These units (edge, id) are offered to a cluster."""

    run: RunKey
    cluster: str
    units: tuple[tuple[int, bytes], ...]


class Rerouted(Record, frozen=True):
    """A unit that was not granted goes elsewhere; `cluster` may be our own. `declined`: who did not want it."""

    run: RunKey
    edge: int
    unit: bytes
    cluster: str
    declined: str = ""


class GrantGiven(Record, frozen=True):
    """The unit is the other cluster's now."""

    run: RunKey
    edge: int
    unit: bytes
    cluster: str = ""


class GrantHeard(Record, frozen=True):
    """The other cluster has it in its log."""

    run: RunKey
    edge: int
    unit: bytes
    cluster: str = ""


class OutReleased(Record, frozen=True):
    """The other cluster's task on the unit has committed."""

    run: RunKey
    edge: int
    unit: bytes
    cluster: str = ""


class OfferTaken(Record, frozen=True):
    """Another cluster offers a unit, or says where a unit that is ours already can be had now.

    `made`: what its task has made, if that was told.
    """

    run: RunKey
    edge: int
    unit: UnitInfo
    cluster: str
    place: Place
    forwarded: bool = False
    made: Made | None = None


class OfferDropped(Record, frozen=True):
    """The other cluster took its offer back. Without its name: the one that offered first."""

    run: RunKey
    edge: int
    unit: bytes
    cluster: str = ""


class OfferHeld(Record, frozen=True):
    """No disk here has room for what is offered, and it is not answered; or is now (not `held`)."""

    run: RunKey
    edge: int
    unit: bytes
    held: bool


class GrantTaken(Record, frozen=True):
    """The unit is ours, by the grant of this cluster. Without its name: of the one that offered first."""

    run: RunKey
    edge: int
    unit: bytes
    cluster: str = ""


class PushWanted(Record, frozen=True):
    """A cluster that cannot dial us wants the bytes of a unit at this place."""

    run: RunKey
    unit: bytes
    cluster: str
    place: Place


class PushSettled(Record, frozen=True):
    """That push is done, or not wanted any more."""

    run: RunKey
    unit: bytes
    cluster: str


ClusterRecord = (
    MessageKept
    | EarlyRefused
    | Spilled
    | Offered
    | Rerouted
    | GrantGiven
    | GrantHeard
    | OutReleased
    | OfferTaken
    | OfferDropped
    | OfferHeld
    | GrantTaken
    | PushWanted
    | PushSettled
)
