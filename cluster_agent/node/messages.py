"""What goes into a node's core and what comes out of it: see `core`."""

from __future__ import annotations

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
    RUNNING = auto()
    DONE = auto()


@dataclass(frozen=True)
class PoolSpec:
    """The workers of one step version. `key` tells versions apart; `cpus` and `memory` (bytes) are a task's."""

    key: str
    definition: str
    cpus: float = 1.0
    memory: int = 0


# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True)
class TaskWanted:
    """The coordinator gave this node a task; `pool` is None for the built-in kinds."""

    key: TaskKey
    pool: PoolSpec | None


@dataclass(frozen=True)
class TaskCancelled:
    """The task is not wanted any more."""

    key: TaskKey


@dataclass(frozen=True)
class TaskEnded:
    """The executor has finished with a task that it was told to execute; the result is with the executor."""

    key: TaskKey
    worker_usable: bool = True


@dataclass(frozen=True)
class ResultsAcked:
    """The coordinator has these results."""

    keys: tuple[TaskKey, ...]


@dataclass(frozen=True)
class RunEnded:
    """Nothing of the run is wanted any more."""

    namespace: str
    run: str


@dataclass(frozen=True)
class PoolSized:
    """Keep so many workers of the pool."""

    pool: PoolSpec
    workers: int


@dataclass(frozen=True)
class WorkerReady:
    """A worker that was to be started is up, after so many seconds."""

    worker: int
    seconds: float


@dataclass(frozen=True)
class WorkerFailed:
    """A worker could not start."""

    worker: int
    error: str


@dataclass(frozen=True)
class WorkerGone:
    """An idle worker died."""

    worker: int


@dataclass(frozen=True)
class Tick:
    """The time that `WakeAt` named has come."""


Event = (
    TaskWanted
    | TaskCancelled
    | TaskEnded
    | ResultsAcked
    | RunEnded
    | PoolSized
    | WorkerReady
    | WorkerFailed
    | WorkerGone
    | Tick
)

# --------------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class StartWorker:
    """Start a worker; say WorkerReady or WorkerFailed."""

    worker: int
    pool: PoolSpec


@dataclass(frozen=True)
class StopWorker:
    """Stop an idle worker."""

    worker: int


@dataclass(frozen=True)
class Execute:
    """Execute the task, in this worker (None: built in); say TaskEnded. The seconds are for the coordinator to know."""

    key: TaskKey
    worker: int | None
    queued_seconds: float
    start_seconds: float


@dataclass(frozen=True)
class Abort:
    """Kill a task that was told to be executed; TaskEnded follows all the same."""

    key: TaskKey


@dataclass(frozen=True)
class FailToStart:
    """The task failed, because no worker could be started for it."""

    key: TaskKey
    error: str


@dataclass(frozen=True)
class TellAgain:
    """The coordinator asked for a task whose result it has not acknowledged."""

    key: TaskKey


@dataclass(frozen=True)
class Forget:
    """The result is not needed any more."""

    key: TaskKey


@dataclass(frozen=True)
class PoolChanged:
    """The pool's numbers changed; `start_seconds` or `error` of a worker that started or could not."""

    pool: str
    start_seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class WakeAt:
    """Send a Tick then."""

    at: float


Action = StartWorker | StopWorker | Execute | Abort | FailToStart | TellAgain | Forget | PoolChanged | WakeAt
