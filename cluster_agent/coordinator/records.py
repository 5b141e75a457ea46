"""The records of the coordinator's log: what was decided or learned, in the order in which it became true.

A record is the only thing that changes the durable state. It says decisions (where a task goes, who gets a unit), not
events, so that a log means the same to a later version of the code. Each is applied by the module of its concept.
"""

from __future__ import annotations

import msgspec

from cluster_agent.coordinator.messages import Place, RunKey
from cluster_agent.orders.messages import Failure, Output, UnitInfo


class Record(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A record: compact, immutable, told apart from the others by its name."""


class Made(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a task of another cluster has made, and what it read (see `hearsay`).

    `outputs`: all of them, or where there are more than these (`count`) those from `first` on.
    """

    contents: bytes
    outputs: tuple[Output, ...]
    first: int = 0
    count: int = 0


class FragmentTaken(Record, frozen=True):
    """The hub's fragment replaces whatever there was of this run."""

    fragment: bytes
    desired: int


class DesiredSet(Record, frozen=True):
    """The run is wanted in this state from now on."""

    run: RunKey
    desired: int
    reason: str
    at: float = 0.0  # Unix time


class DirectoryLearned(Record, frozen=True):
    """How the other clusters are reached."""

    directory: bytes


class NodeMet(Record, frozen=True):
    """A node's daemon has (re)started."""

    node: str
    incarnation: bytes


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


class PartPlaced(Record, frozen=True):
    """A node shall open this part of a source; `follow`: and may go on with its unit by itself."""

    run: RunKey
    part: int
    node: str
    follow: bool = False


class PartOpened(Record, frozen=True):
    """It did; `routes` and `followed` as in Committed. `retried`: another opening of it may have been followed."""

    run: RunKey
    part: int
    node: str
    outputs: tuple[Output, ...]
    routes: tuple[tuple[int, int, str], ...] = ()
    followed: tuple[int, ...] = ()
    retried: bool = False


class PartFailed(Record, frozen=True):
    """It could not."""

    run: RunKey
    part: int
    error: str
    counts: bool


class Assigned(Record, frozen=True):
    """The task's next attempt is this node's; of a split per slot, `parts` is decided with its first."""

    run: RunKey
    task: bytes
    node: str
    parts: int = 0


class Produced(Record, frozen=True):
    """A task that still runs has made these units; `routes` as in Committed."""

    run: RunKey
    task: bytes
    node: str
    outputs: tuple[Output, ...]
    routes: tuple[tuple[int, int, str], ...] = ()


class Committed(Record, frozen=True):
    """A task is done. `routes`: (position in outputs, edge, cluster) of the units whose next task is elsewhere.

    `followed`: edges on which its node has gone on by itself: their tasks' first attempts are that node's.
    """

    run: RunKey
    task: bytes
    attempt: int
    node: str
    outputs: tuple[Output, ...]
    seconds: float
    bytes_in: int
    routes: tuple[tuple[int, int, str], ...] = ()
    followed: tuple[int, ...] = ()


class AttemptEnded(Record, frozen=True):
    """An attempt failed. `counts` = 0: it was never made, 1: not the step's fault, 2: it uses up an attempt,
    3: its node's disk was full, and it waits for room."""

    run: RunKey
    task: bytes
    attempt: int
    failure: Failure
    counts: int


class Surrendered(Record, frozen=True):
    """The run goes on without a task: it has no attempts left; or it is `unmet`, the condition of its step does not
    hold."""

    run: RunKey
    task: bytes
    unmet: bool = False


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


class SidesComplete(Record, frozen=True):
    """All units of the step's side inputs are here: its waiting units become tasks, later ones at once."""

    run: RunKey
    step: int


class Gathered(Record, frozen=True):
    """All units of a gathering step are here, or it needs none: its one task exists."""

    run: RunKey
    step: int


class Batched(Record, frozen=True):
    """These units of a step's driving port are one task."""

    run: RunKey
    step: int
    units: tuple[bytes, ...]


class Crossed(Record, frozen=True):
    """These driving units of a step make a task with each unit of the port that they are crossed with."""

    run: RunKey
    step: int
    units: tuple[bytes, ...]


class Met(Record, frozen=True):
    """All units that meet here have come; of each task, for each in port of the step its units."""

    run: RunKey
    step: int
    groups: tuple[tuple[tuple[bytes, ...], ...], ...]


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


class FetchPlaced(Record, frozen=True):
    """The bytes of a unit of another cluster go to this node; "" = to none yet."""

    run: RunKey
    unit: bytes
    node: str


class Fetched(Record, frozen=True):
    """The bytes of a unit are on a node; `cluster` says from where they crossed, "" = from another node of ours."""

    run: RunKey
    unit: bytes
    node: str
    cluster: str
    size: int
    seconds: float


class Shared(Record, frozen=True):
    """These units lie in a shared place, too."""

    run: RunKey
    place: str
    units: tuple[bytes, ...]


class Cleared(Record, frozen=True):
    """A shared place has these units no more, which were to be deleted there; or nothing of the run (`all`)."""

    run: RunKey
    place: str
    units: tuple[bytes, ...]
    all: bool


class CopiesLost(Record, frozen=True):
    """A node, or a shared place, has these units no more."""

    run: RunKey
    node: str
    units: tuple[bytes, ...]


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


class Remade(Record, frozen=True):
    """Units were lost: these tasks are executed and these source parts are opened once more."""

    run: RunKey
    tasks: tuple[bytes, ...]
    parts: tuple[int, ...]


class RemakeDropped(Record, frozen=True):
    """What that task was to make again has come back."""

    run: RunKey
    task: bytes


class Recalled(Record, frozen=True):
    """A task is done: its result is known from before the run began again. `routes` as in Committed."""

    run: RunKey
    task: bytes
    routes: tuple[tuple[int, int, str], ...] = ()


class Reused(Record, frozen=True):
    """A task is done: its result is known, and its contents are on that node. `routes` as in Committed.

    `key`: it was in a cache under that key, executed then (Unix time); empty: before the run began again.
    """

    run: RunKey
    task: bytes
    node: str
    outputs: tuple[Output, ...]
    routes: tuple[tuple[int, int, str], ...]
    key: bytes = b""
    executed: float = 0.0


class ResultHeard(Record, frozen=True):
    """Another cluster knows the result of a task from before the run began again."""

    run: RunKey
    task: bytes
    made: Made


class CacheFilled(Record, frozen=True):
    """What a task has just made, on that node, goes into the cache. `executed`: Unix time."""

    run: RunKey
    task: bytes
    key: bytes
    node: str
    executed: float


class CacheDropped(Record, frozen=True):
    """These results are in the cache no more."""

    keys: tuple[bytes, ...]


class Reported(Record, frozen=True):
    """What another cluster has done of a step that we count: ports to (count, sum)."""

    run: RunKey
    step: int
    cluster: str
    consumed: dict[str, tuple[int, bytes]]
    produced: dict[str, tuple[int, bytes]]
    tasks: int
    source_done: bool


class Closed(Record, frozen=True):
    """The step is closed; out port -> cluster -> (count, sum) of the units made."""

    run: RunKey
    step: int
    produced: dict[str, dict[str, tuple[int, bytes]]]


class Ended(Record, frozen=True):
    """The fragment is over. `failure` says why, if it failed as a whole."""

    run: RunKey
    state: int
    failure: Failure | None = None
    step: str = ""
    task: bytes = b""


AnyRecord = (
    FragmentTaken
    | DesiredSet
    | DirectoryLearned
    | NodeMet
    | MessageKept
    | EarlyHeard
    | EarlyRefused
    | Reserved
    | HalfExpired
    | HalfDropped
    | FreedSaid
    | AloneCounted
    | PartPlaced
    | PartOpened
    | PartFailed
    | Assigned
    | Produced
    | Committed
    | AttemptEnded
    | Surrendered
    | RunTimed
    | RetentionOver
    | OutputsExpired
    | SidesComplete
    | Gathered
    | Batched
    | Crossed
    | Met
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
    | FetchPlaced
    | Fetched
    | Shared
    | Cleared
    | CopiesLost
    | PushWanted
    | PushSettled
    | Remade
    | RemakeDropped
    | Recalled
    | Reused
    | ResultHeard
    | CacheFilled
    | CacheDropped
    | Reported
    | Closed
    | Ended
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyRecord] = msgspec.msgpack.Decoder(AnyRecord)
_batch_decoder: msgspec.msgpack.Decoder[list[AnyRecord]] = msgspec.msgpack.Decoder(list[AnyRecord])


def encode(record: AnyRecord) -> bytes:
    """One record."""
    return _encoder.encode(record)


def decode(data: bytes) -> AnyRecord:
    """The record of `encode`; raises msgspec.DecodeError or msgspec.ValidationError for anything else."""
    return _decoder.decode(data)


def encode_all(records: list[object]) -> bytes:
    """The records of a tick, as the log keeps them."""
    return _encoder.encode(records)


def decode_all(data: bytes) -> list[AnyRecord]:
    """The records of `encode_all`; raises as `decode` does."""
    return _batch_decoder.decode(data)
