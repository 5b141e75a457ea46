"""Where units' bytes lie on this cluster, and how many bytes a run and a namespace have stored by that.

Every change of a unit's copies passes here, so that quotas cost nothing to look up. Each copy counts, also that of an
output of a run that has ended. Files of datasets don't: they are not ours. Part of applying records.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.space.bounds import stored_by
from cluster_agent.coordinator.state import KnownOutput, Unit


def put(book: Book, live: LiveRun, unit: Unit, node: str) -> None:
    """The unit is on a node, too."""
    unit.copies.append(node)
    if unit.part < 0:  # what `_count` does, but this is done for each unit
        live.stored += unit.size
        book.lives.stored[live.key.namespace] += unit.size
        if live.windows and (window := live.windows.get(unit.task)) is not None:
            window.stored += unit.size


def take(book: Book, live: LiveRun, unit: Unit, node: str) -> None:
    """The unit is not on a node any more."""
    unit.copies.remove(node)
    if unit.part < 0:
        _count(book, live, unit, -unit.size)


def clear(book: Book, live: LiveRun, unit: Unit) -> None:
    """The unit is on no node any more. To be said before its size changes."""
    if unit.copies and unit.part < 0:
        _count(book, live, unit, -unit.size * len(unit.copies))
    unit.copies.clear()


def take_known(book: Book, live: LiveRun, output: KnownOutput, node: str) -> None:
    """What is remembered is not on a node any more."""
    output.copies.remove(node)
    _add(book, live, -output.unit.size)


def clear_known(book: Book, live: LiveRun, output: KnownOutput) -> None:
    """What is remembered is on no node any more."""
    _add(book, live, -output.unit.size * len(output.copies))
    output.copies = []


def adopt(book: Book, live: LiveRun, unit: Unit, output: KnownOutput) -> None:
    """What is remembered is the unit's from now on."""
    clear(book, live, unit)
    unit.copies, output.copies = output.copies, []


def recount(book: Book, live: LiveRun) -> None:
    """Much was dropped at once."""
    _add(book, live, stored_by(live.run) - live.stored)


def _count(book: Book, live: LiveRun, unit: Unit, by: int) -> None:
    live.stored += by
    book.lives.stored[live.key.namespace] += by
    if live.windows and (window := live.windows.get(unit.task)) is not None:
        window.stored += by


def _add(book: Book, live: LiveRun, by: int) -> None:
    live.stored += by
    book.lives.stored[live.key.namespace] += by
