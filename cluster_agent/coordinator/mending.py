"""Units whose bytes got lost: they are made again from what survives, or the run fails and says what is missing.

A unit that another cluster granted is asked for again there, which keeps it until we release it. One that was made here
is made again by its task, or its part of a source is opened again; where that task's own inputs are gone too, they are
mended first. What another cluster has released is gone for good.
"""

from __future__ import annotations

from collections.abc import Iterable

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator import records
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import Fetch, LiveRun
from cluster_agent.coordinator.state import Unit


def mend(book: Book, live: LiveRun, units: Iterable[bytes]) -> None:
    """Make units again that are needed and of which no copy is left."""


def not_there(book: Book, live: LiveRun, unit: Unit, fetch: Fetch) -> None:
    """The other end of a fetch says that it has not got the unit."""


def found_again(book: Book, live: LiveRun, unit: Unit) -> None:
    """Another cluster says where a unit can be had that is ours already."""


def on_unavailable(book: Book, live: LiveRun, cluster: str, message: peer_pb2.Unavailable) -> None:
    """The other end of a crossing has lost a unit."""


def apply_copies_lost(book: Book, record: records.CopiesLost) -> None:
    """See records."""
    live = book.lives[record.run]
    for unit_id in record.units:
        unit = live.run.units[unit_id]
        if record.node in unit.copies:
            unit.copies.remove(record.node)
    book.touch(live)


def apply_remade(book: Book, record: records.Remade) -> None:
    """See records."""
