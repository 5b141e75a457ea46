"""How long this cluster has been without the hub, and the runs whose policy stops their part here after so long.

The time is counted on the monotonic clock while the agent lives, and kept in the log now and then, so that what is left
of it survives a restart. It begins anew whenever the hub is heard. Runs without `stop_after` go on however long it is,
and where there are no others nothing is written.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import HubGone, HubHeard
from cluster_agent.coordinator.runs import records
from cluster_agent.coordinator.runs.ending import fail
from cluster_agent.orders.messages import Failure

_KEPT_OFTEN: Final = 20.0  # times within a run's stop_after that the count is written
_LEAST_PAUSE: Final = 1.0


def on_gone(book: Book, _event: HubGone) -> None:
    """The session with the hub has ended."""
    if book.alone_since is None:
        book.alone_since = book.now
        _wake(book)


def on_heard(book: Book, _event: HubHeard) -> None:
    """There is a session with the hub."""
    book.alone_since = None
    if book.state.alone:
        book.commit(records.AloneCounted(0.0))


def resume(book: Book) -> None:
    """After a restart: there is no hub before it is heard, and the count goes on where it was."""
    book.alone_since = book.now
    _wake(book)


def on_due(book: Book, since: float) -> None:
    """It is time to write the count, or to stop what must be."""
    if book.alone_since != since:
        return
    waiting = _waiting(book)
    if not waiting:
        return
    elapsed = book.state.alone + book.now - since
    book.commit(records.AloneCounted(elapsed))
    book.alone_since = book.now
    for live in waiting:
        if live.graph.stop_after <= elapsed:
            why = f"{book.cluster} has stopped its part {live.graph.stop_after:g} s after it lost the hub (stop_after)"
            fail(book, live, Failure("stopped", why))
    _wake(book)


def _waiting(book: Book) -> list[LiveRun]:
    return [live for live in book.lives.going.values() if live.graph.stop_after]


def _wake(book: Book) -> None:
    pauses = [
        min(live.graph.stop_after - book.state.alone, max(_LEAST_PAUSE, live.graph.stop_after / _KEPT_OFTEN))
        for live in _waiting(book)
    ]
    if pauses and book.alone_since is not None:
        book.wake(book.now + max(0.0, min(pauses)), "alone", book.alone_since)


def apply_counted(book: Book, record: records.AloneCounted) -> None:
    """See records."""
    book.state.alone = record.seconds
