"""The session's promise: whatever the connection does, each payload arrives exactly once and in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.session.core import OutOfOrderError, Session

STEPS = st.lists(
    st.sampled_from(["push", "send", "deliver", "ack", "cut", "connect", "crash-sender", "crash-receiver"]),
    max_size=200,
)


class Ends:
    """A sender and a receiver with a connection that loses what is on it when it is cut.

    Both keep on disk what the real drivers keep: the sender its unacked payloads, the receiver the highest number.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.sender: Session[int] = Session(window=window)
        self.receiver: Session[int] = Session(window=window)
        self.connected = False
        self.on_the_way: list[tuple[int, int]] = []
        self.on_the_way_back: list[int] = []
        self.outbox: dict[int, int] = {}
        self.durably_received = 0
        self.pushed = 0
        self.arrived: list[int] = []

    def connect(self) -> None:
        self.sender.reconnected(self.durably_received)
        self.outbox = {seq: value for seq, value in self.outbox.items() if seq > self.durably_received}
        self.receiver.reconnected(0)
        self.connected = True

    def cut(self) -> None:
        self.sender.disconnected()
        self.receiver.disconnected()
        self.on_the_way.clear()
        self.on_the_way_back.clear()
        self.connected = False

    def push(self) -> None:
        self.pushed += 1
        self.outbox[self.sender.push(self.pushed)] = self.pushed

    def send(self) -> None:
        self.on_the_way += self.sender.ready()
        assert len(self.on_the_way) <= self.window

    def deliver(self) -> None:
        if self.on_the_way:
            seq, value = self.on_the_way.pop(0)
            if self.receiver.received(seq):
                self.arrived.append(value)
                self.durably_received = seq

    def ack(self) -> None:
        due = self.receiver.ack_due
        if self.connected and due is not None:
            self.receiver.ack_said(due)
            self.on_the_way_back.append(due)
        if self.on_the_way_back:
            for seq in self.sender.acked(self.on_the_way_back.pop(0)):
                del self.outbox[seq]

    def crash_sender(self) -> None:
        self.cut()
        self.sender = Session.restore(sorted(self.outbox.items()), self.pushed + 1, 0, window=self.window)

    def crash_receiver(self) -> None:
        self.cut()
        self.receiver = Session.restore([], 1, self.durably_received, window=self.window)

    def step(self, name: str) -> None:
        if name == "connect" and self.connected:
            return
        getattr(self, name.replace("-", "_"))()


@given(steps=STEPS, window=st.integers(1, 5))
def test_every_payload_arrives_exactly_once_and_in_order(steps: list[str], window: int) -> None:
    ends = Ends(window)
    for name in steps:
        ends.step(name)
        assert ends.arrived == list(range(1, len(ends.arrived) + 1))
    if not ends.connected:
        ends.connect()
    while len(ends.arrived) < ends.pushed or ends.outbox:
        before = (len(ends.arrived), len(ends.outbox), len(ends.on_the_way))
        ends.send()
        ends.deliver()
        ends.ack()
        assert (len(ends.arrived), len(ends.outbox), len(ends.on_the_way)) != before, "the session stands still"
    assert ends.arrived == list(range(1, ends.pushed + 1))
    assert ends.sender.unacked == 0


def test_nothing_is_sent_without_a_connection_or_beyond_the_credits() -> None:
    session: Session[str] = Session(window=10)
    for letter in "abcd":
        session.push(letter)
    assert session.ready() == []
    session.reconnected(0, credits=1)
    assert session.ready() == [(1, "a")]
    assert session.ready() == []
    session.credit(2)
    assert session.ready() == [(2, "b"), (3, "c")]


def test_a_gap_and_an_ack_of_what_was_never_sent_are_errors() -> None:
    session: Session[str] = Session()
    with pytest.raises(OutOfOrderError):
        session.received(2)
    with pytest.raises(OutOfOrderError):
        session.acked(1)


def test_an_ack_is_due_once_for_each_news_and_again_after_a_reconnection() -> None:
    session: Session[str] = Session()
    session.reconnected(0)
    assert session.ack_due is None
    session.received(1)
    assert session.ack_due == 1
    session.ack_said(1)
    assert session.ack_due is None
    session.reconnected(0)
    assert session.ack_due == 1
