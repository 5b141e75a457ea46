"""What goes into the coordinator's core: events, which tell what nodes, peers, the hub and timers say.

    an event ─▶ `Coordinator.handle(event, now)` ─▶ `actions`

What coordinator and nodes say to each other for each task is in `cluster_agent.orders.messages`.

Units, steps and fragments are those of `bdw_fed.v1` in the core's own, faster form. Ids are raw bytes, sizes bytes,
times seconds of the monotonic clock.
"""

from __future__ import annotations

import msgspec

from cluster_agent.orders.messages import Output, Upward


class Struct(msgspec.Struct, frozen=True, array_like=True, tag=True, tag_field="struct", gc=False):
    """A message: compact, immutable, told apart from the others by its name."""


class RunKey(Struct, frozen=True, tag=False):
    """A run within its namespace."""

    namespace: str
    run: str


class Place(Struct, frozen=True, tag=False):
    """Where a unit's bytes can be had: a node of a cluster and its data server ("host:port", may be empty).

    `shared`: a place that several nodes or clusters reach, where they lie, too.
    """

    cluster: str
    node: str
    address: str = ""
    server_name: str = ""
    shared: str = ""

    @property
    def known(self) -> bool:
        """Whether the bytes can be asked for."""
        return bool(self.address or self.shared)


class FragmentAssigned(Struct, frozen=True):
    """The hub wants this fragment here: a serialised `bdw_fed.v1.Fragment`, and its DesiredState.

    `time_to_live`: while it is only to be reserved, seconds that its slots are held at most.
    """

    fragment: bytes
    desired: int
    time_to_live: float = 0.0


class DesiredChanged(Struct, frozen=True):
    """The hub (or a person at the agent) wants the run suspended, resumed, cancelled, finished or forgotten."""

    run: RunKey
    desired: int
    reason: str = ""


class NodeJoined(Struct, frozen=True):
    """A node daemon is connected. What it runs and holds is the truth; what we believed otherwise is dropped."""

    node: str
    incarnation: bytes
    cpus: float
    memory: int
    place: Place
    running: tuple[tuple[RunKey, bytes, int], ...] = ()  # run, task, attempt
    units: tuple[tuple[RunKey, bytes], ...] = ()
    fetching: tuple[tuple[RunKey, bytes], ...] = ()
    stream: int = 0  # tells the node's connections apart, since the agent's start
    cordoned: bool = False  # it takes no new tasks
    places: tuple[str, ...] = ()  # shared ones that it reaches
    shared: tuple[RunKey, ...] = ()  # runs of which it has put something into one, and not swept it since
    disk_free: int = 0
    disk_size: int = 0  # 0 = it has not told


class NodeChanged(Struct, frozen=True):
    """A node that has joined has other room for its workers now, or takes no new tasks (`cordoned`), or does again."""

    node: str
    cpus: float
    memory: int
    cordoned: bool


class DiskTold(Struct, frozen=True):
    """A node's store may take so many bytes more, of so many in all."""

    node: str
    free: int
    size: int


class NodeLost(Struct, frozen=True):
    """The node daemon's stream ended, or it stopped answering. `incarnation` guards against a late word."""

    node: str
    incarnation: bytes


class NodeSaid(Struct, frozen=True):
    """What a node says of its tasks: started, produced or results, many at a time."""

    node: str
    what: Upward


class UnitsDamaged(Struct, frozen=True):
    """A node has found content damaged, and has it no more; these units of the run had its bytes.

    `shared`: they lay in the bucket only, and that has not got them either.
    """

    node: str
    run: RunKey
    units: tuple[bytes, ...]
    digest: bytes = b""
    size: int = 0
    why: str = ""
    shared: bool = False


class PoolTold(Struct, frozen=True):
    """The workers of a pool on a node; `start_seconds` of one that came up, or why one could not (`error`).

    `full`: there is no place for another one for now. `final`: another one would fail in the same way there.
    """

    node: str
    definition: str
    starting: int
    idle: int
    busy: int
    start_seconds: float = 0.0
    error: str = ""
    full: bool = False
    final: bool = False


class SourceRead(Struct, frozen=True):
    """A dataset's part was opened on a node; or could not be (`error`).

    `asked`: in answer to an order to go on with its unit by itself; `followed`: it did.
    """

    node: str
    run: RunKey
    step: str
    index: int
    outputs: tuple[Output, ...] = ()
    error: str = ""
    asked: bool = False
    followed: bool = False
    epoch: int = 0  # of the fragment that it was opened for; 0: of whichever there is


class FetchEnded(Struct, frozen=True):
    """The bytes of a unit are on the node (no `error`), or are not. `gone`: the other side has them no more.

    `shared`: they came from the shared place that was named; `unshared`: that place did not give them.
    """

    node: str
    run: RunKey
    unit: bytes
    bytes: int = 0
    seconds: float = 0.0
    error: str = ""
    gone: bool = False
    shared: bool = False
    unshared: bool = False


class UnitsShared(Struct, frozen=True):
    """A node has put units into a shared place, after it had told of them."""

    node: str
    run: RunKey
    place: str
    units: tuple[bytes, ...]


class UnitsUnshared(Struct, frozen=True):
    """A node was to delete units in a shared place, or `all` of the run, and has; or it could not for now (`error`)."""

    node: str
    run: RunKey
    place: str
    units: tuple[bytes, ...]
    all: bool
    error: str = ""


class ContentsTaken(Struct, frozen=True):
    """Contents of the cache are the results of a task now, on that node (`found`), or are not all there."""

    node: str
    run: RunKey
    task: bytes
    found: bool


class ClearAsked(Struct, frozen=True):
    """Results in the cache are not wanted any more: of a step, or those older than so many seconds, or all.

    The answer under the number is a serialised `bdw_fed.v1.CachedSteps`: what was given up.
    """

    number: int
    namespace: str
    step: str
    age: float


class ClockRead(Struct, frozen=True):
    """What the wall clock shows: Unix time. Decides only how old what is cached is, and how long outputs are kept."""

    wall: float


class PushEnded(Struct, frozen=True):
    """A push to `address` ended; the receiver tells its own coordinator when the bytes are there.

    `gone`: the node has the unit no more, or other bytes under its name.
    """

    node: str
    run: RunKey
    unit: bytes
    address: str
    error: str = ""
    gone: bool = False


class PeerSaid(Struct, frozen=True):
    """A message of another cluster's coordinator: a serialised `bdw_fed.v1.PeerMessage`. Exactly once, in order."""

    cluster: str
    message: bytes


class PeerLoad(Struct, frozen=True):
    """How busy another cluster is: a serialised `bdw_fed.v1.Load`, of a coordinator with that log. May get lost."""

    cluster: str
    log_id: bytes
    load: bytes


class HubHeard(Struct, frozen=True):
    """There is a session with the hub."""


class HubGone(Struct, frozen=True):
    """There is none any more."""


class PeersKnown(Struct, frozen=True):
    """The hub's directory: a serialised `bdw_fed.v1.PeerDirectory`."""

    directory: bytes


class Tick(Struct, frozen=True):
    """The time that `WakeAt` asked for has come."""


Event = (
    FragmentAssigned
    | DesiredChanged
    | NodeJoined
    | NodeChanged
    | DiskTold
    | NodeLost
    | NodeSaid
    | PoolTold
    | SourceRead
    | FetchEnded
    | UnitsShared
    | UnitsUnshared
    | UnitsDamaged
    | PushEnded
    | ContentsTaken
    | ClearAsked
    | ClockRead
    | PeerSaid
    | PeerLoad
    | PeersKnown
    | HubHeard
    | HubGone
    | Tick
)
