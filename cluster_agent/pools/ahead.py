"""What will come to the steps of a run: how many units, when the first, and how many a second, seen along the DAG.

    queued, running ─▶ tasks that will end ── × units a task ─▶ arriving at the next step ─▶ and so on

Every step passes on what it has and what will come to it, at the speed at which it works. So a step far behind learns
when its first unit can be there, and its first worker is started one start-up time before that. Pure; what a look
costs is linear in the steps and edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_UNMEASURED: Final = 1.0  # seconds a task takes, for comparing one unmeasured step with another


@dataclass(slots=True, frozen=True)
class Arriving:
    """Units on their way to a step: how many, the first at this time at the earliest, and then so many a second."""

    count: float
    first: float
    rate: float


@dataclass(slots=True)
class Feed:
    """An edge to a later stage: units for each task.

    A consumer that `waits` begins when all have come: with one task of them all, or, with `units` 0, with what comes to
    it on other edges.
    """

    consumer: int
    units: float
    waits: bool = False


@dataclass(slots=True)
class Stage:
    """A step as it is now. `service` None: no task of it was measured yet. `start`: seconds until it can begin."""

    queued: int
    running: int
    service: float | None
    start: float
    slots: float
    running_since: float = 0.0
    entering: int = 0  # units on their way from another cluster
    feeds: list[Feed] = field(default_factory=list)


@dataclass(slots=True)
class _Flow:
    """What comes to a stage, being added up."""

    count: float = 0.0
    first: float = float("inf")
    rate: float = 0.0
    not_before: float = 0.0
    gathered: bool = False


def look_ahead(stages: Sequence[Stage], now: float) -> list[Arriving | None]:
    """What comes to each stage; None where nothing will. Each stage feeds only later ones."""
    flows = [_Flow() for _ in stages]
    found: list[Arriving | None] = []
    for stage, flow in zip(stages, flows, strict=True):
        if stage.entering:
            flow.count += stage.entering
            flow.first = min(flow.first, now)
        if flow.gathered:
            flow.count, flow.first, flow.rate = 1.0, flow.not_before, 0.0
        arriving = Arriving(flow.count, max(flow.first, flow.not_before), flow.rate) if flow.count > 0 else None
        found.append(arriving)
        _pass_on(stage, arriving, flows, now)
    return found


def _pass_on(stage: Stage, arriving: Arriving | None, flows: list[_Flow], now: float) -> None:
    here = stage.queued + stage.running
    tasks = here + (arriving.count if arriving is not None else 0.0)
    if tasks <= 0 or not stage.feeds:
        return
    service = stage.service or 0.0  # what was never measured may be over at once
    speed = stage.slots / (stage.service or _UNMEASURED)
    if stage.running:
        first = max(now, stage.running_since + service)
    elif stage.queued:
        first = now + stage.start + service
    else:
        assert arriving is not None
        first = max(arriving.first, now + stage.start) + service
    rate = min(here, stage.slots) / stage.slots * speed if here else 0.0
    if arriving is not None:
        rate = min(speed, rate + arriving.rate)
    last = first + (tasks - 1) / speed
    for feed in stage.feeds:
        flow = flows[feed.consumer]
        if feed.waits:
            flow.not_before = max(flow.not_before, last)
            flow.gathered |= feed.units > 0
            continue
        flow.count += tasks * feed.units
        flow.first = min(flow.first, first)
        flow.rate += rate * feed.units
