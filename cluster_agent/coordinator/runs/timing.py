"""How long a run has gone on here, where its policy gives it an end.

It is counted on the monotonic clock, not while the run is suspended, and kept in the log now and then, so that what is
left survives a restart and a new plan. A crash loses what was not kept yet: a fiftieth of the whole at most.
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.runs import records

_KEPT_OFTEN: Final = 50.0  # times within a run's timeout that the count is written
_LEAST_PAUSE: Final = 1.0
_SUSPENDED: Final = int(model_pb2.DESIRED_STATE_SUSPENDED)


def begin(book: Book, live: LiveRun) -> None:
    """The run's time counts from now on; nothing happens if it does, or has no end."""
    if live.counted_since is None and live.graph.timeout and live.going and live.run.desired != _SUSPENDED:
        live.counted_since = book.now
        _wake(book, live)


def hold(book: Book, live: LiveRun) -> None:
    """The run is suspended, or ends: its time is kept, and does not count until it `begin`s again."""
    if live.counted_since is not None:
        keep(book, live)
        live.counted_since = None


def keep(book: Book, live: LiveRun) -> None:
    """Write the count down."""
    assert live.counted_since is not None
    book.commit(records.RunTimed(live.key, live.run.elapsed + book.now - live.counted_since))


def _wake(book: Book, live: LiveRun) -> None:
    limit = live.graph.timeout
    pause = min(limit - live.run.elapsed, max(_LEAST_PAUSE, limit / _KEPT_OFTEN))
    book.wake(book.now + max(0.0, pause), "run-time", live.key, live.counted_since)


def apply_timed(book: Book, record: records.RunTimed) -> None:
    """See records."""
    book.lives[record.run].run.elapsed = record.seconds
