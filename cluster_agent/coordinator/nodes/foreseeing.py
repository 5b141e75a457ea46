"""What will come to the steps of a run here, put together for the look-ahead of the pools.

A look costs a few microseconds a step, so a run has looks to spend: some at once, then one each few milliseconds; what
stirs it when it has none left is looked at then.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import EACH, SOURCE, SPLIT, TASK, Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.state import OPENED
from cluster_agent.pools.ahead import Arriving, Feed, Stage, look_ahead

_LOOKS: Final = 4
_AGAIN: Final = 0.01  # seconds to the next
_AGAIN_STEP: Final = 0.0005  # and more for each step of the run
_OPENING: Final = 0.01  # seconds to open a part of a source


def look(book: Book, live: LiveRun) -> list[int]:
    """Look ahead if it is time to; the steps to which something else will come than was thought."""
    pace = _AGAIN + _AGAIN_STEP * len(live.graph.steps)
    spent = max(live.looks_until, book.now) + pace
    if spent > book.now + _LOOKS * pace:
        if not live.look_asked:
            live.look_asked = True
            book.wake(book.now + pace, "look", live.key)
        return []
    live.looks_until = spent
    nothing: list[Arriving | None] = [None] * len(live.graph.steps)
    found = look_ahead(_stages(book, live), book.now) if live.dispatching else nothing
    former, live.arriving = live.arriving or nothing, found
    return [index for index, (was, now) in enumerate(zip(former, found, strict=True)) if was != now]


def on_due(book: Book, run: RunKey) -> None:
    """A run was stirred after it had been looked at."""
    live = book.lives.get(run)
    if live is not None:
        live.look_asked = False
        book.stirred[live, 0] = None


def _stages(book: Book, live: LiveRun) -> list[Stage]:
    since: dict[int, float] = {}
    for task_id, started in live.started.items():
        step = live.run.tasks[task_id].step
        since[step] = min(started, since.get(step, started))
    entering: dict[int, int] = {}
    for fetch in live.fetches.values():
        incoming = live.run.incoming.get(fetch.unit) if fetch.crossing else None
        if incoming is not None:
            for edge in incoming.edges:
                consumer = live.graph.edges[edge].consumer.index
                entering[consumer] = entering.get(consumer, 0) + 1
    stages = [_stage(book, live, step) for step in live.graph.steps]
    for index, stage in enumerate(stages):
        stage.running_since = since.get(index, book.now)
        stage.entering = entering.get(index, 0)
    return stages


def _stage(book: Book, live: LiveRun, step: Step) -> Stage:
    state = live.run.steps[step.index]
    if not step.here or state.closed:
        return Stage(0, 0, None, 0.0, 1.0)
    stage = Stage(len(live.ready[step.index]), live.assigned[step.index], None, 0.0, 1.0)
    if step.kind == SOURCE:
        stage.queued = sum(part.step == step.index and part.state != OPENED for part in live.run.parts)
        stage.service = _OPENING
    elif step.kind == TASK:
        stage.service = book.pools.service_seconds(step.definition)
        stage.start = 0.0 if book.pools.warm(step.definition) else book.pools.start_seconds(step.definition)
        stage.slots = _slots(book, step)
    elif step.kind == SPLIT and state.executed:
        stage.service = state.busy / state.executed
    for port, edges in step.outs.items():
        made = state.produced.get(port)
        units = made.count / state.done if made is not None and state.done else 1.0
        stage.feeds.extend(_feed(live, edge, units) for edge in edges if edge.consumer.here)
    return stage


def _slots(book: Book, step: Step) -> float:
    """Tasks of the step that the cluster's nodes execute at a time."""
    slots = sum(int(node.cpus / step.cpus + 1e-9) for node in book.nodes.values() if node.open)
    return float(max(1, min(slots, step.pool_max) if step.pool_max else slots))


def _feed(live: LiveRun, edge: Edge, units: float) -> Feed:
    consumer = edge.consumer
    if edge.pairing == EACH:
        at_once = edge.batch.count or 1 if edge.batch is not None else 1
        return Feed(consumer.index, units * _share(live, consumer) / at_once)
    if edge.side:
        return Feed(consumer.index, 0.0, waits=True)
    if edge.meets:
        return Feed(consumer.index, units * _share(live, consumer), waits=True)
    return Feed(consumer.index, 1.0 if consumer.executors[0] == live.graph.cluster else 0.0, waits=True)


def _share(live: LiveRun, step: Step) -> float:
    """Which part of the units that are made here stay here, by the plan."""
    if step.pinned or len(step.executors) == 1:
        return 1.0
    total = sum(step.shares.values())
    return step.shares.get(live.graph.cluster, 0.0) / total if total > 0 else 1.0
