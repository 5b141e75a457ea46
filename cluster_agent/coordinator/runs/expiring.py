"""How long the outputs of a run are kept after its end (`retain`): then they are freed here, hub or no hub.

    FINISHED or RETAINED is heard ─▶ the wall clock's time is in the log ─▶ each output's time is over ─▶ OutputsExpired

The time counts from when this cluster hears that the run has ended, so it is never shorter than what was promised. It
is that of the wall clock, as people count it in days: it goes on while the agent is down, and what is due then goes
once it is back. An output of two names stays until both are over; so do others' units of the same bytes, which have
names of their own. What a run that has not succeeded retains as a whole (see `retaining`) stays until that is over.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.runs import records, retaining
from cluster_agent.coordinator.units import clearing, freeing

_LOOK_SECONDS: Final = 600.0  # a wall clock may be set, so it is looked at now and then


def begin(book: Book, live: LiveRun) -> None:
    """The run has ended, as was just heard and logged."""
    _wake(book, live, _left(book, live))


def resume(book: Book, live: LiveRun) -> None:
    """After a restart: look as soon as it is known what the wall clock shows."""
    if _left(book, live) is not None:
        _wake(book, live, 0.0)


def on_due(book: Book, run: RunKey, epoch: int) -> None:
    """The time of some outputs may be over."""
    live = book.lives.get(run)
    if live is None or live.graph.epoch != epoch:
        return
    over = [each for each in live.run.outputs if (due := _due(live, each[0])) is not None and due <= book.wall]
    if over and live.run.swept:
        names = Counter(live.graph.steps[step].name.removeprefix("outputs.") for step, _ in over)
        book.commit(records.OutputsExpired(live.key, tuple(over)))
        book.publish(live, "outputs.expired", "", b"", {"units": dict(names)})
    _wake(book, live, _LOOK_SECONDS if not live.run.swept else _left(book, live))


def _due(live: LiveRun, step: int) -> float | None:
    """When the time of an output's units is over, as Unix time; None: not before the run is forgotten."""
    retain = live.graph.steps[step].retain
    return live.run.over + retain if live.run.over and retain else None


def _left(book: Book, live: LiveRun) -> float | None:
    """Seconds until the next output is due."""
    dues = [due for step in {step for step, _ in live.run.outputs} if (due := _due(live, step)) is not None]
    return max(0.0, min(dues) - book.wall) if dues else None


def _wake(book: Book, live: LiveRun, seconds: float | None) -> None:
    if seconds is not None:
        book.wake(book.now + min(seconds, _LOOK_SECONDS), "expiring", live.key, live.graph.epoch)


def note_end(live: LiveRun, desired: int, at: float) -> None:
    """The run is wanted so, as was logged then: if that means that it has ended, its outputs' time begins. Part of
    applying a record."""
    if desired in (retaining.WANT_FINISHED, retaining.WANT_RETAINED) and not live.run.over:
        live.run.over = at


def apply_expired(book: Book, record: records.OutputsExpired) -> None:
    """See records."""
    live = book.lives[record.run]
    gone = set(record.outputs)
    live.run.outputs = [each for each in live.run.outputs if each not in gone]
    left = {unit for _, unit in live.run.outputs}
    for unit_id in {unit: None for _, unit in record.outputs if unit not in left}:
        unit = live.run.units.pop(unit_id)
        live.rescues.pop(unit_id, None)
        clearing.leave(book, live, unit)
        freeing.free(book, live, unit)
