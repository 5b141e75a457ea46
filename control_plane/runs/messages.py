"""What happens to a run, and what follows from it: the events and the actions of the core."""

from __future__ import annotations

from dataclasses import dataclass

from bdw_fed.v1 import model_pb2 as m


@dataclass(frozen=True)
class Submitted:
    """Somebody wants this run: names, revisions, parameters and `submitted_at` are filled in."""

    run: m.Run


@dataclass(frozen=True)
class Planned:
    """The run has a plan (`plan` is its digest among the blobs) and a fragment for each cluster in it.

    With `handed_out` unset the run stays PENDING: its fragments are stored one after the other, and what they say
    counts, but should it stop there, it has to be abandoned. The same event with it set makes the run RUNNING.
    """

    revision: int
    plan: bytes
    fragments: tuple[m.Fragment, ...]
    at: float
    handed_out: bool = True


@dataclass(frozen=True)
class Abandoned:
    """The hub could not go on with this run; what there is of it is stopped."""

    reason: str
    at: float


@dataclass(frozen=True)
class FragmentAccepted:
    """The fragment is in the coordinator's log."""

    cluster: str
    epoch: int
    at: float


@dataclass(frozen=True)
class Progress:
    """Newest counters of some clusters."""

    statuses: tuple[m.FragmentStatus, ...]


@dataclass(frozen=True)
class OutputMade:
    """A fragment has made outputs of the run; `number` tells this piece from the fragment's others."""

    status: m.FragmentStatus
    number: int


@dataclass(frozen=True)
class FragmentEnded:
    """The fragment's last word. `outputs` are those of the whole run, needed if it was the last one to end."""

    status: m.FragmentStatus
    number: int
    at: float
    outputs: tuple[m.RunOutput, ...]  # of the whole run, as far as stored, without this status's own


@dataclass(frozen=True)
class OutOfTouch:
    """A cluster's agent has not been heard for long."""

    cluster: str
    at: float


@dataclass(frozen=True)
class CancelRequested:
    """A person wants the run stopped."""

    reason: str
    at: float


@dataclass(frozen=True)
class SuspendRequested:
    """A person wants that no further task is started."""


@dataclass(frozen=True)
class ResumeRequested:
    """A person wants the run to go on."""


Event = (
    Submitted
    | Planned
    | Abandoned
    | FragmentAccepted
    | Progress
    | OutputMade
    | FragmentEnded
    | OutOfTouch
    | CancelRequested
    | SuspendRequested
    | ResumeRequested
)


@dataclass(frozen=True)
class StoreRun:
    """The run as it is now."""

    run: m.Run


@dataclass(frozen=True)
class StoreFragments:
    """New fragments, and what is wanted of them."""

    fragments: tuple[m.Fragment, ...]
    desired: m.DesiredState.ValueType


@dataclass(frozen=True)
class SetDesired:
    """What is wanted of these clusters' fragments from now on."""

    clusters: tuple[str, ...]
    desired: m.DesiredState.ValueType


@dataclass(frozen=True)
class StoreOutputs:
    """One piece of a fragment's outputs. They count once the run has succeeded."""

    cluster: str
    epoch: int
    number: int
    outputs: tuple[m.RunOutput, ...]


@dataclass(frozen=True)
class Refuse:
    """It can't be done, and why."""

    message: str


Action = StoreRun | StoreFragments | SetDesired | StoreOutputs | Refuse
