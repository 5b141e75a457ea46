"""What goes into a node's core and what comes out of it: see `core`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple


class TaskKey(NamedTuple):
    """An attempt of a task."""

    namespace: str
    run: str
    task: bytes
    attempt: int


class Phase(Enum):
    """Where an attempt is on its way."""

    QUEUED = auto()
    ADMITTED = auto()
    GIVEN = auto()  # to a worker, or to the executor of the built-in kinds
    DONE = auto()


@dataclass(frozen=True)
class PoolSpec:
    """The workers of one step version. `key` tells versions apart; `cpus` and `memory` (bytes) are a task's."""

    key: str
    definition: str
    cpus: float = 1.0
    memory: int = 0


# ---------------------------------------------------------------------------------------------------------- events


class Wanted(NamedTuple):
    """A task that was given to this node. `light`: its inputs are small, and it has no limits but the memory's."""

    key: TaskKey
    light: bool = False


@dataclass(frozen=True, slots=True)
class TasksWanted:
    """This node shall execute these, in this order; `pool` is None for the built-in kinds."""

    pool: PoolSpec | None
    tasks: Sequence[Wanted]


@dataclass(frozen=True, slots=True)
class TaskCancelled:
    """The task is not wanted any more."""

    key: TaskKey


@dataclass(frozen=True, slots=True)
class TasksEnded:
    """The executor has finished with tasks that it was told to execute; the results are with the executor.

    `seconds` they took together, `small`: all that they made was small. `ahead` have ended too, in a row
    behind the last of them, without a word from us; the worker has gone on to `at`, if it is not through with the row.
    """

    worker: int | None
    keys: Sequence[TaskKey]
    usable: bool = True
    seconds: float = 0.0
    small: bool = False
    ahead: Sequence[TaskKey] = ()
    at: TaskKey | None = None


@dataclass(frozen=True, slots=True)
class TasksReturned:
    """The worker does not execute these, by no fault of theirs. `heavy`: they can't be executed as small ones."""

    worker: int
    keys: Sequence[TaskKey]
    usable: bool = True
    heavy: bool = False


@dataclass(frozen=True, slots=True)
class ResultsKept:
    """Results that an earlier daemon left, which the coordinator may not have heard."""

    keys: Sequence[TaskKey]


@dataclass(frozen=True, slots=True)
class ResultsAcked:
    """The coordinator has these results."""

    keys: Sequence[TaskKey]


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Nothing of the run is wanted any more."""

    namespace: str
    run: str


@dataclass(frozen=True, slots=True)
class PoolSized:
    """Keep so many workers of the pool; `bounded`: and not one more."""

    pool: PoolSpec
    workers: int
    bounded: bool = False


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker that was to be started is up, after so many seconds."""

    worker: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A worker could not start. `no_room`: there is no place for another one just now; `final`: it never could here."""

    worker: int
    error: str
    no_room: bool = False
    final: bool = False


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """An idle worker died."""

    worker: int


@dataclass(frozen=True, slots=True)
class SizesVoid:
    """The coordinator does not know any more how many workers it has asked for: it will say so again, or needs none."""


@dataclass(frozen=True, slots=True)
class RoomChanged:
    """The node has so much for its workers; `cordoned`: it shall go on with what it has, and take no new tasks."""

    cpus: float
    memory: int
    cordoned: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    TasksWanted
    | TaskCancelled
    | TasksEnded
    | TasksReturned
    | ResultsKept
    | ResultsAcked
    | RunEnded
    | PoolSized
    | WorkerReady
    | WorkerFailed
    | WorkerGone
    | SizesVoid
    | RoomChanged
    | Tick
)

# --------------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker; say WorkerReady or WorkerFailed."""

    worker: int
    pool: PoolSpec


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Stop an idle worker."""

    worker: int


class Given(NamedTuple):
    """A task to be executed; for the coordinator to know how long it waited, of which for a worker to start."""

    key: TaskKey
    queued_seconds: float
    start_seconds: float


@dataclass(frozen=True, slots=True)
class Execute:
    """Execute these tasks in this worker (None: built in), after those that it has; say TasksEnded of each.

    `small`: as small jobs. Otherwise it is one task, and the worker has no other. `ahead`: how many more the worker may
    do behind a single one without being told, where they follow from it (see `rows`).
    """

    worker: int | None
    tasks: Sequence[Given]
    small: bool = False
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Abort:
    """Kill a task that was told to be executed, or return it; TasksEnded or TasksReturned follows all the same."""

    key: TaskKey


@dataclass(frozen=True, slots=True)
class FailToStart:
    """The task failed, because no worker could be started for it."""

    key: TaskKey
    error: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """There is no place for the task here, or it is not to be begun here any more: others shall have it."""

    key: TaskKey
    why: str


@dataclass(frozen=True, slots=True)
class TellAgain:
    """The coordinator asked for a task whose result it has not acknowledged."""

    key: TaskKey


@dataclass(frozen=True, slots=True)
class Forget:
    """The results are not needed any more."""

    keys: Sequence[TaskKey]


@dataclass(frozen=True, slots=True)
class PoolChanged:
    """The pool's numbers changed; `start_seconds` or `error` of a worker that started or could not, ever if `final`."""

    pool: str
    start_seconds: float = 0.0
    error: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a Tick then."""

    at: float


Action = StartWorker | StopWorker | Execute | Abort | FailToStart | GiveBack | TellAgain | Forget | PoolChanged | WakeAt
