"""A run that waits for disk and can't move any more is found out, and fails in words that say what it lacks.

    something waits for disk ─▶ a look every so often ─▶ nothing was done for long, and nothing is under way
                                                         └▶ the run fails: which node, how much it has, who holds it

That waiting is in vain must be certain. So nothing fails as long as anything of the run is under way or might begin, as
long as what other clusters send could free space here, or another run that holds some of the space moves. A unit that
comes from elsewhere and is a task alone frees no more than it has brought. Of quotas clusters also tell each other when
nothing moves of a run (`resting`): who rests helps nobody. Only with others that lie here already, in a
group or beside them, can it free those: unless that group waits for what is stuck here as well. Of several runs that
wait for each other's space the one that matters least fails, and makes room for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import spilling
from cluster_agent.coordinator.clusters.ways import ACCEPTED, OFFERED, QUEUED
from cluster_agent.coordinator.fragment import EACH, OUTPUT, SPLIT, Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes.node import Node
from cluster_agent.coordinator.runs.ending import fail
from cluster_agent.coordinator.space import disks, footprint, moving, narrow, resting
from cluster_agent.coordinator.space.bounds import Still
from cluster_agent.coordinator.state import DONE, OPENED
from cluster_agent.orders.messages import Failure

_NOBODY: Final[Collection[str]] = ()
_TAKEN_BACK: Final = (QUEUED, OFFERED)  # what nobody has taken may go to and fro without anything being done
_NAMED: Final = 4  # runs, of those that hold the space
_ALMOST: Final = 0.99  # of the time, but for rounding


def watch(book: Book) -> None:
    """At the end of a batch: what waits for disk is looked after."""
    for live in (*book.hungry.values(), *book.asked.values()):
        if live.going and (never := narrow.never_fits(book, live)) is not None:
            fail(book, live, never[0], step=never[1])
        spilling.spill_bounded(book, live)
        if live.short or live.unanswered:
            look_after(book, live)
    heard = any(told.heard == book.now for told in book.loads.peers.values())
    for live in list(book.resting.values()):
        if not (live.going and live.still is not None and live.still.done == _done(live) and _rests(book, live)):
            resting.say(book, live, rests=False)
        elif heard:  # perhaps that it rests elsewhere, too
            _fail_if_stuck(book, live)


def begin(book: Book, live: LiveRun) -> None:
    """A fragment was taken. Where there is a quota its other clusters are told when nothing moves of it."""
    if resting.concerns(book, live):
        look_after(book, live)


def look_after(book: Book, live: LiveRun) -> None:
    """The run waits for disk, or may come to: look at it from time to time."""
    if live.still is None:
        live.still = Still(_done(live), book.now)
        book.wake(book.now + resting.look_every(book), "stuck", live.key)


def on_due(book: Book, run: RunKey) -> None:
    """It is time for a look."""
    live = book.lives.get(run)
    if live is None or not live.going or live.still is None:
        return
    before, live.still = live.still, None
    concerned = resting.concerns(book, live)
    if not _waits(live) and not concerned:
        return
    done = _done(live)
    live.still = before if before.done == done else Still(done, book.now)
    book.wake(book.now + resting.look_every(book), "stuck", live.key)
    long = book.now >= live.still.since + _ALMOST * book.policy.stuck_after
    if concerned:
        resting.say(book, live, rests=long and _rests(book, live))
    if long:
        _fail_if_stuck(book, live)


def _fail_if_stuck(book: Book, live: LiveRun) -> None:
    """Nothing of the run was done for long: fail it if nothing can be, unless another run is to make room for it."""
    if not (_waits(live) and _is_stuck(book, live) and _goes_first(book, live)):
        return
    if (held := narrow.holding(book, live)) is not None:
        quota, waits = held
        fail(book, live, narrow.failure(book, live, quota, waits), step=waits.name if waits is not None else "")
        return
    step, message = _words(book, live)
    fail(book, live, Failure("full", message), step=step)


def resume(book: Book, live: LiveRun) -> None:
    """After a restart: the time begins anew."""
    if live.going and (_waits(live) or resting.concerns(book, live)):
        look_after(book, live)


def _done(live: LiveRun) -> tuple[int, ...]:
    """What differs when anything was done."""
    run = live.run
    return (
        sum(state.done for state in run.steps),
        sum(each.count for state in run.steps for each in state.produced.values()),
        sum(traffic.units for traffic in run.traffic.values()),
        sum(len(incoming.held) < len(incoming.edges) for incoming in run.incoming.values()),  # others come and go
        sum(out.state not in _TAKEN_BACK for _, _, out in live.ways_out()),
    )


def _waits(live: LiveRun) -> bool:
    short = any(live.ready[index] for index in live.short)  # what was short may have gone to another cluster
    splitting = any(live.assigned[step.index] for step in live.graph.steps if step.kind == SPLIT)
    return short or splitting or bool(live.unanswered)


def _is_stuck(book: Book, live: LiveRun) -> bool:
    if (held := narrow.holding(book, live)) is not None:
        rivals = narrow.rivals(book, live, held[0])
        others = any(other.dispatching and _moves(book, other, resting.others(book, other)) for other in rivals)
        rest = resting.others(book, live)
        return not (_may_return(book) or others or _others_may_help(book, live, rest) or _moves(book, live, rest))
    return not (_others_may_help(book, live) or _moves(book, live) or any(_room_comes(book, live)))


def _rests(book: Book, live: LiveRun) -> bool:
    """Nothing of the run is under way here, but for what other clusters may do with units of ours."""
    return not _may_return(book) and not _moves(book, live, live.graph.epochs)


def _others_may_help(book: Book, live: LiveRun, rest: Collection[str] = _NOBODY) -> bool:
    """Whether another cluster may take over what waits here, or send what frees more than it brings. On those that
    `rest` nothing moves."""
    states = live.run.steps
    away = [step for step in live.graph.steps if not states[step.index].closed and not _only_here(live, step, rest)]
    stuck = list(_blocked(book, live))
    if any(not _only_here(live, step, rest) and _goes_elsewhere(book, live, step) for step in stuck):
        return True
    kept_open = _kept_open(stuck)
    return any(
        step.here and not states[step.index].closed and not _waits_in_vain(step, kept_open) and _takes_several(step)
        for step in _behind(away).values()
        if _may_get_more(live, step)
    )


def _may_get_more(live: LiveRun, step: Step) -> bool:
    """Whether units may come before the step of which nothing is here, nor offered."""
    for edge in step.inputs:
        here = len(live.run.edges[edge.index].held) + sum(index == edge.index for index, _ in live.unanswered)
        for producer in edge.producers:
            state = live.run.steps[producer.index]
            here -= sum(each.count for each in state.produced.values())
            if not state.closed:
                return True
        if here < 0:
            return True
    return False


def _goes_elsewhere(book: Book, live: LiveRun, step: Step) -> bool:
    """Whether another cluster may do what waits here before the step. What it offers it may do itself."""
    offered = any(live.graph.edges[edge].consumer is step for edge, _ in live.unanswered)
    return offered or spilling.any_may_go(book, live, step)


def _only_here(live: LiveRun, step: Step, rest: Collection[str] = _NOBODY) -> bool:
    return all(cluster == live.graph.cluster or cluster in rest for cluster in step.executors)


def _blocked(book: Book, live: LiveRun) -> Iterator[Step]:
    """Steps some of whose units are here, or offered, and wait for disk, or a quota."""
    held = list(narrow.paused(live))
    for step in live.graph.steps:
        paused = step.kind == SPLIT and any(disks.pauses(live, step, node) for node in book.nodes.values())
        if paused or step in held or (step.index in live.short and live.ready[step.index]):
            yield step
    for edge, _ in live.unanswered:
        yield live.graph.edges[edge].consumer


def _behind(steps: list[Step]) -> dict[int, Step]:
    """All that follows from these steps."""
    found: dict[int, Step] = {}
    stack = list(steps)
    while stack:
        for consumer in stack.pop().consumers:
            if consumer.index not in found:
                found[consumer.index] = consumer
                stack.append(consumer)
    return found


def _takes_several(step: Step) -> bool:
    """Whether a unit may become a task with others, that were here before it."""
    return step.kind != OUTPUT and not all(_is_alone(edge) for edge in step.inputs)


def _is_alone(edge: Edge) -> bool:
    return edge.pairing == EACH and edge.batch is None


def _kept_open(stuck: list[Step]) -> set[int]:
    """The steps that don't close as long as these are stuck."""
    return {step.index for step in stuck} | _behind(stuck).keys()


def _waits_in_vain(step: Step, kept_open: set[int]) -> bool:
    """Whether the step makes no task before one of these has closed."""
    return any(each.index in kept_open for each in step.awaits)


def _moves(book: Book, live: LiveRun, rest: Collection[str] = _NOBODY) -> bool:
    """Something of the run is under way, or waits for something else than disk. On those that `rest` nothing is."""
    run = live.run
    if not live.dispatching or live.sought or _is_owed(book, live, rest):
        return True
    if not all(_is_judged(live, unit) for unit in live.parked):
        return True
    if any(part.state != OPENED for part in run.parts) or moving.comes(live, rest) or moving.goes(book, live):
        return True
    for incoming in run.incoming.values():
        if any(state == ACCEPTED and edge not in incoming.held for edge, state in incoming.edges.items()):
            return True
    if any(waiting.due for waiting in live.batches.values()):
        return True
    if any(moving.begins(book, live, step) for step in live.graph.steps):
        return True
    return any(moving.goes_on(book, live, task) for task in run.tasks.values())


def _is_judged(live: LiveRun, unit: bytes) -> bool:
    """Whether a unit that tasks wait for is made again by a task, or to be fetched: whether that moves is looked at."""
    maker = live.run.tasks.get(live.run.units[unit].task)
    return (maker is not None and maker.state != DONE) or any(fetched == unit for fetched, _ in live.fetches)


def _is_owed(book: Book, live: LiveRun, rest: Collection[str]) -> bool:
    """Whether another cluster may be done with units of ours, which then go. For those without bytes it waits."""
    if not live.owed:
        return False
    kept_open = _kept_open([step for step in _blocked(book, live) if _only_here(live, step)])
    units = live.run.units
    elsewhere = (edge for edge, unit, out in live.ways_out() if units[unit].copies and out.cluster not in rest)
    return not all(_waits_in_vain(live.graph.edges[edge].consumer, kept_open) for edge in elsewhere)


def _room_comes(book: Book, live: LiveRun) -> Iterator[bool]:
    """Whether somebody who holds space on the cluster's nodes is about to give some back; or a node may come back."""
    yield _may_return(book)
    for other in book.lives.going.values():
        yield other is not live and other.run.units != {} and other.dispatching and _moves(book, other)


def _may_return(book: Book) -> bool:
    """Whether a node is away that is not given up."""
    return any(not node.connected and not node.written_off for node in book.nodes.values())


def _goes_first(book: Book, live: LiveRun) -> bool:
    """Of all that are stuck, the run that fails: of the lowest priority, the newest."""
    stuck = [each for each in book.lives.going.values() if each is live or (_waits(each) and _is_stuck(book, each))]
    lowest = min(each.graph.priority for each in stuck)
    return [each for each in stuck if each.graph.priority == lowest][-1] is live


# ------------------------------------------------------------------------------------------------------------- words


def _words(book: Book, live: LiveRun) -> tuple[str, str]:
    """The step that waits, and what it lacks."""
    step, lacks = _lack(live)
    nodes = [book.nodes[name] for name in live.short.get(step.index, ())] if step is not None else []
    nodes = nodes or [node for node in book.nodes.values() if node.connected]
    name = step.name if step is not None else ""
    where = "; ".join(_holders(book, node) for node in nodes)
    return name, (
        f"the run can't go on for want of disk on {book.cluster}: {lacks}. {where}. "
        "Delete runs whose outputs lie there, give the node more disk, or let the steps make less"
    )


def _lack(live: LiveRun) -> tuple[Step | None, str]:
    for index in sorted(live.short, reverse=True):
        step = live.graph.steps[index]
        if live.ready[index]:
            task = live.run.tasks[live.ready[index][0]]
            writes = disks.in_words(footprint.writes(live, task))
            return (
                step,
                f"{len(live.ready[index])} tasks of step {step.name} wait, and one would write {writes}",
            )
    for step in live.graph.steps:
        if step.kind == SPLIT and live.assigned[step.index]:
            return step, f"{step.name} waits in the middle of a file"
    units = [live.run.units[unit].size for _, unit in live.unanswered]
    return None, f"{len(units)} units of other clusters, of {disks.in_words(sum(units))}, have no place"


def _holders(book: Book, node: Node) -> str:
    held: dict[RunKey, int] = {}
    for key, live in book.lives.items():
        units = live.run.units.values()
        size = sum(unit.size for unit in units if node.name in unit.copies and unit.part < 0)  # files of datasets stay
        if size:
            held[key] = size
    most = sorted(held.items(), key=lambda each: -each[1])[:_NAMED]
    told = ", ".join(f"run {key.run} holds {disks.in_words(size)}" for key, size in most) or "no run holds anything"
    free, whole = disks.in_words(node.disk_free), disks.in_words(node.disk_size)
    return f"Node {node.name} has {free} of {whole} free; {told}"
