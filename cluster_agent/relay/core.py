"""Who is connected to whom, pure: a relay's switchboard.

    Stood ─▶ the member can be called
    Dialled ─▶ Ring (its standing connection) ─ Answered ─▶ Connect the two ─ Parted ─▶ …
                                             ├─ Declined ─▶ Refuse
                                             └─ nothing in time (`due`, `late`) ─▶ Refuse

A connection is a number of the driver's. Whoever is refused is told why, and its connection is the driver's to close.
Whether two may speak to each other is for the called one to say, who knows the topology. The switchboard sees to it
that agents speak to agents and nodes to nodes, of another cluster each, and that no cluster takes more than its share.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cluster_agent.relay.messages import Code
from wire.identity import Identity, Role

_MEMBERS = (Role.AGENT, Role.NODE)


@dataclass(frozen=True)
class Limits:
    """What is the most. `seconds`: how long a called member has to answer."""

    connections: int = 2048  # that pass through at a time, the calls that wait among them
    of_a_cluster: int = 512  # of these, that a cluster takes part in
    standing: int = 16_384
    seconds: float = 10.0


@dataclass(frozen=True)
class Ring:
    """Tell the member at the other end of a standing connection that somebody calls."""

    connection: int
    token: bytes
    by: Identity


@dataclass(frozen=True)
class Connect:
    """Let the bytes of two connections pass."""

    caller: int
    called: int


@dataclass(frozen=True)
class Refuse:
    """Tell why, and close."""

    connection: int
    code: Code
    why: str


@dataclass(frozen=True)
class Hangup:
    """Close a standing connection: the member has a newer one."""

    connection: int


Action = Ring | Connect | Refuse | Hangup


@dataclass(frozen=True)
class _Call:
    connection: int
    by: Identity
    to: Identity
    deadline: float


@dataclass
class Switchboard:
    """All members that stand, calls that wait and pairs that speak."""

    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self._standing: dict[str, int] = {}  # by who it is, whichever certificate shows it
        self._calls: dict[bytes, _Call] = {}  # the one that waits longest first
        self._pairs: dict[int, tuple[Identity, Identity]] = {}  # by the caller's connection
        self._of: Counter[str] = Counter()  # calls and pairs, by cluster

    @property
    def standing(self) -> int:
        """How many members can be called."""
        return len(self._standing)

    @property
    def waiting(self) -> int:
        """How many calls have no answer yet."""
        return len(self._calls)

    @property
    def pairs(self) -> int:
        """How many pairs speak."""
        return len(self._pairs)

    @property
    def due(self) -> float | None:
        """When to call `late`, unless there are no calls any more."""
        return next((call.deadline for call in self._calls.values()), None)

    def stood(self, connection: int, member: Identity) -> list[Action]:
        """A member can be called here from now on; the newest of its connections is the one."""
        if member.role not in _MEMBERS:
            return [Refuse(connection, "forbidden", f"{member} is neither an agent nor a node")]
        former = self._standing.get(str(member))
        if former is None and len(self._standing) >= self.limits.standing:
            return [Refuse(connection, "busy", f"{self.limits.standing} members stand here already")]
        self._standing[str(member)] = connection
        return [] if former is None else [Hangup(former)]

    def left(self, connection: int, member: Identity) -> list[Action]:
        """A standing connection has ended. Calls that wait for it are refused at once."""
        if self._standing.get(str(member)) != connection:
            return []
        del self._standing[str(member)]
        lost = [token for token, call in self._calls.items() if str(call.to) == str(member)]
        return [self._refuse(token, "away", f"{member} went away") for token in lost]

    def dialled(self, connection: int, by: Identity, uri: str, token: bytes, now: float) -> list[Action]:
        """A member wants to speak to another. `token` is one that nobody can guess."""
        refused = self._judge(by, uri)
        if isinstance(refused, Identity):
            to = refused
            self._calls[token] = _Call(connection, by, to, now + self.limits.seconds)
            self._of.update((by.cluster, to.cluster))
            return [Ring(self._standing[str(to)], token, by)]
        return [Refuse(connection, *refused)]

    def answered(self, connection: int, member: Identity, token: bytes) -> list[Action]:
        """A called member is there."""
        call = self._calls.get(token)
        if call is None or str(call.to) != str(member):
            return [Refuse(connection, "gone", "nobody waits for this answer, or not any more")]
        del self._calls[token]
        self._pairs[call.connection] = (call.by, call.to)
        return [Connect(call.connection, connection)]

    def declined(self, member: Identity, token: bytes, why: str) -> list[Action]:
        """A called member won't come."""
        call = self._calls.get(token)
        return [self._refuse(token, "declined", why)] if call is not None and str(call.to) == str(member) else []

    def parted(self, connection: int) -> list[Action]:
        """A caller's connection has ended, whether it waited or spoke."""
        pair = self._pairs.pop(connection, None)
        if pair is None:
            token = next((token for token, call in self._calls.items() if call.connection == connection), None)
            if token is None:
                return []
            call = self._calls.pop(token)
            pair = call.by, call.to
        self._free(*pair)
        return []

    def late(self, now: float) -> list[Action]:
        """Refuse those whose called members have not answered in time."""
        late = [token for token, call in self._calls.items() if call.deadline <= now]
        return [self._refuse(token, "late", f"{self._calls[token].to} did not answer in time") for token in late]

    # ---------------------------------------------------------------------------------------------------- inside

    def _judge(self, by: Identity, uri: str) -> Identity | tuple[Code, str]:
        """Who is meant, or why not."""
        try:
            to = Identity.parse(uri)
        except ValueError as error:
            return "forbidden", str(error)
        if by.role not in _MEMBERS or to.role != by.role:
            return "forbidden", f"{by} may not speak to {to}: agents speak to agents, nodes to nodes"
        if by.cluster == to.cluster:
            return "forbidden", f"{by} and {to} are of one cluster, and need no relay"
        if str(to) not in self._standing:
            return "away", f"{to} is not connected to this relay"
        if len(self._calls) + len(self._pairs) >= self.limits.connections:
            return "busy", f"{self.limits.connections} connections pass through here already"
        for cluster in (by.cluster, to.cluster):
            if self._of[cluster] >= self.limits.of_a_cluster:
                return "busy", f"{cluster} takes part in {self.limits.of_a_cluster} connections already"
        return to

    def _refuse(self, token: bytes, code: Code, why: str) -> Refuse:
        call = self._calls.pop(token)
        self._free(call.by, call.to)
        return Refuse(call.connection, code, why)

    def _free(self, by: Identity, to: Identity) -> None:
        for cluster in (by.cluster, to.cluster):
            self._of[cluster] -= 1
            if not self._of[cluster]:
                del self._of[cluster]
