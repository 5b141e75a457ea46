"""Which cluster executes a unit's next task, where the plan leaves a choice.

For each candidate `estimate` puts together what is expected: of ourselves by what waits here and what was measured, of
another by what it said of itself (`loads`), the less the older that is; without news by the plan's shares and the units
that we have sent there and that it has not released. Which of them gets the unit is the step's preference, see
`expected`. A unit that was decided to stay may be *spilled* later: when another cluster releases units, says that it
has less to do, or when nodes of ours go away. Each unit that moves has an event with the figures that decided it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from cluster_agent.coordinator import records
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import remembering
from cluster_agent.coordinator.clusters import loads
from cluster_agent.coordinator.clusters.expected import FINISH, Expected, preferred
from cluster_agent.coordinator.fragment import EACH, Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import PeerLoad
from cluster_agent.coordinator.nodes import tainting
from cluster_agent.coordinator.space import disks, quotas
from cluster_agent.coordinator.state import READY, Out, Task, Unit
from cluster_agent.coordinator.tasks import meeting
from cluster_agent.coordinator.tasks.grouping import gathers_here
from cluster_agent.coordinator.tasks.tracing import Maker
from cluster_agent.orders.messages import Output

_WORDS: Final = 3  # that precede the bytes: offer, accept, grant
_NO_SLOTS: Final = 0.1  # without a node, waiting is long but not endless
_LEAST_TRUST: Final = 0.5  # for a peer's word that it has room
_NOBODY: Final[Collection[str]] = ()


def routes(
    book: Book, live: LiveRun, step: Step, outputs: Sequence[Output], maker: Maker, *, ends: bool = False
) -> tuple[tuple[int, int, str], ...]:
    """(position, edge, cluster) for each of the new units in `outputs` whose next task is another cluster's.

    `ends`: the task that made them leaves its worker to the next one.
    """
    chosen: list[tuple[int, int, str]] = []
    units = live.run.units
    ahead: dict[tuple[str, int], int] = {}  # decided in this call, and not counted yet
    for position, output in enumerate(outputs):
        for edge in step.outs.get(output.port, ()):
            if _stays(live, edge) or output.unit.id in units:
                continue
            if ends and edge.consumer.free:
                loads.here(book).leave(step, loads.service(book, live, step))
                ends = False
            if edge.meets:
                cluster = meeting.place(book, live, edge, output, maker)
            else:
                cluster = choose(book, live, edge, output.unit.id, output.unit.size, ahead=ahead)
            key = (cluster, edge.consumer.index)
            ahead[key] = ahead.get(key, 0) + 1
            if cluster != book.cluster:
                chosen.append((position, edge.index, cluster))
    return tuple(chosen)


def _stays(live: LiveRun, edge: Edge) -> bool:
    consumer = edge.consumer
    if edge.pairing == EACH:
        return consumer.here and not consumer.free
    if edge.meets:
        return False
    if consumer.gathers:
        return gathers_here(live, consumer)
    return True


def choose(
    book: Book,
    live: LiveRun,
    edge: Edge,
    unit: bytes,
    size: int,
    *,
    ahead: dict[tuple[str, int], int] | None = None,
    without: Collection[str] = _NOBODY,
) -> str:
    """The cluster that gets a unit's next task; `without` some that did not want it."""
    step = edge.consumer
    if step.gathers:
        return step.executors[0]
    incoming = live.run.incoming.get(unit)
    sender = incoming.sender(edge.index) if incoming is not None and edge.index in incoming.edges else ""
    executors = [cluster for cluster in step.executors if cluster != sender]  # it never goes back
    candidates = [cluster for cluster in executors if cluster not in without] or executors or list(step.executors)
    if len(candidates) > 1:
        candidates = [cluster for cluster in candidates if _reachable(book, cluster)] or candidates
    if len(candidates) == 1:
        return candidates[0]
    if (known_at := remembering.place(book, live, edge, unit)) in candidates:
        return known_at
    ahead = ahead or {}
    found = [estimate(book, live, step, cluster, size, ahead.get((cluster, step.index), 0)) for cluster in candidates]
    best = preferred(step.prefer, book.cluster, found)
    if best.cluster == book.cluster:
        if book.loads.here is not None:
            book.loads.here.add(step, 1, best.execution)
    else:
        loads.sends(book, best.cluster, size)
        _tell(book, live, step, unit, size, best, found)
    return best.cluster


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
    ours = loads.expected_of(book, step)
    sent = live.sent.get((cluster, step.index), 0) + more
    slots = planned_slots(book, live, step, cluster)
    execution = step.measured.get(cluster) or ours
    start = book.pools.start_seconds(step.definition)
    if said is not None and said.measured.weight > 0:
        execution = loads.fit_of(said.measured)
    queue = _wait(sent, 1.0, slots, execution.mean)
    load = (sent + 1) / slots
    trust = 0.0
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
        room = told_queue == 0.0 if trust >= _LEAST_TRUST else sent < slots
    else:
        room = sent < slots
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


def _reachable(book: Book, cluster: str) -> bool:
    if cluster == book.cluster:
        return True
    peer = book.peers.get(cluster)
    return peer.reachable if peer is not None else not book.peers


def _tell(
    book: Book, live: LiveRun, step: Step, unit: bytes, size: int, best: Expected, found: Sequence[Expected]
) -> None:
    if not book.policy.publish:
        return
    figures = {
        each.cluster: {
            "finish": round(each.finish, 6),
            "transfer": round(each.transfer, 6),
            "queue": round(each.queue, 6),
            "start": round(each.start, 6),
            "execution": round(each.execution, 6),
            "distance": each.distance,
            "load": round(each.load, 3),
            "room": each.room,
        }
        for each in found
    }
    data: dict[str, object] = {
        "unit": unit,
        "size": size,
        "to": best.cluster,
        "prefer": step.prefer or FINISH,
        "expected": figures,
    }
    book.publish(live, "unit.routed", step.name, b"", data)


# ------------------------------------------------------------------------------------------------- what waits


def spill(book: Book, live: LiveRun, step: Step) -> None:
    """Hand waiting tasks of the step to other clusters, newest first, as long as the step prefers those."""
    edge = step.driving
    if edge is None or not step.free or step.crosses is not None or not live.dispatching:
        return
    queue = live.ready[step.index]
    left = len(queue)  # not looked at
    while left:
        left -= 1
        task = live.run.tasks[queue[left]]
        units = [live.run.units[unit] for unit in task.inputs[step.drives]]
        if not may_go(book, live, edge, task, units):
            if tainting.begins(book, step):
                return
            continue
        if book.loads.here is not None:  # it is counted among those that wait
            book.loads.here.add(step, -1, loads.service(book, live, step))
        cluster = choose(book, live, edge, units[0].id, sum(unit.size for unit in units))
        if cluster == book.cluster:
            return
        book.commit(records.Spilled(live.key, task.id, cluster))


def spill_bounded(book: Book, live: LiveRun) -> None:
    """Hand on what waits here for a quota: others have quotas of their own, and nobody may say anything meanwhile."""
    for step in live.graph.concerned if live.bounded and live.graph.listeners else ():
        if quotas.hold_back(live, step):
            spill(book, live, step)


def any_may_go(book: Book, live: LiveRun, step: Step) -> bool:
    """Whether any task of the step that waits here may go elsewhere."""
    edge = step.driving
    if edge is None or not step.free or step.crosses is not None:
        return False
    for identifier in live.ready[step.index]:
        task = live.run.tasks[identifier]
        if may_go(book, live, edge, task, [live.run.units[unit] for unit in task.inputs[step.drives]]):
            return True
    return False


def may_go(book: Book, live: LiveRun, edge: Edge, task: Task, units: Sequence[Unit]) -> bool:
    """A unit that was sent here goes on only if we may not execute it, and once at most: so it never goes round.

    A batch goes on only if none of it was sent here, since each of its units might have come from where it would go.
    """
    if task.attempt > live.run.attempts_before or task.remake:
        return False
    if len(units) > 1:
        return all(edge.index not in each.edges for each in map(live.run.incoming.get, (u.id for u in units)) if each)
    (unit,) = units
    incoming = live.run.incoming.get(unit.id)
    if incoming is None or edge.index not in incoming.edges:
        return True
    return not tainting.begins(book, edge.consumer) and edge.index not in incoming.forwarded


def spill_all(book: Book) -> None:
    """Something has changed for all that waits: a peer has less to do, or we have fewer nodes."""
    for live in book.lives.going.values():
        if live.waiting and live.graph.listeners:
            for step in live.graph.concerned:
                if step.free and live.ready[step.index]:
                    spill(book, live, step)


def on_load(book: Book, event: PeerLoad) -> None:
    """A peer says how busy it is."""
    loads.hear(book, event)
    spill_all(book)


def apply_spilled(book: Book, record: records.Spilled) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks.pop(record.task)
    step = live.graph.steps[task.step]
    assert task.state == READY and step.driving is not None
    queue = live.ready[step.index]
    if queue and queue[-1] == task.id:
        queue.pop()
        live.waiting -= 1
    else:  # a replayed queue may stand in another order
        live.unready(task)
    state = live.run.steps[step.index]
    state.open -= len(task.inputs[step.drives])
    if not state.open:  # what goes elsewhere may have been the last that was waited for here
        live.check.add(step.index)
    for unit in task.inputs[step.drives]:
        live.run.edges[step.driving.index].outs[unit] = Out(record.cluster)
        live.queue_out(record.cluster, step.driving.index, unit)
    book.touch(live)
