"""What the log says of tasks: how they form, what became of their attempts, and when a step has no more of them."""

from __future__ import annotations

from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.stored import Record
from cluster_agent.orders.messages import Failure, Output


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


TaskRecord = (
    PartPlaced
    | PartOpened
    | PartFailed
    | Produced
    | Committed
    | AttemptEnded
    | Surrendered
    | SidesComplete
    | Gathered
    | Batched
    | Crossed
    | Met
    | Reported
    | Closed
)
