"""How many bytes of disk tasks take: measured in this run, else guessed from what they read. Pure questions.

A task takes its outputs, and inputs that are brought to its node for it. It gives back the inputs that nothing else
needs, once it is done. So whether a task makes the store fuller or emptier is known before it begins; `ahead` is what a
unit that comes out of it needs on its way on, so that it never gets stuck half way for want of the space for that.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final, NamedTuple

from cluster_agent.coordinator.clusters.ways import OFFERED, QUEUED
from cluster_agent.coordinator.fragment import SPLIT, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import DONE, Task, Unit

_PARTS: Final = 16  # that a split is taken to make, before it has made any
_DOUBT: Final = 16  # a task may make so many times as much as it reads
_NOT_GRANTED: Final = (QUEUED, OFFERED)


class Likely(NamedTuple):
    """Bytes that a task writes: for certain, as is expected, and at most."""

    certain: int
    expected: int
    most: int


def promised(live: LiveRun, task: Task, node: str) -> int:
    """What is set aside on a node for a task that it is given: more than a guess, so that few begin before one ends."""
    return writes(live, task) * (_DOUBT if is_guess(live, task) else 1) + brought(live, task, node)


def follows(live: LiveRun, step: Step) -> int:
    """What a node is expected to write that goes on by itself after a task of the step, as far as it may."""
    if not step.follow:
        return 0
    state = live.run.steps[step.index]
    units = -(-_made(live, step) // state.done) if state.done else 1
    found = 0
    for edge in step.follow.values():
        guessed = not live.run.steps[edge.consumer.index].done
        found += _typical(live, edge.consumer, {}) * (_DOUBT if guessed else 1) + follows(live, edge.consumer)
    return found * units


def takes(live: LiveRun, task: Task, node: str) -> int:
    """What a task is expected to take of a node's disk until it is done."""
    return writes(live, task) + brought(live, task, node)


def writes(live: LiveRun, task: Task) -> int:
    """Bytes that the task is expected to write. A split takes none at once: it waits while its disk is short."""
    need = live.needs.get(task.id) if live.needs else None
    usual = _usual(live, task)
    return max(usual, need.size) if need is not None else usual


def is_guess(live: LiveRun, task: Task) -> bool:
    """No task of the step has been done yet, and this one has not met a full disk."""
    return not live.run.steps[task.step].done and task.id not in live.needs


def likely(live: LiveRun, task: Task) -> Likely:
    """What a task writes, going by others alone: it may have met a full disk for what lay there besides."""
    usual, seen = _usual(live, task), live.run.steps[task.step].done > 0
    return Likely(usual if seen else 0, usual, usual if seen else usual * _DOUBT)


def _usual(live: LiveRun, task: Task) -> int:
    step = live.graph.steps[task.step]
    if step.kind == SPLIT:
        return 0
    state = live.run.steps[step.index]
    return state.bytes_out // state.done if state.done else sum(unit.size for unit in _inputs(live, task))


def brought(live: LiveRun, task: Task, node: str) -> int:
    """Bytes of the task's inputs that are not on the node yet."""
    return sum(unit.size for unit in _inputs(live, task) if node not in unit.copies)


def gives_back(live: LiveRun, task: Task, makers: Container[bytes] = ()) -> int:
    """Bytes of the task's inputs that go when it is done. The files of datasets are not ours to remove.

    What these `makers` have made is not counted: they make more of it at once.
    """
    step = live.graph.steps[task.step]
    units = live.run.units
    found = 0
    for edge, ids in zip(step.inputs, task.inputs, strict=True):
        if not edge.side and step.crosses is None:
            ours = [unit for each in ids if (unit := units[each]).uses == 1 and unit.part < 0]
            found += sum(unit.size for unit in ours if unit.task not in makers)
    return found


def _inputs(live: LiveRun, task: Task) -> Iterator[Unit]:
    units = live.run.units
    for ids in live.inputs(task):
        for unit in ids:
            yield units[unit]


def ahead(live: LiveRun, step: Step) -> int:
    """Bytes that one unit needs behind this step: what a task of each of those that are executed here writes, and what
    comes back for it from other clusters."""
    typical: dict[int, int] = {}
    found = 0
    seen = {step.index}
    stack = [step]
    while stack:
        for consumer in stack.pop().consumers:
            if consumer.index not in seen:
                seen.add(consumer.index)
                stack.append(consumer)
                if consumer.placed and consumer.here:  # of a split's parts the next are made when there is room
                    of = _unit if consumer.kind == SPLIT else _typical
                    found += of(live, consumer, typical)
                    away = [each for each in consumer.producers if not each.here]
                    found += max((_unit(live, each, typical) for each in away), default=0)
    return found


def is_at_work(live: LiveRun) -> bool:
    """Whether anything of the run is being done that may give space back.

    A split waits where it must, and what is stranded until somebody has made its input again.
    """
    steps = live.graph.steps
    at_work = sum(count for index, count in enumerate(live.assigned) if steps[index].kind != SPLIT)
    return at_work > 0 and at_work > sum(steps[live.run.tasks[task].step].kind != SPLIT for task in stranded(live))


def stranded(live: LiveRun) -> set[bytes]:
    """Tasks that nodes have, and of which an input is on no node any more: it has to be made again first."""
    units = live.run.units
    return {
        task
        for fetch in live.fetches.values()
        if not (fetch.said or fetch.crossing or units[fetch.unit].copies or units[fetch.unit].shared)
        for task in fetch.tasks
    }


def waits_behind(live: LiveRun, task: Task) -> bool:
    """Whether a later task of the run is still to be done."""
    return any(other.step > task.step and other.state != DONE for other in live.run.tasks.values())


def is_missed(live: LiveRun, task: Task) -> bool:
    """Whether others can't go on without what the task makes: it was done, or somebody waits for a unit of it."""
    if task.remake or live.graph.steps[task.step].kind != SPLIT:  # what else was not done has made nothing yet
        return task.remake
    units = live.run.units
    return any(units[unit].task == task.id for unit in _awaited(live))


def _awaited(live: LiveRun) -> Iterator[bytes]:
    """Units that have no bytes, and for which tasks wait here, or other clusters to which they were granted."""
    yield from live.parked
    units = live.run.units
    yield from (unit for unit, _ in live.fetches if not units[unit].copies)
    for _, unit, out in live.ways_out() if live.owed else ():
        if out.state not in _NOT_GRANTED and not units[unit].copies:
            yield unit


def part(live: LiveRun, step: Step) -> int:
    """Bytes of a part that a split makes: as of those that it has made, else of its input."""
    return max(1, _unit(live, step, {}))


def mean(live: LiveRun, step: Step, guess: int) -> int:
    """Bytes that a task of the step has written in the mean; `guess`, as long as none has ended."""
    state = live.run.steps[step.index]
    return state.bytes_out // state.done if state.done else guess


def _typical(live: LiveRun, step: Step, known: dict[int, int]) -> int:
    """What a task of the step writes; of one that was never executed: what it reads of each port."""
    found = known.get(step.index)
    if found is not None:
        return found
    state = live.run.steps[step.index]
    if state.done:
        found = state.bytes_out // state.done
    else:
        found = max((_unit(live, producer, known) for producer in step.producers), default=0)
    known[step.index] = found
    return found


def _unit(live: LiveRun, step: Step, known: dict[int, int]) -> int:
    """What a unit that the step makes has."""
    state = live.run.steps[step.index]
    made = _made(live, step)
    if made:
        return state.bytes_out // made
    return _typical(live, step, known) // (_PARTS if step.kind == SPLIT else 1)


def _made(live: LiveRun, step: Step) -> int:
    """Units that the step has made here. How many of them for which cluster is counted beside (see meeting)."""
    produced = live.run.steps[step.index].produced
    return sum(produced[port].count for port in {*step.ports} & produced.keys())
