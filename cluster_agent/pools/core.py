"""How many warm workers of a step version each node keeps: from and to zero, woken by events, idle ones collected.

A pool is one definition on this cluster. Whoever needs it (a step of a run) says how much waits; how much runs is known
for each node. The demand is what runs and waits, within the pool's minimum and maximum and each node's room. A target
rises with the demand at once, and falls when the demand has stayed below it for the pool's idle time, to the highest
that was seen meanwhile. Pure: times are passed in, in seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Limits:
    """What the step's author allows: warm minimum and maximum on the cluster (0 = as many as fit), idle seconds."""

    minimum: int
    maximum: int
    idle: float
    cpus: float
    memory: int


@dataclass(slots=True, frozen=True)
class Room:
    """A connected node: what it has, and how many tasks of the definition it was given."""

    cpus: float
    memory: int
    running: int


@dataclass(slots=True, frozen=True)
class Resize:
    """Tell this node to keep so many workers."""

    node: str
    workers: int


@dataclass(slots=True)
class _Target:
    workers: int = 0
    low_since: float | None = None  # since when the demand has been below
    highest: int = 0  # demand since then


@dataclass(slots=True)
class _Pool:
    limits: Limits
    waiting: dict[Hashable, int] = field(default_factory=dict)  # who needs it -> tasks that no node has
    targets: dict[str, _Target] = field(default_factory=dict)


class Autoscaler:
    """All pools of a cluster."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}

    def need(self, definition: str, who: Hashable, waiting: int, limits: Limits) -> None:
        """`who` needs the pool from now on, and has so many tasks that no node was given yet."""
        pool = self._pools.get(definition)
        if pool is None:
            pool = self._pools[definition] = _Pool(limits)
        pool.limits = limits
        pool.waiting[who] = waiting

    def release(self, definition: str, who: Hashable) -> None:
        """`who` needs the pool no more."""
        pool = self._pools.get(definition)
        if pool is not None:
            pool.waiting.pop(who, None)

    def workers(self, definition: str) -> int:
        """How many workers of the definition are to be warm now."""
        pool = self._pools.get(definition)
        return sum(target.workers for target in pool.targets.values()) if pool is not None else 0

    def forget_node(self, node: str) -> None:
        """What the node was told is void: it has gone, or was restarted."""
        for pool in self._pools.values():
            pool.targets.pop(node, None)

    def definitions(self) -> list[str]:
        """All pools there are."""
        return list(self._pools)

    def resize(self, definition: str, rooms: Mapping[str, Room], now: float) -> tuple[list[Resize], float | None]:
        """What to tell which nodes, and when to ask again at the latest (None: when something happens)."""
        pool = self._pools.get(definition)
        if pool is None:
            return [], None
        demand = _demand(pool, rooms)
        told: list[Resize] = []
        again: float | None = None
        for node, wanted in demand.items():
            target = pool.targets.get(node)
            if target is None:
                target = pool.targets[node] = _Target(wanted)
                told.append(Resize(node, wanted))
            if wanted >= target.workers:
                if wanted > target.workers:
                    target.workers = wanted
                    told.append(Resize(node, wanted))
                target.low_since = None
                continue
            if target.low_since is None:
                target.low_since = now
                target.highest = wanted
            target.highest = max(target.highest, wanted)
            if now >= target.low_since + pool.limits.idle:
                target.workers = target.highest
                told.append(Resize(node, target.workers))
                target.low_since = now if wanted < target.workers else None
                target.highest = wanted
            if target.low_since is not None:
                due = target.low_since + pool.limits.idle
                again = due if again is None else min(again, due)
        if not pool.waiting and not any(target.workers for target in pool.targets.values()):
            del self._pools[definition]
        return told, again


def _demand(pool: _Pool, rooms: Mapping[str, Room]) -> dict[str, int]:
    """Workers wanted on each node: for what runs there, then for what waits, then for the warm minimum."""
    limits = pool.limits
    fits = {node: _fit(limits, room) for node, room in rooms.items()}
    demand = {node: min(room.running, fits[node]) for node, room in rooms.items()}
    most = limits.maximum or sum(fits.values())
    wanted = max(sum(demand.values()) + sum(pool.waiting.values()), limits.minimum if pool.waiting else 0)
    open_places = min(wanted, most) - sum(demand.values())
    for node, fit in fits.items():
        if open_places <= 0:
            break
        more = min(open_places, fit - demand[node])
        demand[node] += more
        open_places -= more
    return demand


def _fit(limits: Limits, room: Room) -> int:
    fit = int(room.cpus / limits.cpus + 1e-9) if limits.cpus else 1
    if limits.memory:
        fit = min(fit, room.memory // limits.memory)
    return fit
