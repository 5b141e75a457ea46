"""What the log says of the bytes of units: where they go, where they lie, and what was lost of them."""

from __future__ import annotations

from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.stored import Record


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


class Remade(Record, frozen=True):
    """Units were lost: these tasks are executed and these source parts are opened once more."""

    run: RunKey
    tasks: tuple[bytes, ...]
    parts: tuple[int, ...]


class RemakeDropped(Record, frozen=True):
    """What that task was to make again has come back."""

    run: RunKey
    task: bytes


UnitRecord = FetchPlaced | Fetched | Shared | Cleared | CopiesLost | Remade | RemakeDropped
