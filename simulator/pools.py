"""A day of a cluster's pools in virtual time: the production autoscaler against a trace of arrivals.

    trace ─▶ units of the first step ─▶ nodes, workers ─▶ units of the next step ─▶ …
                     └──── need, took, told, look_ahead ─▶ Autoscaler ─▶ Resize ─▶ nodes

Nodes and coordinator are as simple as may be and behave as the real ones do: a unit is given to a node with an idle
worker, or else to the one with the most free room; a node with units and no worker starts one by itself, and more only
as it is told. Every event is followed by a look at the pools, as every batch is in the coordinator. Seconds throughout.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from cluster_agent.pools.ahead import Feed, Stage, look_ahead
from cluster_agent.pools.core import Autoscaler, Limits, Room

MEMORY = 1 << 40


@dataclass(frozen=True)
class Step:
    """A step of the chain: seconds of its tasks (mean; they vary by a third to either side), and its pool."""

    name: str
    service: float
    limits: Limits


@dataclass(frozen=True)
class Waited:
    """A unit that was executed. `room`: when it came, fewer units were at the step than the cluster has slots for."""

    step: str
    came: float
    began: float
    room: bool


@dataclass(frozen=True)
class Sample:
    """A step's state from a time on."""

    at: float
    waiting: int
    busy: int
    idle: int
    starting: int


@dataclass
class _Place:
    """A step's workers and units on one node."""

    target: int = 0
    starting: int = 0
    idle: int = 0
    busy: int = 0
    units: deque[tuple[float, bool]] = field(default_factory=deque)

    @property
    def given(self) -> int:
        return len(self.units) + self.busy


@dataclass
class _Pool:
    step: Step
    places: list[_Place]
    queue: deque[tuple[float, bool]] = field(default_factory=deque)
    running: dict[int, float] = field(default_factory=dict)  # which executions began when
    came: int = 0
    done: int = 0

    @property
    def here(self) -> int:
        return len(self.queue) + sum(place.given for place in self.places)


class Day:
    """`steps` in a chain on `nodes` nodes of `cpus` each; a worker takes `start` seconds to come up (± a fifth)."""

    def __init__(self, steps: Iterable[Step], *, nodes: int, cpus: int, start: float, prior: float, seed: int) -> None:
        self.now = 0.0
        self.waits: list[Waited] = []
        self.starts: list[tuple[str, float]] = []
        self.stops: list[tuple[str, float]] = []
        self.samples: dict[str, list[Sample]] = {}
        self.demands: dict[
            str, list[tuple[float, int, int]]
        ] = {}  # time, units at the step, and with those on their way
        self.longest_start = start * 1.2
        self._random = Random(seed)
        self._start = start
        self._cpus = cpus
        self._pools = [_Pool(step, [_Place() for _ in range(nodes)]) for step in steps]
        self._scaler = Autoscaler(prior)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._timers: dict[str, float] = {}
        for pool in self._pools:
            self.samples[pool.step.name] = []
            self.demands[pool.step.name] = []

    def longest_task(self, step: str) -> float:
        """The longest that a task of the step takes."""
        return next(pool.step.service for pool in self._pools if pool.step.name == step) * 4 / 3

    def workers(self) -> int:
        """All that there are now."""
        return sum(place.starting + place.idle + place.busy for pool in self._pools for place in pool.places)

    def run(self, arrivals: Iterable[float]) -> None:
        """Live until all units that arrive at these times are through and all workers are gone."""
        for at in arrivals:
            self._at(at, lambda: self._arrive(0))
        self._settle()
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()
            self._settle()

    # ------------------------------------------------------------------------------------------------ what happens

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _arrive(self, index: int) -> None:
        pool = self._pools[index]
        slots = len(pool.places) * self._cpus
        pool.queue.append((self.now, pool.here < slots))
        pool.came += 1

    def _begin(self, index: int, place: _Place) -> None:
        pool = self._pools[index]
        came, room = place.units.popleft()
        self.waits.append(Waited(pool.step.name, came, self.now, room))
        place.idle -= 1
        place.busy += 1
        seconds = pool.step.service * self._random.uniform(2 / 3, 4 / 3)
        number = next(self._order)
        pool.running[number] = self.now
        self._at(self.now + seconds, lambda: self._end(index, place, number))

    def _end(self, index: int, place: _Place, number: int) -> None:
        pool = self._pools[index]
        seconds = self.now - pool.running.pop(number)
        place.busy -= 1
        place.idle += 1
        pool.done += 1
        self._scaler.took(pool.step.name, 1, seconds)
        if index + 1 < len(self._pools):
            self._arrive(index + 1)

    def _start_worker(self, index: int, number: int) -> None:
        pool = self._pools[index]
        place = pool.places[number]
        place.starting += 1
        self.starts.append((pool.step.name, self.now))
        seconds = self._start * self._random.uniform(0.8, 1.2)

        def ready() -> None:
            place.starting -= 1
            place.idle += 1
            self._tell(index, number, seconds)

        self._at(self.now + seconds, ready)

    def _stop_worker(self, index: int, place: _Place) -> None:
        place.idle -= 1
        self.stops.append((self._pools[index].step.name, self.now))

    # ------------------------------------------------------------------------------------- coordinator and nodes

    def _settle(self) -> None:
        for index, pool in enumerate(self._pools):
            self._dispatch(index, pool)
        self._look()
        coming = 0
        for index, pool in enumerate(self._pools):
            coming += pool.here
            self.demands[pool.step.name].append((self.now, pool.here, coming))
            self._resize(index, pool)
            self._note(pool)

    def _dispatch(self, index: int, pool: _Pool) -> None:
        while pool.queue:
            place = min(pool.places, key=lambda place: (place.idle <= len(place.units), place.given))
            if place.given >= self._cpus:
                break
            place.units.append(pool.queue.popleft())
        for number, place in enumerate(pool.places):
            while place.units and place.idle:
                self._begin(index, place)
            if place.units and not (place.starting or place.busy):
                self._start_worker(index, number)
                self._tell(index, number, 0.0)

    def _look(self) -> None:
        stages = []
        for index, pool in enumerate(self._pools):
            stage = Stage(
                queued=pool.here - sum(place.busy for place in pool.places),
                running=sum(place.busy for place in pool.places),
                service=self._scaler.service_seconds(pool.step.name),
                start=0.0 if self._scaler.warm(pool.step.name) else self._scaler.start_seconds(pool.step.name),
                slots=float(len(pool.places) * self._cpus),
                running_since=min(pool.running.values(), default=self.now),
            )
            if index + 1 < len(self._pools):
                stage.feeds.append(Feed(index + 1, self._pools[index + 1].came / pool.done if pool.done else 1.0))
            stages.append(stage)
        for pool, arriving in zip(self._pools, look_ahead(stages, self.now), strict=True):
            if pool.here or arriving is not None:
                self._scaler.need(pool.step.name, "day", len(pool.queue), pool.step.limits, arriving)
            else:
                self._scaler.release(pool.step.name, "day")

    def _resize(self, index: int, pool: _Pool) -> None:
        rooms = {
            str(number): Room(self._cpus, MEMORY, place.given, self._cpus - place.given)
            for number, place in enumerate(pool.places)
        }
        told, again = self._scaler.resize(pool.step.name, rooms, self.now)
        for change in told:
            place = pool.places[int(change.node)]
            place.target = change.workers
            for _ in range(change.workers - place.starting - place.idle - place.busy):
                self._start_worker(index, int(change.node))
            while place.idle and place.starting + place.idle + place.busy > change.workers:
                self._stop_worker(index, place)
        for number in range(len(pool.places)):
            self._tell(index, number, 0.0)
        if again is not None and self._timers.get(pool.step.name, math.inf) > again:
            self._timers[pool.step.name] = again
            self._at(again, lambda: self._rung(pool.step.name))

    def _rung(self, name: str) -> None:
        if self._timers.get(name, math.inf) <= self.now:
            del self._timers[name]

    def _tell(self, index: int, number: int, start_seconds: float) -> None:
        pool = self._pools[index]
        place = pool.places[number]
        self._scaler.told(
            pool.step.name,
            str(number),
            place.starting,
            place.idle,
            place.busy,
            self.now,
            start_seconds=start_seconds,
        )

    def _note(self, pool: _Pool) -> None:
        name = pool.step.name
        counts = [sum(getattr(place, what) for place in pool.places) for what in ("busy", "idle", "starting")]
        waiting = pool.here - counts[0]
        samples = self.samples[name]
        fresh = Sample(self.now, waiting, *counts)
        if not samples or (samples[-1].waiting, samples[-1].busy, samples[-1].idle, samples[-1].starting) != (
            waiting,
            *counts,
        ):
            samples.append(fresh)


def bursts(*, hours: float, quiet: float, busy: float, every: float, size: int, seed: int) -> list[float]:
    """Arrivals over a day: some all the time (`quiet` a second, `busy` at noon), and a burst of `size` now and then."""
    random = Random(seed)
    end = hours * 3600.0
    arrivals = []
    at = 0.0
    while True:
        rate = quiet + (busy - quiet) * max(0.0, math.sin(math.pi * at / end)) ** 4
        at += random.expovariate(rate)
        if at >= end:
            break
        arrivals.append(at)
    moment = random.uniform(0.5, 1.0) * every
    while moment < end:
        arrivals += [moment + random.uniform(0.0, 2.0) for _ in range(random.randint(size // 3, size))]
        moment += random.uniform(0.5, 1.5) * every
    return sorted(arrivals)
