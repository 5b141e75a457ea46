"""What coordinator and node daemon say to each other for each task, many at a time.

There may be ten thousand of these a second, so they are msgpack arrays within the stream's protobuf envelope
(`AttachResponse.orders`, `AttachRequest.results`), decoded straight into the structs that both cores use. What is said
once a run, and all that is rare, stays protobuf. Both ends are of one release and come in one image; the hello names
the version of this format, and an agent refuses a node that speaks another.

    coordinator ── Work, Orders, Acks, Frees ──▶ node daemon ── Started, Produced, Results ──▶ coordinator

A `Work` says once a stream what all tasks of a step of a run have in common; orders refer to it by its number. Where
a work names `follow`, the node may go on by itself: when a task of it has succeeded, each unit on that port becomes a
task of the work that follows, on the same node, without waiting for the coordinator. Its result says so (`followed`),
and the coordinator, as it commits that result, takes those tasks as given to the node with attempt 1.

Ids are raw bytes, sizes bytes, times seconds.
"""

from __future__ import annotations

from typing import Final

import msgspec

VERSION: Final = 4
SMALL: Final = 16 << 10
"""Bytes up to which a unit's content is kept in the node's journal, and has no file of its own."""
UNMET: Final = "unmet"
"""The kind of failure of a task that was not executed: the condition of its step does not hold."""


class Struct(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of a message."""


class UnitInfo(Struct, frozen=True):
    """One piece of data: 16 bytes of id, 32 bytes of BLAKE3, its size, the task that made it, its origin cluster."""

    id: bytes
    digest: bytes
    size: int
    task: bytes = b""
    origin: str = ""
    generation: int = 0
    name: str = ""
    lineage: str = ""  # between clusters, where units are zipped: see the coordinator's `tracing`
    order: bytes = b""  # of its lineage; between clusters only


class Output(Struct, frozen=True):
    """A unit that a task put on one of its ports; `index` counts within the port.

    `place`: the shared place that it was put into, too, before it was told.
    """

    port: str
    index: int
    unit: UnitInfo
    place: str = ""


class Failure(Struct, frozen=True):
    """Why an attempt failed. `kind` is one of the kinds named in the contract's Failure."""

    kind: str
    message: str
    detail: str = ""
    code: int = 0  # a program's or a worker's exit code, where there is one


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True, tag_field="struct", gc=False):
    """One thing that is said."""


# ------------------------------------------------------------------------------------------- coordinator to node


class Work(Message, frozen=True):
    """What all tasks of one step of a run have in common. Said on each stream before the first order that names it.

    `start` is a serialised `bdw_fed.v1.StartTask` in which the key names namespace and run only, and each of `inputs`
    port, format, form and `many` only. `follow`: (out port, number of the work that its units are given to), see the
    module.
    A number means the same work as long as the coordinator lives.
    """

    number: int
    start: bytes
    follow: tuple[tuple[str, int], ...] = ()


class Order(Struct, frozen=True):
    """Execute a task: for each input of its work, the units, all of which are in the node's store.

    `parts`: how many a split makes that is to make one for each slot. `leave`: bytes of the disk that a split leaves
    free, waiting where they are less; 0 = it need not. `most`: bytes of its parts that may lie in the store at once,
    one part at least; with more it waits; 0 = any number.
    """

    task: bytes
    attempt: int
    inputs: tuple[tuple[UnitInfo, ...], ...]
    parts: int = 0
    leave: int = 0
    most: int = 0


class Orders(Message, frozen=True):
    """Execute these, in this order."""

    work: int
    orders: tuple[Order, ...]


class Acks(Message, frozen=True):
    """The results of these attempts are in the coordinator's log."""

    namespace: str
    run: str
    tasks: tuple[tuple[bytes, int], ...]


class Frees(Message, frozen=True):
    """These units are not needed on the node any more."""

    namespace: str
    run: str
    units: tuple[bytes, ...]


class Hold(Message, frozen=True):
    """Whether the node must no longer go on by itself in this run: it is being suspended or cancelled (or resumed)."""

    namespace: str
    run: str
    held: bool


class Window(Message, frozen=True):
    """A split that is under way: from now on it may have so many bytes of its parts in the store; 0 = any number."""

    namespace: str
    run: str
    task: bytes
    attempt: int
    most: int


Downward = Work | Orders | Acks | Frees | Hold | Window

# ------------------------------------------------------------------------------------------- node to coordinator


class Started(Message, frozen=True):
    """Tasks that a worker has taken and that did not end at once; what ends at once is only told as a result."""

    namespace: str
    run: str
    tasks: tuple[tuple[bytes, int], ...]


class Produced(Message, frozen=True):
    """Units of a task that still runs."""

    namespace: str
    run: str
    task: bytes
    attempt: int
    outputs: tuple[Output, ...]


class Result(Struct, frozen=True):
    """How an attempt ended; repeated after a reconnection until it is acknowledged.

    `outputs` are all of its units, also those told before, none if it failed. `seconds` it was executed, after
    `queued` on the node of which `starting` passed with the start of a worker.
    """

    task: bytes
    attempt: int
    outputs: tuple[Output, ...] = ()
    failure: Failure | None = None
    seconds: float = 0.0
    queued: float = 0.0
    starting: float = 0.0
    peak_memory: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    followed: bool = False  # the node has gone on with all outputs on ports that its work's `follow` names


class Results(Message, frozen=True):
    """Results of one run, in the order in which they came to be."""

    namespace: str
    run: str
    results: tuple[Result, ...]


Upward = Started | Produced | Results

_encoder: Final = msgspec.msgpack.Encoder()
_downward: Final = msgspec.msgpack.Decoder(list[Downward])
_upward: Final = msgspec.msgpack.Decoder(list[Upward])


def encode(messages: list[Downward] | list[Upward]) -> bytes:
    """As they travel in one envelope."""
    return _encoder.encode(messages)


def decode_downward(data: bytes) -> list[Downward]:
    """What the coordinator says. msgspec.DecodeError."""
    return _downward.decode(data)


def decode_upward(data: bytes) -> list[Upward]:
    """What a node says. msgspec.DecodeError."""
    return _upward.decode(data)
