"""How many workers are wanted on each node of a pool: for what waits, for what runs, for what will come."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from cluster_agent.pools.ahead import Arriving
from cluster_agent.pools.model import Limits, Pool, Room

_GRAIN: Final = 0.1  # of a start-up: what a new worker gets through in it is not worth another worker


def wanted(pool: Pool, rooms: Mapping[str, Room], now: float) -> tuple[dict[str, int], list[float]]:
    """Workers wanted on each node, and times at which that may be different."""
    due: list[float] = []
    limits = pool.limits
    ceiling: dict[str, int] = {}
    for name, room in rooms.items():
        node = pool.nodes[name]
        ceiling[name] = min(fit(limits, room), node.there) if node.full else fit(limits, room)
        if node.backoff.waits(now):
            ceiling[name] = min(ceiling[name], node.warm)
            due.append(node.backoff.until)
    by_warm, by_new = _covers(pool)
    sizes: dict[str, int] = {}
    spare = 0  # tasks that the workers there are get through beside what their nodes were given
    for name, room in rooms.items():
        node = pool.nodes[name]
        covered = node.warm * by_warm + (node.have - node.warm) * by_new
        if room.given <= covered:
            sizes[name] = min(room.given, node.have)
            spare += covered - room.given
        else:
            sizes[name] = node.have + math.ceil((room.given - covered) / by_new)
        sizes[name] = min(sizes[name], ceiling[name])
    total = sum(sizes.values())
    have = sum(pool.nodes[name].have for name in rooms)
    queued = pool.queued
    if queued <= spare:
        floor = min(total + queued, max(total, have))
    else:
        floor = max(total, have) + math.ceil((queued - spare) / by_new)
    if pool.needs:
        floor = max(floor, limits.minimum)
    floor = max(floor, _in_use(pool, have, now), _ahead(pool, have, due, now))
    most = limits.maximum or sum(ceiling.values())
    _spread(pool, rooms, sizes, ceiling, min(floor, most))
    if limits.maximum:
        _cut(sizes, limits.maximum)
    return sizes, due


def _covers(pool: Pool) -> tuple[int, int]:
    """Tasks that a warm worker gets through during a start-up, and a new one shortly after it."""
    if not pool.service.known or pool.service.high <= 0:
        return 1, 1
    start = pool.start.mean
    return 1 + int(start / pool.service.high), 1 + int(_GRAIN * start / pool.service.high)


def _in_use(pool: Pool, have: int, now: float) -> int:
    """Workers that the tasks which ended since the last look have kept busy: nodes get on without asking."""
    if not pool.ended:
        pool.looked = now
        return 0
    elapsed = now - pool.looked if pool.looked is not None else 0.0
    busy = math.ceil(pool.spent / elapsed) if elapsed > pool.spent / max(have, 1) else have
    pool.spent, pool.ended, pool.looked = 0.0, 0, now
    return min(have, max(1, busy))


def _ahead(pool: Pool, have: int, due: list[float], now: float) -> int:
    """Workers that what will come needs: started a start-up before it does, kept if it does within the idle time."""
    arriving = [need.arriving for need in pool.needs.values() if need.arriving is not None]
    lead = now + pool.start.high
    due += [one.first - pool.start.high for one in arriving if one.first > lead]
    at_once = _for_arriving(pool, [one for one in arriving if one.first <= lead])
    soon = _for_arriving(pool, [one for one in arriving if one.first <= max(lead, now + pool.limits.idle)])
    return max(at_once, min(have, soon))


def _for_arriving(pool: Pool, arriving: Sequence[Arriving]) -> int:
    count = sum(one.count for one in arriving)
    if count <= 0:
        return 0
    rate = sum(one.rate for one in arriving)
    return math.ceil(min(max(count, 1.0), max(1.0, rate * pool.service.mean)) - 1e-6)


def _spread(
    pool: Pool, rooms: Mapping[str, Room], wanted: dict[str, int], ceiling: Mapping[str, int], total: int
) -> None:
    """Bring the sum of `wanted` up to `total`: where workers are, then near the producers, then in free room."""
    missing = total - sum(wanted.values())
    if missing <= 0:
        return
    for name in sorted(rooms, key=lambda name: (-pool.nodes[name].warm, -pool.nodes[name].have)):
        more = max(0, min(missing, min(pool.nodes[name].have, ceiling[name]) - wanted[name]))
        wanted[name] += more
        missing -= more
    order = sorted(rooms, key=lambda name: (-rooms[name].near, -rooms[name].free))
    while missing > 0:
        before = missing
        for name in order:
            room = rooms[name]
            # Where the producers run as many as are near; elsewhere one by one, so that nodes fill evenly.
            more = min(missing, max(0, ceiling[name] - wanted[name]), math.ceil(room.near) or 1)
            wanted[name] += more
            missing -= more
        if missing == before:
            return


def _cut(wanted: dict[str, int], maximum: int) -> None:
    """Keep to the pool's maximum over all nodes: each that needs any gets one first."""
    over = sum(wanted.values()) - maximum
    while over > 0:
        most = max(wanted, key=lambda name: wanted[name])
        wanted[most] -= 1
        over -= 1


def fit(limits: Limits, room: Room) -> int:
    """How many workers a node can hold."""
    count = int(room.cpus / limits.cpus + 1e-9) if limits.cpus else 1
    if limits.memory:
        count = min(count, room.memory // limits.memory)
    return count
