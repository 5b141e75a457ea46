"""The pure part: until when a lease is surely ours, and what a watch hands out."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from control_plane.store.etcd.core import Changes, CheckRevision, LeaseCore, Progress, Relist, Reopen, WatchCore
from control_plane.store.etcd.rpc import etcd_pb2 as rpc


@dataclass(frozen=True)
class Keepalive:
    """Sent `pause` after what came before, handled by etcd `there` later, its answer here `back` after that."""

    pause: float
    there: float
    back: float
    lost_there: bool
    lost_back: bool


seconds = st.floats(0, 15, allow_nan=False)
keepalives = st.lists(st.builds(Keepalive, seconds, seconds, seconds, st.booleans(), st.booleans()), max_size=12)


@given(
    ttl=st.integers(1, 30),
    granted=st.tuples(seconds, seconds),
    keepalives=keepalives,
    fast=st.floats(0.95, 1.05),
    looks=st.lists(st.floats(0, 400), max_size=20),
)
def test_a_lease_is_never_held_here_after_etcd_has_ended_it(
    ttl: int, granted: tuple[float, float], keepalives: list[Keepalive], fast: float, looks: list[float]
) -> None:
    """Whatever is late or lost, and though etcd's clock runs five percent fast: here it ends first."""
    there, back = granted
    end = there + ttl / fast  # of the lease at etcd, in our time
    core = LeaseCore(ttl, 0.0)
    now = there + back
    held_at: list[float] = []
    pending = sorted(looks)

    def look(until: float) -> None:
        while pending and pending[0] <= until:
            at = pending.pop(0)
            if not core.lost(at):
                held_at.append(at)

    look(now)
    for keepalive in keepalives:
        now += keepalive.pause
        look(now)
        core.sent(now)
        handled = now + keepalive.there
        alive = handled < end
        if not keepalive.lost_there and alive:
            end = handled + ttl / fast
        now = handled + keepalive.back
        look(now)
        if not keepalive.lost_there and not keepalive.lost_back:
            core.answered(ttl if alive else 0, now)
            assert alive or core.lost(now)
    look(1e9)
    assert all(at < end for at in held_at)
    assert core.deadline < end


def test_a_lease_answered_too_late_stays_lost() -> None:
    core = LeaseCore(10, 0.0)
    core.sent(3.0)
    assert not core.lost(8.9)
    assert core.lost(9.0)
    core.answered(10, 9.1)
    assert core.lost(9.2)


def test_a_lease_answered_in_time_is_prolonged_from_when_it_was_asked() -> None:
    core = LeaseCore(10, 0.0)
    core.sent(3.0)
    core.answered(10, 8.0)
    assert not core.lost(11.9)
    assert core.lost(12.0)


def test_a_lease_that_etcd_does_not_know_is_lost_at_once() -> None:
    core = LeaseCore(10, 0.0)
    core.sent(3.0)
    core.answered(0, 3.1)
    assert core.lost(3.1)


def test_keepalives_leave_room_for_another_endpoint() -> None:
    core = LeaseCore(9, 0.0)
    assert core.next_keepalive() == 3.0
    assert core.next_keepalive() + 3 * core.patience() < core.deadline


def event(revision: int, key: bytes = b"k") -> rpc.Event:
    return rpc.Event(kv=rpc.KeyValue(key=key, mod_revision=revision))


def response(revision: int, *events: int, fragment: bool = False, created: bool = False) -> rpc.WatchResponse:
    header = rpc.ResponseHeader(revision=revision)
    return rpc.WatchResponse(header=header, events=map(event, events), fragment=fragment, created=created)


def serve(data: st.DataObject, history: list[rpc.Event], start: int) -> list[rpc.WatchResponse]:
    """What a server sends: whole revisions, several of them in a batch, a batch perhaps in pieces."""
    newest = max((event.kv.mod_revision for event in history), default=1)
    rest = [event for event in history if event.kv.mod_revision >= start]
    messages = [rpc.WatchResponse(header=rpc.ResponseHeader(revision=newest), created=True)]
    while rest:
        revisions = sorted({event.kv.mod_revision for event in rest})[: data.draw(st.integers(1, 4))]
        batch = [event for event in rest if event.kv.mod_revision in revisions]
        rest = rest[len(batch) :]
        cuts = sorted(data.draw(st.sets(st.integers(1, max(len(batch) - 1, 1)), max_size=2)))
        pieces = [piece for a, b in zip([0, *cuts], [*cuts, len(batch)], strict=True) if (piece := batch[a:b])]
        messages += [
            rpc.WatchResponse(
                header=rpc.ResponseHeader(revision=newest), events=piece, fragment=piece is not pieces[-1]
            )
            for piece in pieces
        ]
    return messages


numbers = st.lists(st.integers(2, 40), max_size=30).map(sorted)  # several events may share a revision


@given(st.data())
def test_a_watch_hands_out_every_event_once_whatever_breaks(data: st.DataObject) -> None:
    history = [event(revision, b"%d" % n) for n, revision in enumerate(data.draw(numbers))]
    core = WatchCore(1)
    handed_out: list[rpc.Event] = []
    for length in [*data.draw(st.lists(st.integers(0, 6), max_size=6)), 10_000]:
        for message in serve(data, history, core.opened())[:length]:
            outcome = core.received(message)
            assert outcome is None or isinstance(outcome, Changes)
            if outcome is not None:
                handed_out += outcome.events
                assert outcome.revision == handed_out[-1].kv.mod_revision == core.next - 1
    assert handed_out == history


@given(st.data())
def test_a_server_that_forgets_what_it_has_shown_is_found_out(data: st.DataObject) -> None:
    """Each restart loses the newest revisions, and others take their numbers: in the end the consumer knows the truth.

    What a list has shown is taken to be on the disk before the next crash.
    """
    history: list[rpc.Event] = []
    durable = 1
    core = WatchCore(1)
    known: list[rpc.Event] = []
    for restart in range(data.draw(st.integers(1, 5))):
        kept = max(data.draw(st.integers(1, 40)), durable)
        history = [event for event in history if event.kv.mod_revision <= kept]
        newest = max((event.kv.mod_revision for event in history), default=1)
        more = [number for number in data.draw(numbers) if number > newest]
        history += [event(number, b"%d-%d" % (restart, n)) for n, number in enumerate(more)]
        newest = max((event.kv.mod_revision for event in history), default=1)
        messages = serve(data, history, core.opened())
        while messages:
            outcome = core.received(messages.pop(0))
            if isinstance(outcome, Changes):
                known += outcome.events
            elif isinstance(outcome, Relist) or (isinstance(outcome, CheckRevision) and newest < outcome.delivered):
                known, durable = list(history), newest
                core.relisted(newest)
                messages = serve(data, history, core.opened())
    assert known == history


def test_a_watch_that_is_catching_up_goes_on_after_its_events_not_after_the_header() -> None:
    core = WatchCore(5)
    assert isinstance(core.received(response(100, 5, 6)), Changes)
    assert core.next == 7


def test_what_a_server_repeats_is_dropped() -> None:
    core = WatchCore(5)
    core.received(response(6, 5, 6))
    assert core.received(response(6, 5, 6)) is None
    assert core.received(response(5)) is None
    repeated = core.received(response(7, 6, 7))
    assert isinstance(repeated, Changes)
    assert [event.kv.mod_revision for event in repeated.events] == [7]


def test_a_stream_that_goes_on_repeats_the_last_revision_word_for_word() -> None:
    core = WatchCore(5)
    core.received(response(6, 5, 6, 6))
    assert core.opened() == 6
    assert core.received(response(6, 6, 6)) is None
    assert core.opened() == 6
    assert isinstance(core.received(response(7, 6, 6, 7)), Changes)
    assert core.opened() == 7
    assert core.received(response(8, 8)) == Relist()
    assert core.opened() == 7
    assert core.received(response(8)) == Relist()


def test_progress_moves_the_point_to_go_on_from() -> None:
    core = WatchCore(5)
    assert core.received(response(90)) == Progress(90)
    assert core.opened() == 91


def test_a_compaction_asks_for_a_list_and_another_end_for_a_new_stream() -> None:
    core = WatchCore(5)
    assert core.received(rpc.WatchResponse(created=True, canceled=True, compact_revision=9)) == Relist()
    core.relisted(20)
    assert core.opened() == 21
    assert core.received(rpc.WatchResponse(canceled=True, cancel_reason="no leader")) == Reopen("no leader")


def test_a_member_that_is_behind_is_looked_into() -> None:
    core = WatchCore(5)
    assert core.received(response(4, created=True)) is None
    assert core.received(response(3, created=True)) == CheckRevision(4)
