"""What a cluster still knows when a run begins again: results of tasks, by their inputs' contents.

A newer fragment of a run is a new beginning: nothing is counted over two revisions of a plan, so that what a replaced
cluster did, and all that descends from it, is gone. But a task that was done here need not be executed again. Its
result is remembered, and where the same task forms anew, on the same bytes, it is taken from there, see `recalling`.

    newer fragment ─▶ `remembered` of the old one ─▶ Run.known ─▶ a task forms ─▶ Recalled ─▶ its units go on

What a lost cluster had done is known from what it told with its units (Run.makers, see `hearsay`). Who forms such a
task and does not know it itself asks the others, see `seeking`.

The same holds for a line that begins beside another (`beside`): it has the other's results, and its nodes give the
units a name in the new line; the other one keeps all it has, and goes on.
"""

from __future__ import annotations

from blake3 import blake3

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import records
from cluster_agent.coordinator.clusters.ways import GRANTED, HEARD, EdgeState
from cluster_agent.coordinator.fragment import EACH, TASK, Edge, Graph
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.space import copies
from cluster_agent.coordinator.state import DONE, Known, KnownOutput, Task, Unit
from cluster_agent.coordinator.units.infos import unit_info
from cluster_agent.orders.messages import Output
from wire.digests import task_id, unit_ids
from wire.lines import is_second, run_of

# ----------------------------------------------------------------------------------------------- a new beginning


def remembered(old: LiveRun) -> dict[bytes, Known]:
    """The tasks that were done here, those of others whose units came here, and what was known before of others."""
    known = {identifier: _its_own(entry) for identifier, entry in old.run.known.items()}
    for identifier, made in old.run.makers.items():
        if not made.lacking:
            known[identifier] = _of_others(old, made)
    for task in old.run.tasks.values():
        if task.state == DONE or task.remake:
            entry = result(old, task)
            if entry is not None:
                known[task.id] = entry
    return known


def _its_own(entry: Known) -> Known:
    """The older line may go on beside, and free what it has of it."""
    outputs = [KnownOutput(each.port, each.index, each.unit, list(each.copies)) for each in entry.outputs]
    return Known(entry.inputs, outputs, entry.parts)


def result(old: LiveRun, task: Task) -> Known | None:
    """What a task that was done has made; None where that, or what it read, can't be told any more."""
    if task.surrendered:
        return None  # it is tried once more
    units = old.run.units
    read = contents(old, task)
    if read is None or any(units[unit].generation for ids in old.inputs(task) for unit in ids):
        return None  # a unit that was made again with other bytes may have been read before
    outputs = outputs_of(old, task)
    if outputs is None:
        return None
    found = [KnownOutput(each.port, each.index, each.unit, list(units[each.unit.id].copies)) for each in outputs]
    return Known(read, found, task.parts)


def outputs_of(live: LiveRun, task: Task) -> list[Output] | None:
    """What a task that is done has made, port by port; None where that can't be told any more."""
    units = live.run.units
    found = []
    made = set(task.outputs)
    for port in live.graph.steps[task.step].ports:
        identify = unit_ids(task.id, port)
        index = 0
        while (unit := units.get(identify(index))) is not None and unit.id in made:
            found.append(Output(port, index, unit_info(unit)))
            index += 1
    return found if len(found) == len(made) else None


def _of_others(old: LiveRun, entry: Known) -> Known:
    """What another cluster has made, with those of its units that have come here."""
    outputs = []
    for each in entry.outputs:
        unit = old.run.units.get(each.unit.id)
        same = unit is not None and unit.digest == each.unit.digest
        outputs.append(KnownOutput(each.port, each.index, each.unit, list(unit.copies) if unit and same else []))
    return Known(entry.inputs, outputs)


def contents(live: LiveRun, task: Task) -> bytes | None:
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
    """Where a second line of a run begins here: the line beside which it does, if we have it.

    That is the run's first one, or where that counts no more the newest.
    """
    if not is_second(key.run):
        return None
    first = book.lives.get(RunKey(key.namespace, run_of(key.run)))
    return first or max(
        (live for live in book.lives.values() if are_lines_of_one_run(live.key, key)),
        key=lambda live: live.graph.revision,
        default=None,
    )


def are_lines_of_one_run(one: RunKey, other: RunKey) -> bool:
    """Whether these are two lines of a run."""
    return one != other and one.namespace == other.namespace and run_of(one.run) == run_of(other.run)


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


def orphans(old: LiveRun, graph: Graph) -> list[int]:
    """Steps of a newer fragment that a cluster had a part in which takes part no more."""
    then = {step.name: step for step in old.graph.steps}
    still = {old.graph.steps[index].name for index in old.run.orphans}
    return [
        step.index
        for step in graph.steps
        if step.kind == TASK
        and (step.name in still or (step.name in then and not graph.epochs.keys() >= set(then[step.name].executors)))
    ]


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


def executed(book: Book, live: LiveRun, task: bytes, node: str) -> None:
    """The task was executed all the same: what was remembered of it holds no more. Part of applying a record."""
    entry = live.run.known.pop(task, None)
    for each in entry.outputs if entry is not None else ():
        if node in each.copies:
            copies.take_known(book, live, each, node)  # it has put the new bytes in the place of these
        free(book, live, each)


def heard(book: Book, live: LiveRun, task: bytes, made: records.Made) -> None:
    """Another cluster has done the task on what it reads now. We may remember it on other bytes. Part of applying."""
    former = live.run.known.get(task)
    for each in former.outputs if former is not None else ():
        free(book, live, each)
    outputs = [KnownOutput(each.port, each.index, each.unit, []) for each in made.outputs]
    live.run.known[task] = Known(made.contents, outputs)


def offered(book: Book, live: LiveRun, unit: Unit) -> None:
    """Another cluster has made the unit in our place: our copies serve if they are the same. Part of applying one."""
    entry = live.run.known.get(unit.task)
    for each in entry.outputs if entry is not None else ():
        if each.unit.id == unit.id:
            if each.unit.digest == unit.digest:
                copies.adopt(book, live, unit, each)
            else:
                free(book, live, each)


def free(book: Book, live: LiveRun, output: KnownOutput) -> None:
    """Nobody needs the bytes of what was remembered. Part of applying a record."""
    for node in output.copies:
        book.free(node, live.key, output.unit.id)
    copies.clear_known(book, live, output)
