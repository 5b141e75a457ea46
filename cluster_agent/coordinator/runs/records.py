"""What the log says of runs and their fragments: taken, wanted, reserved, ended."""

from __future__ import annotations

from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.stored import Record
from cluster_agent.orders.messages import Failure


class FragmentTaken(Record, frozen=True):
    """The hub's fragment replaces whatever there was of this run."""

    fragment: bytes
    desired: int


class DesiredSet(Record, frozen=True):
    """The run is wanted in this state from now on.

    `revision`: of the fragment that is forgotten. What peers say of a newer one is for a fragment that is to come.
    """

    run: RunKey
    desired: int
    reason: str
    at: float = 0.0  # Unix time
    revision: int = 0


class DirectoryLearned(Record, frozen=True):
    """How the other clusters are reached."""

    directory: bytes


class EarlyHeard(Record, frozen=True):
    """The fragment has come, and what peers said before is heard now."""

    run: RunKey


class Reserved(Record, frozen=True):
    """The slots of a fragment are held, or can't be (`state` as in a Half, `reason` why not)."""

    run: RunKey
    epoch: int
    state: int
    fragment: bytes
    reason: str


class HalfExpired(Record, frozen=True):
    """No commit came in time: the slots are held no more."""

    run: RunKey


class HalfDropped(Record, frozen=True):
    """The hub has taken its order to reserve back."""

    run: RunKey


class FreedSaid(Record, frozen=True):
    """The hub was told that there is more room than when it was denied some."""


class AloneCounted(Record, frozen=True):
    """The cluster has been without the hub for so long; 0: it is not."""

    seconds: float


class RunTimed(Record, frozen=True):
    """The run has gone on here for so long."""

    run: RunKey
    seconds: float


class RetentionOver(Record, frozen=True):
    """What was retained of a run that has not succeeded is freed, but for its outputs."""

    run: RunKey


class OutputsExpired(Record, frozen=True):
    """The time is over for which these outputs, (output step, unit), are kept after the run's end."""

    run: RunKey
    outputs: tuple[tuple[int, bytes], ...]


class Ended(Record, frozen=True):
    """The fragment is over. `failure` says why, if it failed as a whole."""

    run: RunKey
    state: int
    failure: Failure | None = None
    step: str = ""
    task: bytes = b""


RunRecord = (
    FragmentTaken
    | DesiredSet
    | DirectoryLearned
    | EarlyHeard
    | Reserved
    | HalfExpired
    | HalfDropped
    | FreedSaid
    | AloneCounted
    | RunTimed
    | RetentionOver
    | OutputsExpired
    | Ended
)
