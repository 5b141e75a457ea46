"""Reserving a fragment's slots before its run starts: the agent's part of the two phases.

    hub ── assignment, wanted RESERVED ──▶ is there room beside all claims? ── reserved, or denied and why ──▶ hub
    hub ── the same, wanted RUNNING ─────▶ committed: the fragment is taken, and claims its slots until it ends
    hub ── removed ──────────────────────▶ the half is gone

What is answered is in the log before it is said. A half is held for the time to live that came with its order and not
a moment longer; nor does it outlive a restart. A commit that comes after that is the hub's word all the same: nobody
else was promised the room meanwhile, since the hub reserves for one run at a time where clusters overlap, and the
slots are the run's as soon as whoever uses them has ended.

Who was denied is not kept waiting here; but when there is more room than before, the hub is told that it is worth
asking again, once for all that were denied.
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import control_plane_pb2, federation_pb2, model_pb2
from cluster_agent.coordinator import reading
from cluster_agent.coordinator.actions import SendHub
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import FragmentAssigned, RunKey
from cluster_agent.coordinator.nodes import holding
from cluster_agent.coordinator.nodes.claims import RESERVING, Claim, claim_of, in_words
from cluster_agent.coordinator.runs import records
from cluster_agent.coordinator.state import DENIED, EXPIRED, HELD, Half
from topology.packing import Taken

WANT_RESERVED: Final = int(model_pb2.DESIRED_STATE_RESERVED)


# ---------------------------------------------------------------------------------------------------- the two phases


def on_order(book: Book, proto: model_pb2.Fragment, event: FragmentAssigned) -> None:
    """The hub wants the slots of this fragment reserved. The same order again gets the same answer."""
    key = RunKey(proto.namespace, proto.run)
    live = book.lives.get(key)
    if live is not None and (live.going or proto.epoch <= live.graph.epoch):
        return  # committed already
    half = book.state.halves.get(_name(key))
    if half is None or half.epoch < proto.epoch:
        reason = _denial(book, event.fragment)
        state = DENIED if reason else HELD
        kept = b"" if reason else event.fragment
        book.commit(records.Reserved(key, proto.epoch, state, kept, reason))
        half = book.state.halves[_name(key)]
        if state == HELD:
            book.wake(book.now + event.time_to_live, "half", key, proto.epoch)
    if half.epoch == proto.epoch:
        _say(book, half)


def on_half_due(book: Book, run: RunKey, epoch: int) -> None:
    """A half has been held for its time to live."""
    half = book.state.halves.get(_name(run))
    if half is not None and half.epoch == epoch and half.state == HELD:
        book.commit(records.HalfExpired(run))


def forget(book: Book, run: RunKey) -> None:
    """The hub wants nothing of this run any more."""
    if _name(run) in book.state.halves:
        book.commit(records.HalfDropped(run))


def resume(book: Book) -> None:
    """After a restart: what runs claim is theirs, and halves are over."""
    book.claims.clear()
    for live in book.lives.going.values():
        claim(book, live)
    for half in list(book.state.halves.values()):
        if half.state == HELD:
            book.commit(records.HalfExpired(half.run))
    book.room_grew = True


def say_freed(book: Book) -> None:
    """At the end of a batch: if there is more room than when somebody was denied, the hub is told so."""
    if book.room_grew and book.state.denied:
        book.commit(records.FreedSaid())
        book.actions.append(SendHub("freed", federation_pb2.SlotsFreed().SerializeToString()))
    book.room_grew = False


def _say(book: Book, half: Half) -> None:
    answer = federation_pb2.ReservationAnswer(
        namespace=half.run.namespace,
        run=half.run.run,
        epoch=half.epoch,
        reserved=half.state == HELD,
        reason=half.reason,
    )
    book.actions.append(SendHub("reservation", answer.SerializeToString()))


def _denial(book: Book, serialised: bytes) -> str:
    """Why the slots can't be held, in words; empty if they can."""
    try:
        graph = reading.read(serialised, book.cluster)
    except ValueError as error:
        return f"the fragment for {book.cluster} can't be executed: {error}"
    wanted = claim_of(graph, half=True)
    if wanted.steps and not any(node.connected for node in book.nodes.values()):
        return f"no node of {book.cluster} is there"
    taken = holding.found(book, wanted)
    if holding.is_whole(wanted, taken):
        return ""
    holders = [
        f"run {other.run.run} holds {slots}"
        for other in book.claims.values()
        if other.run != wanted.run and (slots := in_words((each.name, len(each.nodes)) for each in other.steps))
    ]
    return f"{book.cluster} lacks slots for {_lacking(wanted, taken)}: {'; '.join(holders) or 'it has no more nodes'}"


def _lacking(wanted: Claim, taken: Taken) -> str:
    slots = in_words(
        (each.name, each.want.most - len(nodes)) for each, nodes in zip(wanted.steps, taken.slots, strict=True)
    )
    return slots or in_words((wanted.steps[index].name, 1) for index in taken.lacking)


# ------------------------------------------------------------------------------------------------- applying records


def apply_reserved(book: Book, record: records.Reserved) -> None:
    """See records."""
    holding.drop(book, record.run)
    half = Half(record.run, record.epoch, record.state, record.fragment, record.reason)
    book.state.halves[_name(record.run)] = half
    if record.state == HELD:
        holding.add(book, claim_of(reading.read(record.fragment, book.cluster), half=True))
    else:
        book.state.denied = True


def apply_half_expired(book: Book, record: records.HalfExpired) -> None:
    """See records."""
    half = book.state.halves[_name(record.run)]
    half.state = EXPIRED
    half.fragment = b""
    half.reason = f"{book.cluster} has held the slots for their time to live, and no commit came"
    holding.drop(book, record.run)


def apply_half_dropped(book: Book, record: records.HalfDropped) -> None:
    """See records."""
    del book.state.halves[_name(record.run)]
    holding.drop(book, record.run)


def apply_freed_said(book: Book, _record: records.FreedSaid) -> None:
    """See records."""
    book.state.denied = False


def claim(book: Book, live: LiveRun) -> None:
    """The run's fragment was taken, and claims its slots as long as it goes on. Part of applying a record."""
    book.state.halves.pop(_name(live.key), None)
    if live.graph.reserve in RESERVING:
        holding.add(book, claim_of(live.graph, half=False))
    else:
        holding.drop(book, live.key)


# ------------------------------------------------------------------------------------------------- what people are told


def reserved(book: Book) -> list[control_plane_pb2.HeldSlots]:
    """What all runs hold, use and lend here."""
    return [
        control_plane_pb2.HeldSlots(
            namespace=each.run.namespace,
            run=each.run.run,
            step=step.name,
            held=slots,
            used=used,
            lent=lent,
            half=each.half,
        )
        for each in book.claims.values()
        for step, slots, used, lent in holding.figures(book, each)
        if slots
    ]


def orders(book: Book) -> list[tuple[str, str, int, int]]:
    """(namespace, run, epoch, desired) of the orders to reserve that were answered and are not over."""
    return [
        (half.run.namespace, half.run.run, half.epoch, WANT_RESERVED)
        for half in book.state.halves.values()
        if half.run not in book.lives
    ]


def _name(run: RunKey) -> str:
    return f"{run.namespace}/{run.run}"
