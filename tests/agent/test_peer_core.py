"""Two coordinators' session: each message arrives once and in order, whatever paths, relay and processes do."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from bdw_fed.v1.peer_pb2 import Offer, PeerFrame, PeerMessage
from cluster_agent.peer.core import RELAY, Peering
from tests.settings import examples


def message(text: str) -> bytes:
    return PeerMessage(namespace="default", run=text, offer=Offer(edge="e")).SerializeToString()


def text(body: bytes) -> str:
    return PeerMessage.FromString(body).run


@dataclass
class Side:
    """An agent as far as its peer session goes: the session, and what would be in its log."""

    name: str
    log_id: bytes
    window: int = 4
    outbox: deque[tuple[int, bytes]] = field(default_factory=deque)
    next_seq: int = 1
    known: tuple[bytes, int] | None = None
    arrived: list[str] = field(default_factory=list)
    queue: list[tuple[bytes, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.queue.clear()
        self.session = Peering(
            self.name,
            self.log_id,
            outbox=list(self.outbox),
            next_seq=self.next_seq,
            known=self.known,
            window=self.window,
            frame_bytes=60,
        )

    def say(self, what: str) -> None:
        self.outbox.append((self.next_seq, message(what)))
        self.session.pushed([(self.next_seq, message(what))])
        self.next_seq += 1

    def hear(self, path: int, frame: PeerFrame) -> None:
        heard = self.session.heard(path, frame)
        self.queue += [(self.session.log_id, seq, text(body)) for seq, body in heard.messages]
        if heard.acked is not None:
            while self.outbox and self.outbox[0][0] <= heard.acked:
                self.outbox.popleft()
        if heard.renumber is not None:
            self.outbox = deque((heard.renumber + i, body) for i, (_, body) in enumerate(self.outbox))
            self.next_seq = heard.renumber + len(self.outbox)
            self.session.renumbered(list(self.outbox), self.next_seq)

    def commit(self) -> None:
        for log_id, seq, what in self.queue:
            self.arrived.append(what)
            self.known = (log_id, seq)
            self.session.durable(log_id, seq)
        self.queue.clear()


class Net:
    """Streams that lose nothing while they live, and a relay that may lose and delay."""

    def __init__(self) -> None:
        self.sides = (Side("a", b"A"), Side("b", b"B"))
        self.paths = 0
        self.stream: tuple[deque[PeerFrame], deque[PeerFrame]] | None = None
        self.relay: tuple[deque[PeerFrame], deque[PeerFrame]] = (deque(), deque())  # to a, to b
        self.now = 0.0

    def flush(self) -> None:
        for index, side in enumerate(self.sides):
            for path, frame in side.session.flush(self.now):
                if path == RELAY:
                    self.relay[1 - index].append(frame)
                elif self.stream is not None and path == self.paths:
                    self.stream[1 - index].append(frame)

    def open(self) -> None:
        self.cut()
        self.paths += 1
        self.stream = (deque(), deque())
        self.sides[0].session.opened(self.paths)

    def cut(self) -> None:
        if self.stream is not None:
            self.stream = None
            for side in self.sides:
                side.session.closed(self.paths)

    def link(self, index: int, up: bool) -> None:
        side = self.sides[index]
        if up:
            side.session.relay_up()
        else:
            side.session.relay_down()

    def deliver(self, index: int) -> bool:
        """The next frame of the stream to this side."""
        if self.stream is None or not self.stream[index]:
            return False
        self.sides[index].hear(self.paths, self.stream[index].popleft())
        return True

    def deliver_relayed(self, index: int) -> bool:
        if not self.relay[index]:
            return False
        self.sides[index].hear(RELAY, self.relay[index].popleft())
        return True

    def drop_relayed(self, index: int) -> None:
        if self.relay[index]:
            self.relay[index].popleft()

    def swap_relayed(self, index: int) -> None:
        self.relay[index].rotate(1)

    def restart(self, index: int) -> None:
        self.cut()
        self.sides[index].start()

    def settle(self) -> None:
        """Everything that can happen without anybody's doing, until nothing does."""
        for _ in range(10_000):
            self.flush()
            moved = False
            for index, side in enumerate(self.sides):
                while self.deliver(index) or self.deliver_relayed(index):
                    moved = True
                if side.queue:
                    side.commit()
                    moved = True
            self.flush()
            if not moved and not any(self.relay) and not (self.stream and any(self.stream)):
                due = [side.session.due for side in self.sides if side.session.due is not None]
                if not due:
                    return
                self.now = max(due)
                for side in self.sides:
                    side.session.overdue(self.now)
        raise AssertionError("the two never come to rest")


ACTIONS = st.tuples(
    st.sampled_from(
        "say say say commit open cut up down deliver deliver relayed relayed drop swap restart overdue flush".split()  # noqa: SIM905
    ),
    st.integers(0, 1),
)


@settings(max_examples=examples(300))
@given(st.lists(ACTIONS, max_size=60), st.booleans())
def test_each_message_arrives_once_and_in_order(actions: list[tuple[str, int]], by_stream: bool) -> None:
    net = Net()
    said: tuple[list[str], list[str]] = ([], [])
    for number, (action, index) in enumerate(actions):
        match action:
            case "say":
                said[index].append(f"{number}")
                net.sides[index].say(f"{number}")
            case "commit":
                net.sides[index].commit()
            case "open":
                net.open()
            case "cut":
                net.cut()
            case "up" | "down":
                net.link(index, action == "up")
            case "deliver":
                net.deliver(index)
            case "relayed":
                net.deliver_relayed(index)
            case "drop":
                net.drop_relayed(index)
            case "swap":
                net.swap_relayed(index)
            case "restart":
                net.restart(index)
            case "overdue":
                net.now += 40
                net.sides[index].session.overdue(net.now)
            case "flush":
                pass
        if action != "say":
            net.flush()
    if by_stream:
        net.open()
    else:
        net.cut()
        net.link(0, True)
        net.link(1, True)
    net.settle()
    assert net.sides[1].arrived == said[0]
    assert net.sides[0].arrived == said[1]
    assert not net.sides[0].session.unacked
    assert not net.sides[1].session.unacked


def connected() -> Net:
    net = Net()
    net.open()
    net.settle()
    return net


def test_what_is_ready_goes_in_few_frames_with_a_bound() -> None:
    net = connected()
    net.sides[0].session._frame_bytes = 64 * 1024
    net.sides[0].session._session._window = 1000
    for number in range(100):
        net.sides[0].say(f"{number}")
    (frame,) = (frame for _, frame in net.sides[0].session.flush(0.0))
    assert len(frame.messages) == 100


def test_nothing_is_acked_before_it_is_durable() -> None:
    net = connected()
    net.sides[0].say("x")
    net.flush()
    net.deliver(1)
    net.flush()
    assert net.stream is not None
    assert not net.stream[0]
    net.sides[1].commit()
    net.flush()
    (frame,) = net.stream[0]
    assert frame.ack == 1


def test_an_ack_rides_on_a_message_that_goes_anyway() -> None:
    net = connected()
    net.sides[0].say("x")
    net.flush()
    net.deliver(1)
    net.sides[1].commit()
    net.sides[1].say("y")
    (frame,) = (frame for _, frame in net.sides[1].session.flush(0.0))
    assert (frame.ack, frame.seq) == (1, 1)


def test_a_peer_whose_state_is_new_gets_what_it_has_not_acked_and_what_follows() -> None:
    net = connected()
    net.sides[0].say("old")
    net.settle()
    net.cut()
    net.sides[0].say("waits")
    lost = net.sides[1]
    fresh = Side("b", b"B2")
    net.sides = (net.sides[0], fresh)
    net.open()
    net.settle()
    assert lost.arrived == ["old"]
    assert fresh.arrived == ["waits"]
    fresh.say("hello")
    net.settle()
    assert net.sides[0].arrived == ["hello"]


def test_late_words_of_a_peers_former_life_are_not_heard() -> None:
    net = connected()
    net.sides[1].say("former")
    net.flush()
    assert net.stream is not None
    late = net.stream[0].popleft()
    net.cut()
    net.sides = (net.sides[0], Side("b", b"B2"))
    net.open()
    net.settle()
    net.sides[0].hear(RELAY, late)
    net.settle()
    assert net.sides[0].arrived == []
    assert net.sides[0].session.log_id == b"B2"


def test_a_log_that_lost_its_end_numbers_on_from_what_the_peer_knows() -> None:
    """The machine of `a` went down under `process` durability: its log has forgotten what it had sent."""
    net = connected()
    for what in "123":
        net.sides[0].say(what)
    net.settle()
    net.cut()
    set_back = Side("a", b"A", outbox=deque([(2, message("2 again"))]), next_seq=3, known=net.sides[0].known)
    net.sides = (set_back, net.sides[1])
    net.open()
    net.settle()
    set_back.say("4")
    net.settle()
    assert net.sides[1].arrived == ["1", "2", "3", "2 again", "4"]


def test_a_log_that_lost_its_end_goes_on_after_what_the_peer_can_still_send() -> None:
    net = connected()
    for what in "123":
        net.sides[1].say(what)
    net.settle()
    net.cut()
    set_back = Side("a", b"A", known=(b"B", 1))
    net.sides = (set_back, net.sides[1])
    net.open()
    net.settle()
    net.sides[1].say("4")
    net.settle()
    assert set_back.arrived == ["4"]


def test_the_relay_is_left_alone_while_a_stream_serves() -> None:
    net = connected()
    net.link(0, True)
    net.link(1, True)
    net.sides[0].say("x")
    net.settle()
    assert net.sides[1].arrived == ["x"]
    assert not any(net.relay)
