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
class Queued:
    """The run has a plan (`plan` is its digest), and waits until slots are reserved for it on these clusters."""

    revision: int
    plan: bytes
    mode: str  # hold or lend
    clusters: tuple[str, ...]


@dataclass(frozen=True)
class Reserving:
    """An attempt to reserve: the slots of these fragments, all of one epoch, are ordered on their clusters.

    `attempt`: its number among those of the run, counted on from the run as it was planned. `denied`: the clusters that
    the plan does without, and why. `time_to_live`: seconds that a cluster holds its slots if it hears nothing more.
    """

    attempt: int
    epoch: int
    revision: int
    plan: bytes
    fragments: tuple[m.Fragment, ...]
    denied: dict[str, str]
    time_to_live: float


@dataclass(frozen=True)
class Unplannable:
    """There is no plan for the queued run just now."""

    reason: str


@dataclass(frozen=True)
class Answered:
    """A cluster holds the slots that the attempt of this epoch wants of it; or why it can't."""

    cluster: str
    epoch: int
    reserved: bool
    reason: str
    at: float


@dataclass(frozen=True)
class Unanswered:
    """These clusters have not answered the attempt of this epoch in time."""

    epoch: int
    clusters: tuple[str, ...]


@dataclass(frozen=True)
class Abandoned:
    """The run was not handed out to the end, and will not be; what there is of it is stopped."""

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
class FragmentHeard:
    """All that the fragment, which has ended well, has said to other clusters is in their logs."""

    cluster: str
    epoch: int


@dataclass(frozen=True)
class LogLost:
    """A cluster's coordinator has a new log, and knows nothing of the fragment of this epoch, which it had begun."""

    cluster: str
    epoch: int
    at: float


@dataclass(frozen=True)
class OutOfTouch:
    """A cluster's agent has not been heard for long."""

    cluster: str
    at: float


@dataclass(frozen=True)
class Replaced:
    """Clusters are lost, and there is a plan without them; `revision` follows on the run's. It begins the run again.

    Fragments of another line than the run's are a line beside it.
    """

    lost: tuple[str, ...]
    revision: int
    plan: bytes
    fragments: tuple[m.Fragment, ...]
    at: float


@dataclass(frozen=True)
class Kept:
    """The original line of a run can go on: it counts, or the replacement does. `revision`: that of the run's plan."""

    revision: int
    original: bool


@dataclass(frozen=True)
class Irreplaceable:
    """Clusters are lost, and this is why the run waits for them; no reason: it waits for none any more."""

    reason: str


@dataclass(frozen=True)
class HookBegun:
    """There is a run that executes this hook."""

    hook: str


@dataclass(frozen=True)
class Retried:
    """Somebody wants a run that has not succeeded to be tried again; it was planned anew for that."""

    revision: int
    plan: bytes
    fragments: tuple[m.Fragment, ...]


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
    | Queued
    | Reserving
    | Unplannable
    | Answered
    | Unanswered
    | Abandoned
    | FragmentAccepted
    | Progress
    | OutputMade
    | FragmentEnded
    | FragmentHeard
    | LogLost
    | OutOfTouch
    | Replaced
    | Kept
    | Irreplaceable
    | HookBegun
    | Retried
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
    """New fragments, and what is wanted of them; while they are to be reserved, for how many seconds."""

    fragments: tuple[m.Fragment, ...]
    desired: m.DesiredState.ValueType
    time_to_live: float = 0.0


@dataclass(frozen=True)
class HandOut:
    """Fragments that replace what these clusters had of the run, all of them or none; and what is wanted of them."""

    fragments: tuple[m.Fragment, ...]
    desired: m.DesiredState.ValueType


@dataclass(frozen=True)
class TakeBack:
    """Nothing is to be reserved on these clusters any more."""

    clusters: tuple[str, ...]


@dataclass(frozen=True)
class SetDesired:
    """What is wanted of these clusters' fragments from now on, in this line of the run; empty: in the newest."""

    clusters: tuple[str, ...]
    desired: m.DesiredState.ValueType
    line: str = ""


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


Action = StoreRun | StoreFragments | HandOut | TakeBack | SetDesired | StoreOutputs | Refuse
