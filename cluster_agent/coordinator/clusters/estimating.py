"""What is expected of each cluster that may execute a unit's next task.

Of ourselves by what waits here and what was measured, of another by what it said of itself (`loads`), the less the
older that is; without news by the plan's shares and the units that we have sent there and that it has not released.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import loads
from cluster_agent.coordinator.clusters.expected import Expected
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes import tainting
from cluster_agent.coordinator.space import disks, quotas

_WORDS: Final = 3  # that precede the bytes: offer, accept, grant
_NO_SLOTS: Final = 0.1  # without a node, waiting is long but not endless
_LEAST_TRUST: Final = 0.5  # for a peer's word that it has room


def estimate(book: Book, live: LiveRun, step: Step, cluster: str, size: int, more: int = 0) -> Expected:
    """What is expected of a cluster for a unit of that size, if `more` units were sent there just now."""
    if cluster == book.cluster:
        return _here(book, live, step, size)
    return _there(book, live, step, cluster, size, more)


def _here(book: Book, live: LiveRun, step: Step, size: int) -> Expected:
    ours = loads.here(book)
    fit = loads.expected_of(book, step)
    open_here = tainting.begins(book, step) and not disks.all_full(book) and not quotas.hold_back(live, step)
    slots = loads.slots(book, live, step) if open_here else 0.0
    waiting = ours.queued.get(step.definition, 0) + ours.busy.get(step.definition, 0)
    queue = max(
        _wait(ours.wanted, step.cpus, ours.cpus if open_here else 0.0, ours.mean_seconds or fit.mean),
        _wait(waiting, 1.0, slots, fit.mean),
    )
    workers = book.pools.workers(step.definition)
    return Expected(
        cluster=book.cluster,
        distance=0.0,
        transfer=0.0,
        queue=queue,
        start=_start(waiting, workers, slots, fit.mean, book.pools.start_seconds(step.definition)),
        execution=fit.seconds(size),
        load=(ours.wanted + step.cpus) / (ours.cpus or _NO_SLOTS),
        room=queue == 0.0,
        begins=slots > 0,
    )


def _there(book: Book, live: LiveRun, step: Step, cluster: str, size: int, more: int) -> Expected:
    told = book.loads.peers.get(cluster)
    said = told.steps.get(step.definition) if told is not None else None
    execution = step.measured.get(cluster) or loads.expected_of(book, step)
    if said is not None and said.measured.weight > 0:
        execution = loads.fit_of(said.measured)
    sent = live.sent.get((cluster, step.index), 0) + more
    slots = planned_slots(book, live, step, cluster)
    queue = _wait(sent, 1.0, slots, execution.mean)
    load = (sent + 1) / slots
    start = book.pools.start_seconds(step.definition)
    room = sent < slots
    if told is not None and said is not None:
        trust = told.trust(book.now)
        since = sent - told.sent.get((live, step.index), 0)
        waiting = max(0, said.queued + said.busy + since)
        wanted = max(0.0, told.load.cpus_wanted + since * step.cpus)
        told_queue = max(
            _wait(wanted, step.cpus, told.load.cpus, told.load.mean_seconds or execution.mean),
            _wait(waiting, 1.0, said.slots, execution.mean),
        )
        queue = trust * told_queue + (1.0 - trust) * queue
        load = trust * (wanted + step.cpus) / (told.load.cpus or _NO_SLOTS) + (1.0 - trust) * load
        start = _start(waiting, said.warm, said.slots, execution.mean, said.measured.start_seconds)
        if trust >= _LEAST_TRUST:
            room = told_queue == 0.0
    if not room:
        places = said.slots if said is not None else slots
        queue += _to_come(live, step, cluster) / max(places, _NO_SLOTS) * execution.mean
    silence = live.silent.get(cluster, 0) * book.policy.withdraw_after
    peer = book.peers.get(cluster)
    return Expected(
        cluster=cluster,
        distance=peer.distance if peer is not None else 1.0,
        transfer=transfer_seconds(book, cluster, size),
        queue=queue + silence,
        start=start,
        execution=execution.seconds(size),
        load=load,
        room=room and not silence,
    )


def _to_come(live: LiveRun, step: Step, cluster: str) -> int:
    """Units that we have, each time that one of them must go to that cluster for a step after this one."""
    found = before = 0
    for each in live.graph.steps:
        if each.free:
            before += live.run.steps[each.index].open
        elif each.placed and each.index > step.index and each.executors == (cluster,):
            found += before
    return found


def _wait(wanted: float, one: float, places: float, seconds: float) -> float:
    """Until a task that takes `one` of `places` begins, where `wanted` are taken or waited for."""
    return max(0.0, wanted + one - places) / max(places, _NO_SLOTS) * seconds


def _start(waiting: float, workers: float, slots: float, seconds: float, start: float) -> float:
    """Where there is room but no warm worker left: until one has started, or one of those that are there is free."""
    if not workers <= waiting < slots:
        return 0.0
    return min(start, _wait(waiting, 1.0, workers, seconds)) if workers else start


def planned_slots(book: Book, live: LiveRun, step: Step, cluster: str) -> float:
    """The plan's shares say how much stronger it is than we are."""
    theirs, ours = step.shares.get(cluster, 0.0), step.shares.get(book.cluster, 0.0)
    if theirs > 0 and ours > 0:
        return max(1.0, (loads.slots(book, live, step) or 1.0) * theirs / ours)
    return max(1.0, 10.0 * theirs)


def transfer_seconds(book: Book, cluster: str, size: int) -> float:
    """How long a unit takes to another cluster: the words that precede it, what is before it on the link, its bytes."""
    link = loads.link_to(book, cluster)
    word = book.loads.measured.words.get(cluster)
    peer = book.peers.get(cluster)
    words = word.fit(book.now).fixed if word is not None else peer.latency if peer is not None else 0.0
    return _WORDS * words + link.seconds(loads.coming(book, cluster, link) + size)
