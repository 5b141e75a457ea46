"""Content that a node has found damaged in its store, by its scrubber or because somebody was to read it.

The node has dropped it by then. While the run goes on, that is a copy that is lost like any other: another one is used,
or the unit is fetched again, or made again from its lineage (see `mending`). Of a run that has ended only results are
kept, and nothing is left to make them of: they are taken from where else they lie (see `rescuing`), or are lost, and
the hub is told so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import caching
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import UnitsDamaged
from cluster_agent.coordinator.state import Task
from cluster_agent.coordinator.units import mending, records, rescuing
from cluster_agent.orders.messages import Frees
from wire.lines import CACHE


def on_damaged(book: Book, event: UnitsDamaged) -> None:
    """A node has dropped damaged content, which these units of a run had for theirs."""
    if event.run.run == CACHE:
        caching.spoilt(book, event.node, event.run.namespace, event.units)
        return
    live = book.lives.get(event.run)
    if live is None:
        return
    data: dict[str, object] = {
        "node": event.node,
        "units": list(event.units),
        "digest": event.digest.hex(),
        "bytes": event.size,
        "why": event.why,
    }
    book.publish(live, "unit.damaged", "", b"", data)
    known = live.run.units
    if event.shared:
        rescuing.forget(book, live, [known[unit] for unit in event.units if unit in known and known[unit].shared])
    lose(book, live, event.node, event.units)


def lose(book: Book, live: LiveRun, node: str, units: Iterable[bytes]) -> None:
    """A node has not got the right bytes of these, whatever is believed or remembered of it."""
    there = [unit for unit in units if live.has(unit, node)]
    lost = [unit for unit in there if unit in live.run.units]
    if stocked := tuple(unit for unit in there if unit not in live.run.units):
        book.commit(records.CopiesLost(live.key, node, stocked))
    if live.going:
        mending.lose(book, live, node, lost)
    elif lost:
        lose_results(book, live, node, lost)


def done_over(book: Book, live: LiveRun, task: Task, node: str) -> None:
    """A node is given a task that was done before. What it has of that it may soon have with other bytes, and if the
    run ends meanwhile nobody may hear of it: so it frees that now, before it hears of the task."""
    known = live.run.known.get(task.id)
    made = task.outputs if task.remake else [each.unit.id for each in known.outputs] if known is not None else []
    there = [unit for unit in made if live.has(unit, node)]
    if there:
        lose(book, live, node, there)
        book.tell(node, Frees(live.key.namespace, live.key.run, tuple(there)))


def lose_results(book: Book, live: LiveRun, node: str, units: Collection[bytes]) -> None:
    """A node has not got these units of a fragment that has ended: tell the hub what that means for its results."""
    book.commit(records.CopiesLost(live.key, node, tuple(units)))
    rescuing.tell(book, live, units, node)
    rescuing.bring_missing(book, live)
