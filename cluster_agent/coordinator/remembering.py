"""What a cluster still knows when a run begins again: results of tasks, by their inputs' contents.

A newer fragment of a run is a new beginning: nothing is counted over two revisions of a plan, so that what a replaced
cluster did, and all that descends from it, is gone. But a task that was done here need not be executed again. Its
result is remembered, and where the same task forms anew, on the same bytes, it is taken from there (`recall`).

    newer fragment ─▶ `remembered` of the old one ─▶ Run.known ─▶ a task forms ─▶ Recalled ─▶ its units go on

The same holds for a line that begins beside another (`beside`): it has the other's results, and its nodes give the
units a name in the new line; the other one keeps all it has, and goes on.

What was freed meanwhile is remembered without its bytes. Mostly nobody asks for them, since whoever had them is done
as well; where somebody does, they are made again as anything that got lost. So the inputs of such a task are held until
nobody needs its outputs, over clusters too: a sender is not told that it may free them. For the same reason a unit that
comes from another cluster is taken without its bytes where the result of its task is known.
"""

from __future__ import annotations

from blake3 import blake3

from cluster_agent.coordinator import mending, records, routing, tracing
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.committing import consume
from cluster_agent.coordinator.fragment import EACH, TASK, Edge, Graph
from cluster_agent.coordinator.live import LiveRun, unit_info
from cluster_agent.coordinator.making import make
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.state import DONE, GRANTED, HEARD, READY, EdgeState, Known, KnownOutput, Task, Unit
from cluster_agent.orders.messages import Output
from wire.digests import task_id, unit_ids
from wire.lines import is_second, run_of

# ----------------------------------------------------------------------------------------------- a new beginning


def remembered(old: LiveRun) -> dict[bytes, Known]:
    """The tasks that were done here, and those that were known before and have not formed since."""
    known = dict(old.run.known)
    for task in old.run.tasks.values():
        if task.state == DONE or task.remake:
            entry = _entry(old, task)
            if entry is not None:
                known[task.id] = entry
    return known


def _entry(old: LiveRun, task: Task) -> Known | None:
    """None where the ports of its outputs, or what it read, can't be told any more."""
    if task.surrendered:
        return None  # it is tried once more
    units = old.run.units
    contents = _contents(old, task)
    if contents is None or any(units[unit].generation for ids in old.inputs(task) for unit in ids):
        return None  # a unit that was made again with other bytes may have been read before
    outputs = []
    made = set(task.outputs)
    for port in old.graph.steps[task.step].ports:
        identify = unit_ids(task.id, port)
        index = 0
        while (unit := units.get(identify(index))) is not None and unit.id in made:
            outputs.append(KnownOutput(port, index, unit_info(unit), list(unit.copies)))
            index += 1
    return Known(contents, outputs, task.parts) if len(outputs) == len(made) else None


def _contents(live: LiveRun, task: Task) -> bytes | None:
    """What the task reads, as one digest: the content of each input, port by port."""
    hasher = blake3()
    for ids in live.inputs(task):
        hasher.update(len(ids).to_bytes(8, "big"))
        for identifier in ids:
            unit = live.run.units.get(identifier)
            if unit is None:
                return None
            hasher.update(unit.digest)
    return hasher.digest(length=16)


def beside(book: Book, key: RunKey) -> LiveRun | None:
    """Where a second line of a run begins here: the line beside which it does, if we have it."""
    return book.lives.get(RunKey(key.namespace, run_of(key.run))) if is_second(key.run) else None


def kept_on(known: dict[bytes, Known], node: str) -> list[bytes]:
    """The units of remembered results that a node holds."""
    return [each.unit.id for entry in known.values() for each in entry.outputs if node in each.copies]


def ways_of(old: LiveRun, graph: Graph) -> dict[str, dict[bytes, str]]:
    """Edge -> unit -> the cluster that has it, or is done with it: its next task may be known there."""
    ways: dict[str, dict[bytes, str]] = {}
    for edge in old.graph.edges:
        state: EdgeState = old.run.edges[edge.index]
        granted = {unit: out.cluster for unit, out in state.outs.items() if out.state in (GRANTED, HEARD)}
        there = {unit: cluster for unit, cluster in {**state.went, **granted}.items() if cluster in graph.epochs}
        if there:
            ways[edge.id] = there
    return ways


# ----------------------------------------------------------------------------------------------- what is known


def place(book: Book, live: LiveRun, edge: Edge, unit: bytes) -> str:
    """The cluster where the result of the unit's next task is known, as far as we can tell; "" for none."""
    if not live.run.remembers:
        return ""
    if edge.consumer.here and _next_task(live, edge, unit) in live.run.known:
        return book.cluster
    return live.run.edges[edge.index].went.get(unit, "")


def needs_no_bytes(live: LiveRun, edge: Edge, unit: Unit) -> bool:
    """The unit becomes one task whose result is known."""
    if not live.run.remembers or edge.pairing != EACH or edge.consumer.kind != TASK:
        return False
    if edge.consumer.sides or edge.batch is not None:
        return False
    entry = live.run.known.get(_next_task(live, edge, unit.id))
    if entry is None:
        return False
    return entry.inputs == blake3((1).to_bytes(8, "big") + unit.digest).digest(length=16)


def _next_task(live: LiveRun, edge: Edge, unit: bytes) -> bytes:
    return task_id(live.key.namespace, live.key.run, edge.consumer.name, [(edge.port, [unit])])


def recall(book: Book, live: LiveRun) -> None:
    """Take what is known of the tasks that have formed; see to the bytes of those that must be executed."""
    lacking: list[bytes] = []
    while live.formed:
        task = live.run.tasks.get(live.formed.popleft())
        if task is None or task.state != READY or task.remake or not live.going:
            continue
        crossed = live.graph.steps[task.step].crosses is not None  # its driving unit is consumed with others
        entry = live.run.known.get(task.id) if not crossed else None
        if entry is not None and entry.inputs == _contents(live, task):
            step = live.graph.steps[task.step]
            outputs = [Output(each.port, each.index, each.unit) for each in entry.outputs]
            chosen = routing.routes(book, live, step, outputs, tracing.of_task(live, step, task))
            book.commit(records.Recalled(live.key, task.id, chosen))
            book.publish(live, "task.recalled", step.name, task.id, {"units": len(outputs)})
            lacking += [unit for unit in task.outputs if live.run.units[unit].kept]
        else:
            lacking += [unit for ids in live.inputs(task) for unit in ids]
    if lacking:
        mending.miss(book, live, lacking)


def apply_recalled(book: Book, record: records.Recalled) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks[record.task]
    step = live.graph.steps[task.step]
    entry = live.run.known.pop(task.id)
    for each in entry.outputs:
        for name in live.strays.pop(each.unit.id, ()):
            if name not in each.copies:
                book.free(name, live.key, each.unit.id)
    live.unready(task)
    task.state = DONE
    task.parts = entry.parts
    outputs = [Output(each.port, each.index, each.unit) for each in entry.outputs]
    maker = tracing.of_task(live, step, task)
    task.outputs = make(book, live, step, task.id, outputs, record.routes, maker, node="")
    for each in entry.outputs:
        unit = live.run.units[each.unit.id]
        if unit.uses:
            unit.copies = each.copies
        else:
            _free(book, live, each)
    state = live.run.steps[step.index]
    state.done += 1
    made = [live.run.units[unit] for unit in task.outputs]
    bare = any(unit.uses and not unit.copies for unit in made)
    if bare:
        live.run.bare[task.id] = None
    consume(book, live, step, task, hold=bare)
    if not state.open:
        live.check.add(step.index)
    book.touch(live)


def executed(book: Book, live: LiveRun, task: bytes, node: str) -> None:
    """The task was executed all the same: what was remembered of it holds no more. Part of applying a record."""
    entry = live.run.known.pop(task, None)
    for each in entry.outputs if entry is not None else ():
        if node in each.copies:
            each.copies.remove(node)  # it has put the new bytes in the place of these
        _free(book, live, each)


def offered(book: Book, live: LiveRun, unit: Unit) -> None:
    """Another cluster has made the unit in our place: our copies serve if they are the same. Part of applying one."""
    entry = live.run.known.get(unit.task)
    for each in entry.outputs if entry is not None else ():
        if each.unit.id == unit.id:
            if each.unit.digest == unit.digest:
                unit.copies, each.copies = each.copies, []
            else:
                _free(book, live, each)


def _free(book: Book, live: LiveRun, output: KnownOutput) -> None:
    for node in output.copies:
        book.free(node, live.key, output.unit.id)
    output.copies = []
