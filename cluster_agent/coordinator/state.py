"""What the coordinator knows for good: every field here is changed by applying a record and by nothing else.

The structs encode themselves: a snapshot is the MessagePack of `State`. What can be derived (queues, counts, who runs
where) is kept apart in `live` and made again after a restart, so that a snapshot stays small and two equal states
give equal bytes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cluster_agent.coordinator.clusters.ways import EdgeState, Incoming, Push, Traffic
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.stored import Stored, Sum, decode_sum, encode_sum
from cluster_agent.orders.messages import Failure, Output, UnitInfo

VERSION: Final = 1

# Tasks.
READY: Final = 0  # may be placed on a node
ASSIGNED: Final = 1  # a node has it, or will as soon as its inputs are there
RETRYING: Final = 2  # an attempt ended badly, the next is due later
DONE: Final = 3

# Parts of a source.
PENDING: Final = 0
OPENING: Final = 1
OPENED: Final = 2

# Halves of reservations.
HELD: Final = 0
DENIED: Final = 1
EXPIRED: Final = 2  # its time to live is over


class Unit(Stored):
    """A unit that is or was on this cluster. `uses` counts what still needs it here; without any, its bytes go."""

    id: bytes
    digest: bytes
    size: int
    task: bytes
    origin: str
    generation: int
    name: str
    uses: int = 0
    copies: list[str] = []  # nodes
    sender: str = ""  # the cluster that granted it
    part: int = -1  # of which local source part it is
    kept: bool = False  # a result of the run
    released: tuple[int, ...] = ()  # edges on which its sender was told that we are done with it
    lineage: str = ""  # see tracing
    order: bytes = b""  # of its lineage, where a merge will ask for it: see tracing
    shared: str = ""  # the place that several nodes reach where it lies, too


class Task(Stored):
    """One execution of a step on one unit or group. `inputs`: unit ids per in port; side ports stay empty, see live."""

    id: bytes
    step: int
    inputs: list[list[bytes]]
    origin: str
    state: int = READY
    attempt: int = 0
    failed: int = 0  # attempts that count against the step's retries
    lost: int = 0  # attempts that don't
    node: str = ""
    outputs: list[bytes] = []
    remake: bool = False  # it was done; its outputs got lost
    failure: Failure | None = None
    surrendered: bool = False  # it failed, and the run goes on without its outputs
    parts: int = 0  # that a split per slot makes, from its first attempt on


class Part(Stored):
    """A part of a dataset that lies here."""

    step: int
    index: int
    path: str
    size: int
    state: int = PENDING
    node: str = ""
    failed: int = 0
    units: list[bytes] = []
    error: str = ""
    known: bool = False  # it was opened once: its units are counted
    follow: bool = False  # a node was asked to go on with its unit by itself, and may have done so


class KnownOutput(Stored):
    """A unit that a remembered task has made, and the nodes that still have it."""

    port: str
    index: int
    unit: UnitInfo
    copies: list[str]


class Known(Stored):
    """The result of a task before the run began again. It holds for inputs of that content. `parts` as of the task.

    `lacking`: units that the task has made besides, of which its cluster has not told yet.
    """

    inputs: bytes
    outputs: list[KnownOutput]
    parts: int = 0
    lacking: int = 0


class Report(Stored):
    """What one cluster has done of a step that we count."""

    consumed: dict[str, Sum] = {}
    produced: dict[str, Sum] = {}
    tasks: int = 0
    source_done: bool = False


class StepState(Stored):
    """One step on this cluster: sums for closing it, figures for people, and for its counter the others' reports."""

    consumed: dict[str, Sum] = {}
    produced: dict[str, Sum] = {}
    reports: dict[str, Report] = {}
    final: dict[str, dict[str, Sum]] = {}  # once closed: out port -> cluster -> units
    closed: bool = False
    formed: bool = False  # a gathering step's task exists; a paired step's side inputs are complete
    open: int = 0  # units delivered here whose consumption has not committed
    done: int = 0
    failed: int = 0
    busy: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    let_go: bool = False  # its side inputs are needed no more
    surrendered: int = 0  # of those that are done: without outputs, since they failed, or their condition did not hold
    reused: int = 0  # of those that are done: their results were known, so that they were not executed
    cached: int = 0  # of these: from a cache
    unmet: int = 0  # of those that are surrendered: the condition of their step did not hold

    @property
    def executed(self) -> int:
        """Tasks that were executed here, in `busy` seconds together."""
        return self.done - self.reused - self.unmet


class Mishap(Stored):
    """A failure as it is shown to people."""

    step: str
    task: bytes
    node: str
    attempt: int
    failure: Failure


class Run(Stored):
    """One run on this cluster."""

    key: RunKey
    fragment: bytes
    desired: int
    state: int
    steps: list[StepState]
    edges: list[EdgeState]
    parts: list[Part]
    units: dict[bytes, Unit] = {}
    tasks: dict[bytes, Task] = {}
    incoming: dict[bytes, Incoming] = {}
    pushes: dict[bytes, list[Push]] = {}
    traffic: dict[str, Traffic] = {}
    outputs: list[tuple[int, bytes]] = []
    failures: list[Mishap] = []
    failures_left_out: int = 0
    swept: bool = False  # all but its outputs was freed
    attempts_before: int = 0  # highest attempt of a task in the fragments that this one replaced
    known: dict[bytes, Known] = {}  # task -> its result in those fragments
    remembers: bool = False  # there was something known at the beginning
    bare: dict[bytes, None] = {}  # tasks that were recalled without all of their outputs' bytes: their inputs are held
    elapsed: float = 0.0  # seconds that it has gone on, as counted last
    makers: dict[bytes, Known] = {}  # tasks of other clusters whose units have come here: what they made
    orphans: list[int] = []  # steps that a cluster had a part in that was lost: others may know results of it
    over: float = 0.0  # Unix time when it was heard that the whole run has ended; 0: it has not


class Cached(Stored):
    """The result of a task, in the cache: contents that a node has under names that no run has."""

    namespace: str
    step: str  # its definition
    node: str
    executed: float  # Unix time
    outputs: list[Output]
    taken: int = 0  # times in place of a task of ours

    @property
    def size(self) -> int:
        """Bytes of its contents."""
        return sum(output.unit.size for output in self.outputs)


class Half(Stored):
    """The answer to an order to reserve, which the hub has neither committed nor taken back."""

    run: RunKey
    epoch: int
    state: int
    fragment: bytes  # while HELD
    reason: str  # why it is not


class Early(Stored):
    """What peers have said of a run, or of a newer plan of it, whose fragment has not come yet."""

    kept: dict[str, dict[str, bytes]] = {}  # cluster -> what each message is about -> the message, in their order
    refused: list[str] = []  # clusters that have said more than is kept
    count: int = 0  # messages so far
    revision: int = 0  # the newest that was spoken of


class Leftover(Stored):
    """What is to be deleted in a place that nodes share: units of a run; without any all of it."""

    run: RunKey
    place: str
    units: list[bytes] = []


class State(Stored):
    """Everything."""

    version: int = VERSION
    runs: dict[str, Run] = {}  # "namespace/run"
    directory: bytes = b""
    incarnations: dict[str, bytes] = {}  # node -> of its process, as last met
    early: dict[str, Early] = {}  # run -> what peers say of it, whose fragment has not come yet
    forgotten: dict[str, int] = {}  # run -> revision up to which it was forgotten
    halves: dict[str, Half] = {}
    denied: bool = False  # somebody was, and the hub was not told yet that there is more room
    alone: float = 0.0  # seconds without the hub, as counted last
    cached: dict[bytes, Cached] = {}  # key -> result, the one that was used last at the end
    leftovers: dict[str, Leftover] = {}  # "place namespace/run" -> what is to be deleted there


_encoder = msgspec.msgpack.Encoder(enc_hook=encode_sum)
_decoder = msgspec.msgpack.Decoder(State, dec_hook=decode_sum)


def encode(state: State) -> bytes:
    """The whole state; equal states give equal bytes."""
    return _encoder.encode(state)


def decode(snapshot: bytes) -> State:
    """The state of `encode`. ValueError for one of a later version, msgspec.DecodeError for bytes that are none."""
    version = msgspec.msgpack.decode(snapshot)[0]
    if version > VERSION:
        raise ValueError(
            f"the snapshot has version {version}, and this program understands up to {VERSION}: "
            "it was written by a newer release; start that one"
        )
    return _decoder.decode(snapshot)
