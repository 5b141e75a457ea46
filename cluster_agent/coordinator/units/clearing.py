"""What has to be deleted in a bucket that nodes share, and who is at it: outputs that have lain there for long enough.

    the time of outputs is over, or their run is forgotten ─▶ in the log ─▶ a node that reaches the place ─▶ Cleared

Most of what lies in shared places goes by a word that may get lost, since it is swept at the end of its run in any case
(see `sharing`). An output is there when its run has ended, perhaps when the node that put it there is gone; so what is
to become of it is remembered here until a node says that it is done. A place that is away is tried until it answers.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import NodeLost, RunKey, UnitsUnshared
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.state import Leftover, Unit
from cluster_agent.coordinator.units import records, shared
from cluster_agent.coordinator.units.errands import Clearing


def say(book: Book) -> None:
    """Tell nodes of what was not told to one that is there still."""
    for name in list(book.to_clear):
        del book.to_clear[name]
        left = book.state.leftovers.get(name)
        at = book.clearing.setdefault(name, Clearing())
        if left is None or _is_told(book, at):
            continue
        node = next((each for each in book.nodes.values() if each.connected and left.place in each.places), None)
        if node is not None:
            at.node, at.stream = node.name, node.stream
            book.tell(node.name, commands.clear(left.run, left.place, left.units, every=not left.units))


def joined(book: Book) -> None:
    """A node is there: it may reach what nobody else does."""
    book.to_clear.update(dict.fromkeys(book.state.leftovers))


def lost(book: Book, event: NodeLost) -> None:
    """A node has gone: what it was told others are told."""
    book.to_clear.update({name: None for name, at in book.clearing.items() if at.node == event.node})


def on_unshared(book: Book, event: UnitsUnshared) -> None:
    """A node has done it, or could not for now."""
    name = _name(event.place, event.run)
    at = book.clearing.get(name)
    left = book.state.leftovers.get(name)
    if left is None or bool(left.units) == event.all or at is None or at.node != event.node:
        return  # more has to go by now, as somebody was told
    at.node = ""
    if event.error:
        at.tries += 1
        book.wake(book.now + book.policy.wait(at.tries), "clear", name)
    else:
        book.commit(records.Cleared(event.run, event.place, event.units, event.all))
        book.to_clear[name] = None


def on_due(book: Book, name: str) -> None:
    """What a place did not do is tried again."""
    book.to_clear[name] = None


def _is_told(book: Book, at: Clearing) -> bool:
    node = book.nodes.get(at.node)
    return node is not None and node.connected and node.stream == at.stream


def _name(place: str, run: RunKey) -> str:
    return f"{place} {run.namespace}/{run.run}"


def leave(book: Book, live: LiveRun, unit: Unit) -> None:
    """An output is not needed any more: its copy in a bucket has to go. Part of applying a record."""
    if not shared.lasts(unit.shared):
        return
    name = _name(unit.shared, live.key)
    left = book.state.leftovers.get(name)
    if left is None:
        left = book.state.leftovers[name] = Leftover(live.key, unit.shared)
    left.units.append(unit.id)
    unit.shared = ""
    book.to_clear[name] = None


def leave_all(book: Book, live: LiveRun) -> None:
    """The run is forgotten: all that it has in buckets has to go. Part of applying a record."""
    places = {unit.shared for unit in live.run.units.values() if shared.lasts(unit.shared)}
    places |= {left.place for left in book.state.leftovers.values() if left.run == live.key}
    for place in sorted(places):
        name = _name(place, live.key)
        book.state.leftovers[name] = Leftover(live.key, place)
        book.clearing.pop(name, None)
        book.to_clear[name] = None


def begin(book: Book, run: RunKey) -> None:
    """A run of that name begins (again): what lies there is its own, and goes with it. Part of applying a record."""
    for name in [name for name, left in book.state.leftovers.items() if left.run == run]:
        _forget(book, name)


def apply_cleared(book: Book, record: records.Cleared) -> None:
    """See records."""
    name = _name(record.place, record.run)
    left = book.state.leftovers.get(name)
    if left is None:
        return
    gone = set(record.units)
    left.units = [unit for unit in left.units if unit not in gone]
    if not left.units:
        _forget(book, name)


def _forget(book: Book, name: str) -> None:
    del book.state.leftovers[name]
    book.clearing.pop(name, None)
