"""The switchboard, for all orders of what may happen: nobody is counted who has gone, nobody waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from cluster_agent.relay.core import Action, Connect, Hangup, Limits, Refuse, Ring, Switchboard
from wire.identity import Identity, Role

MEMBERS = [Identity(Role.NODE, f"{cluster}/n1") for cluster in ("a", "b", "c")] + [Identity(Role.AGENT, "a")]
LIMITS = Limits(connections=4, of_a_cluster=3, standing=3, seconds=10.0)


class Model(RuleBasedStateMachine):
    """What a driver does, and what it knows of its connections."""

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.board = Switchboard(LIMITS)
        self.now = 0.0
        self.next = 0
        self.standing: dict[int, Identity] = {}
        self.waiting: dict[int, tuple[Identity, bytes]] = {}
        self.paired: set[int] = set()
        self.rung: dict[bytes, int] = {}

    def connection(self) -> int:
        self.next += 1
        return self.next

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Ring(connection, token, by):
                    assert self.standing[connection].role == by.role
                    assert self.standing[connection].cluster != by.cluster
                    self.rung[token] = connection
                case Connect(caller, _):
                    del self.waiting[caller]
                    self.paired.add(caller)
                case Hangup(connection):
                    self.do(self.board.left(connection, self.standing.pop(connection)))
                case Refuse(connection, _, why):
                    assert why
                    if connection in self.waiting:
                        del self.waiting[connection]
                        self.do(self.board.parted(connection))
                    self.standing.pop(connection, None)

    @rule(member=st.sampled_from(MEMBERS))
    def stand(self, member: Identity) -> None:
        number = self.connection()
        self.standing[number] = member
        self.do(self.board.stood(number, member))

    @rule(number=st.integers(0, 20))
    def leave(self, number: int) -> None:
        if number in self.standing:
            self.do(self.board.left(number, self.standing.pop(number)))

    @rule(target=tokens, by=st.sampled_from(MEMBERS), to=st.sampled_from([*MEMBERS, Identity(Role.HUB, "hub")]))
    def dial(self, by: Identity, to: Identity) -> bytes:
        number = self.connection()
        token = str(number).encode()
        self.waiting[number] = by, token
        self.do(self.board.dialled(number, by, to.uri, token, self.now))
        return token

    @rule(token=tokens, member=st.sampled_from(MEMBERS))
    def answer(self, token: bytes, member: Identity) -> None:
        (action,) = self.board.answered(self.connection(), member, token)
        if isinstance(action, Connect):
            assert self.rung.pop(token), "it was told of the call"
            self.do([action])

    @rule(token=tokens, member=st.sampled_from(MEMBERS))
    def decline(self, token: bytes, member: Identity) -> None:
        self.do(self.board.declined(member, token, "no"))

    @rule(number=st.integers(0, 20))
    def part(self, number: int) -> None:
        if number in self.waiting or number in self.paired:
            self.waiting.pop(number, None)
            self.paired.discard(number)
            self.do(self.board.parted(number))

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        due = self.board.due
        self.do(self.board.late(self.now))
        assert due is None or due > self.now or self.board.due != due

    @invariant()
    def the_two_agree(self) -> None:
        assert self.board.waiting == len(self.waiting)
        assert self.board.pairs == len(self.paired)
        assert self.board.standing == len(self.standing) <= LIMITS.standing
        assert len(self.waiting) + len(self.paired) <= LIMITS.connections
        assert (self.board.due is None) == (not self.waiting)
        assert all(count <= LIMITS.of_a_cluster for count in self.board._of.values())
        assert sum(self.board._of.values()) == 2 * (len(self.waiting) + len(self.paired))


TestSwitchboard = Model.TestCase


@given(st.text(max_size=80))
def test_no_text_is_taken_for_a_member_that_it_does_not_name(text: str) -> None:
    board = Switchboard()
    board.stood(1, MEMBERS[1])
    actions = board.dialled(2, MEMBERS[0], text, b"t", 0.0)
    assert isinstance(actions[0], Refuse) or text == MEMBERS[1].uri
