"""Which units lie in shared places, as the state has it; what is done with that is in `sharing`.

A unit lies in one such place at most: what it was put into last. A copy that nobody needs is gathered for deletion.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import Unit
from cluster_agent.coordinator.units import records

_LASTING: Final = "s3://"


def lasts(place: str) -> bool:
    """Whether what lies in a place stays there until it is deleted: a bucket keeps it, a Redis need not."""
    return place.startswith(_LASTING)


def put(book: Book, live: LiveRun, unit: Unit, place: str) -> None:
    """A unit lies in a place as it is now. Part of applying a record."""
    if unit.shared and unit.shared != place:
        book.unshare(unit.shared, live.key, unit.id)
    unit.shared = place
    if place and not unit.uses:
        drop(book, live, unit)


def drop(book: Book, live: LiveRun, unit: Unit) -> None:
    """The unit's copy in a place is not needed any more. Part of applying a record."""
    if unit.shared:
        book.unshare(unit.shared, live.key, unit.id)
        unit.shared = ""


def apply_shared(book: Book, record: records.Shared) -> None:
    """See records."""
    live = book.lives[record.run]
    for unit in record.units:
        put(book, live, live.run.units[unit], record.place)
