"""How many warm workers of a step version each node keeps: woken by what is enqueued, ahead of what will be.

A pool is one definition on this cluster. Four things are known of it: what waits for a worker (queued here, or given to
a node), what will come along the DAG (see `ahead`), how long a task and the start of a worker take (measured, the
newest counting most), and which workers there are (as the nodes say).

*Up.* A worker is started for whatever would otherwise wait longer than a start takes: a warm worker gets through
start-up ÷ service time tasks meanwhile, so it covers as many; one that is starting covers what it has done a tenth of a
start-up after it is up, at least one. So nothing waits longer than a start and one task, as long as there is room, and
work that is over before a new worker could help starts none. For what comes along the DAG the first workers are started
one start-up ahead.

*Down.* What was not needed for the pool's idle time is stopped: a target falls to the most that was of use at any
moment of that time. So a pool that follows a demand which swings faster than that does not swing with it.

*Where.* For what a node was given, there; then where workers are warm already; then where the producers of what will
come run; then where most is free. A node on which the last start failed gets no more before its back-off is over, and
one that has no place for another worker none until it says otherwise.

Pure: times are passed in, in seconds of the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

from cluster_agent.pools.ahead import Arriving
from cluster_agent.pools.measured import Measured
from cluster_agent.pools.model import Figures, Limits, Need, Node, Pool, Resize, Room
from cluster_agent.pools.sizing import fit, wanted

__all__ = ["Autoscaler", "Figures", "Limits", "Resize", "Room"]


class Autoscaler:
    """All pools of a cluster. `start` is what the start of a worker takes before any was measured, in seconds."""

    def __init__(self, start: float = 0.1) -> None:
        self._start = start
        self._pools: dict[str, Pool] = {}

    # -------------------------------------------------------------------------------------------------- what is known

    def need(
        self, definition: str, who: Hashable, queued: int, limits: Limits, arriving: Arriving | None = None
    ) -> None:
        """`who` needs the pool from now on: so many tasks that no node was given yet, and what will come."""
        pool = self._pools.get(definition)
        if pool is None:
            pool = self._pools[definition] = Pool(limits, Measured(self._start))
        pool.limits = limits
        pool.needs[who] = Need(queued, arriving)

    def release(self, definition: str, who: Hashable) -> None:
        """`who` needs the pool no more."""
        pool = self._pools.get(definition)
        if pool is not None:
            pool.needs.pop(who, None)

    def took(self, definition: str, tasks: int, seconds: float) -> None:
        """So many tasks ended, after so many seconds in all."""
        pool = self._pools.get(definition)
        if pool is not None and tasks > 0:
            pool.service.add(seconds / tasks, tasks)
            pool.spent += seconds
            pool.ended += tasks

    def told(
        self,
        definition: str,
        node: str,
        starting: int,
        idle: int,
        busy: int,
        now: float,
        *,
        start_seconds: float = 0.0,
        error: str = "",
        full: bool = False,
        final: bool = False,
    ) -> None:
        """A node told of its workers, and of one that came up after so many seconds, or could not.

        `full`: there is no place for another one, until it tells otherwise. `final`: that it could not is so for good.
        """
        pool = self._pools.get(definition)
        if pool is None:
            return
        known = pool.nodes.setdefault(node, Node())
        before = known.there
        known.starting, known.idle, known.busy = starting, idle, busy
        known.short |= known.full and not full and known.there < known.target
        known.full = full
        if start_seconds > 0:
            pool.start.add(start_seconds)
            known.failed = 0
        if full:
            pool.reason = f"no place for another worker on {node}: {error}" if error else pool.reason
        elif error:
            if final:
                known.failed = max(known.failed, pool.limits.attempts)
            elif not known.backoff.waits(now):  # what fails together fails once
                known.failed += 1
            known.error = error
            known.short = True
            known.backoff.failed(now)
            pool.reason = f"a worker could not start on {node}: {error}"
        elif known.there < min(before, known.target):
            known.short = True
            known.backoff.failed(now, at_once=True)
            pool.reason = f"a worker died on {node}"

    def forget_node(self, node: str) -> None:
        """What the node was told is void: it has gone, or was restarted."""
        for pool in self._pools.values():
            pool.nodes.pop(node, None)

    # ------------------------------------------------------------------------------------------------------ questions

    def definitions(self) -> list[str]:
        """All pools there are."""
        return list(self._pools)

    def workers(self, definition: str) -> int:
        """How many workers of the definition are to be warm now."""
        pool = self._pools.get(definition)
        return sum(node.target for node in pool.nodes.values()) if pool is not None else 0

    def service_seconds(self, definition: str) -> float | None:
        """What a task takes; None if none was measured."""
        pool = self._pools.get(definition)
        return pool.service.mean if pool is not None and pool.service.known else None

    def start_seconds(self, definition: str) -> float:
        """What the start of a worker takes."""
        pool = self._pools.get(definition)
        return pool.start.mean if pool is not None else self._start

    def warm(self, definition: str) -> bool:
        """Whether some node has a worker of the definition that is up."""
        pool = self._pools.get(definition)
        return pool is not None and any(node.warm for node in pool.nodes.values())

    def wait(self, definition: str, node: str, now: float) -> float:
        """Seconds until a worker of the definition can be up on the node; 0 where one is."""
        pool = self._pools.get(definition)
        if pool is None:
            return self._start
        known = pool.nodes.get(node)
        if known is None or not known.have:
            return pool.start.mean
        return 0.0 if known.warm else max(0.0, known.raised + pool.start.mean - now)

    def most(self, definition: str, node: str) -> int | None:
        """How many workers a node has, if it has no place for another one; else None."""
        pool = self._pools.get(definition)
        known = pool.nodes.get(node) if pool is not None else None
        return known.there if known is not None and known.full else None

    def hopeless(self, definition: str, rooms: Mapping[str, Room]) -> str:
        """Why no worker can be started, in its own words; empty as long as one is there or may come up."""
        pool = self._pools.get(definition)
        if pool is None or any(node.warm for node in pool.nodes.values()):
            return ""
        error = ""
        for name, room in rooms.items():
            if not fit(pool.limits, room):
                continue
            node = pool.nodes.get(name)
            if node is None or node.failed < pool.limits.attempts:
                return ""
            error = node.error
        return error

    def figures(self) -> list[Figures]:
        """All pools, for people."""
        return [
            Figures(
                definition,
                sum(node.target for node in pool.nodes.values()),
                sum(node.starting for node in pool.nodes.values()),
                sum(node.idle for node in pool.nodes.values()),
                sum(node.busy for node in pool.nodes.values()),
                pool.queued,
                pool.service.mean if pool.service.known else 0.0,
                pool.start.mean,
                pool.reason,
            )
            for definition, pool in sorted(self._pools.items())
        ]

    # ------------------------------------------------------------------------------------------------------ decisions

    def resize(self, definition: str, rooms: Mapping[str, Room], now: float) -> tuple[list[Resize], float | None]:
        """What to tell which nodes, and when to ask again at the latest (None: when something happens)."""
        pool = self._pools.get(definition)
        if pool is None:
            return [], None
        for name in rooms:
            pool.nodes.setdefault(name, Node())
        sizes, due = wanted(pool, rooms, now)
        told = _replace(pool, rooms, due, now)
        told += _raise(pool, sizes, due, now)
        told += _lower(pool, sizes, due, now)
        if not pool.needs and not any(node.have for node in pool.nodes.values()):
            del self._pools[definition]
            return told, None
        later = [at for at in due if at > now]
        return told, min(later) if later else None


def _replace(pool: Pool, rooms: Mapping[str, Room], due: list[float], now: float) -> list[Resize]:
    """Nodes that have lost workers start others once their back-off is over."""
    told = []
    for name in rooms:
        node = pool.nodes[name]
        if not node.short:
            continue
        if node.backoff.waits(now):
            due.append(node.backoff.until)
            continue
        node.short = False
        if node.there < node.target:
            told.append(Resize(name, node.target))
    return told


def _raise(pool: Pool, sizes: Mapping[str, int], due: list[float], now: float) -> list[Resize]:
    limits = pool.limits
    told: list[Resize] = []
    left = limits.maximum - sum(node.have for node in pool.nodes.values()) if limits.maximum else math.inf
    if now >= pool.paused_until:
        pool.may_start = limits.step
    may = pool.may_start if limits.step else math.inf
    started = 0
    held_back = False
    for name, workers in sizes.items():
        node = pool.nodes[name]
        more = workers - node.target
        if more <= 0:
            continue
        there = max(0, node.there - node.target)  # the node has them already
        allowed = min(more, there + max(0, min(left, may, more)))
        held_back |= there + may < more
        if allowed <= 0:
            continue
        new = max(0, int(allowed) - there)
        left -= new
        may -= new
        started += new
        node.target += int(allowed)
        node.raised = now
        node.low_since = None
        told.append(Resize(name, node.target))
    if started:
        pool.reason = _why_more(pool, started)
        if limits.step:
            pool.may_start = int(may)
            if now >= pool.paused_until:
                pool.paused_until = now + (limits.pause or pool.start.mean)
    if held_back:
        due.append(pool.paused_until)
    return told


def _why_more(pool: Pool, more: int) -> str:
    parts = [f"{pool.queued} queued"] if pool.queued else []
    coming = sum(need.arriving.count for need in pool.needs.values() if need.arriving is not None)
    if coming and not pool.queued:
        parts.append(f"{coming:.0f} will come")
    return f"{more} more: {', '.join(parts) or 'tasks were given to nodes'}"


def _lower(pool: Pool, sizes: Mapping[str, int], due: list[float], now: float) -> list[Resize]:
    told: list[Resize] = []
    # Where another node must have a worker and the maximum is reached, idle ones here go at once.
    short = sum(max(0, sizes[name] - pool.nodes[name].target) for name in sizes) if pool.limits.maximum else 0
    for name, workers in sizes.items():
        node = pool.nodes[name]
        if workers >= node.target:
            node.low_since = None
            continue
        if short > 0:
            fewer = min(short, node.target - workers)
            short -= fewer
            node.target -= fewer
            told.append(Resize(name, node.target))
            pool.reason = f"{fewer} fewer on {name}: they are needed on another node"
        if node.low_since is None:
            node.low_since = now
            node.highest = workers
        node.highest = min(max(node.highest, workers), node.target)
        if now >= node.low_since + pool.limits.idle:
            fewer = node.target - node.highest
            node.target = node.highest
            if fewer:
                told.append(Resize(name, node.target))
                pool.reason = f"{fewer} fewer: idle for {pool.limits.idle:g} s"
            node.low_since = now if workers < node.target else None
            node.highest = workers
        if node.low_since is not None:
            due.append(node.low_since + pool.limits.idle)
    return told
