"""Crossing: each unit of the driving port makes a task with each unit of another, which is copied as a broadcast is.

A driving unit is consumed when the last of its tasks has committed, and counted once then; until that it is held for
all of them together. Tasks are made unit by unit as the ones before get done, so that two ports of some thousand units
do not become millions of tasks at once.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.tasks import grouping, records
from cluster_agent.coordinator.units.freeing import end_use

_AHEAD: Final = 1000  # tasks that may wait for a node before more are made


def cross_due(book: Book, live: LiveRun, step: Step) -> None:
    """Make tasks of the units that wait for it, as long as few wait for a node."""
    if step.crosses is None or step.driving is None or not live.run.steps[step.index].formed:
        return
    held = live.run.edges[step.driving.index].held
    with_each = max(1, len(live.run.edges[step.crosses.index].held))
    while held and len(live.ready[step.index]) < _AHEAD:
        first = tuple(islice(held, max(1, _AHEAD // with_each)))
        book.commit(records.Crossed(live.key, step.index, first))


def apply_crossed(book: Book, record: records.Crossed) -> None:
    """See records."""
    live = book.lives[record.run]
    step = live.graph.steps[record.step]
    assert step.driving is not None
    assert step.crosses is not None
    driving = live.run.edges[step.driving.index]
    others = sorted(live.run.edges[step.crosses.index].held)
    for unit in record.units:
        del driving.held[unit]
        if not others:
            _consume_unread(book, live, step, unit)
            continue
        driving.pairs[unit] = len(others)
        for other in others:
            given = {step.driving.index: [unit], step.crosses.index: [other]}
            inputs = [given.get(edge.index, []) for edge in step.inputs]
            live.make_ready(grouping.form(live, step, inputs, live.run.units[unit].origin))
    book.touch(live)


def _consume_unread(book: Book, live: LiveRun, step: Step, unit: bytes) -> None:
    """There is nothing that it could make a task with."""
    assert step.driving is not None
    state = live.run.steps[step.index]
    state.open -= 1
    grouping.add(state.consumed, step.driving.port, unit)
    end_use(book, live, step.driving, live.run.units[unit])
    live.check.add(step.index)


def whole(live: LiveRun, step: Step, unit: bytes) -> bool:
    """Count a task of a driving unit as committed: whether it was the last. Part of applying a record."""
    assert step.driving is not None
    pairs = live.run.edges[step.driving.index].pairs
    live.check.add(step.index)  # more may be made
    pairs[unit] -= 1
    if pairs[unit]:
        return False
    del pairs[unit]
    return True
