"""How tasks form from units: one for each unit, one for a unit and its side inputs, one for all units of a step.

A unit is *delivered* once its bytes are on this cluster and this cluster executes its consumer. On a driving port it
becomes a task at once, or waits for the side inputs or for others (see `batching`, `crossing`); on a side port and on
a gathering port it is held. Side inputs are complete when their producers can make no more of them here, those of a
broadcast when all that was made anywhere has come, and so is a gathering step. These are decisions, and logged.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import EACH, MERGE, OUTPUT, SOURCE, Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import READY, Task, Unit
from cluster_agent.coordinator.stored import Sum
from cluster_agent.coordinator.tasks import records
from wire.digests import task_id


def deliver(live: LiveRun, edge: Edge, unit: Unit) -> None:
    """The unit is here for the consumer on `edge`. Part of applying a record."""
    step = edge.consumer
    state = live.run.steps[step.index]
    if step.kind == OUTPUT:
        unit.kept = True
        add(state.consumed, edge.port, unit.id)
        state.done += 1
        live.run.outputs.append((step.index, unit.id))
        live.results.append((step.index, unit.id))
        live.check.add(step.index)
    elif edge.pairing == EACH:
        state.open += 1
        if edge.batch is not None or step.crosses is not None:
            live.run.edges[edge.index].held[unit.id] = None
            if step.index in live.batches:
                live.batches[step.index].size += unit.size
            live.check.add(step.index)
        elif not step.sides or state.formed:
            _form(live, step, [[unit.id] if port is edge else [] for port in step.inputs], unit.origin)
        else:
            live.run.edges[edge.index].held[unit.id] = None
            live.check.add(step.index)
    else:
        edge_state = live.run.edges[edge.index]
        edge_state.held[unit.id] = None
        edge_state.arrived.add(unit.id)
        live.check.add(step.index)
        if not edge.side:
            state.open += 1


def form_due(book: Book, live: LiveRun, step: Step) -> None:
    """Form the groups of a step if what they wait for has come."""
    state = live.run.steps[step.index]
    if state.formed or not step.placed:
        return
    if step.gathers or not step.inputs:
        if gathers_here(live, step) and all(_all_came(live, edge) for edge in step.gathers):
            book.commit(records.Gathered(live.key, step.index))
    elif step.sides and not step.meets and step.here and all(sides_came(book, live, edge) for edge in step.sides):
        book.commit(records.SidesComplete(live.key, step.index))


def gathers_here(live: LiveRun, step: Step) -> bool:
    """The one task of a step that gathers, or that has no inputs, is this cluster's."""
    if not step.inputs:
        return step.counts
    return step.here and step.executors[0] == live.graph.cluster


def _all_came(live: LiveRun, edge: Edge) -> bool:
    if not all(live.run.steps[producer.index].closed for producer, _ in edge.made):
        return False
    return made(live, edge) == live.run.edges[edge.index].arrived


def made(live: LiveRun, edge: Edge) -> Sum:
    """All units that the closed producers of an edge have made for it, anywhere."""
    whole = Sum()
    for producer, port in edge.made:
        whole.include(total(live.run.steps[producer.index].final.get(port, {})))
    return whole


def sides_came(book: Book, live: LiveRun, edge: Edge) -> bool:
    """All units of a side input that can be read here have come. What a source makes is delivered at once."""
    if edge.copied:
        return _all_came(live, edge)
    expected = Sum()
    for producer, port in edge.made:
        state = live.run.steps[producer.index]
        if producer.kind == SOURCE:
            if not live.parts_open(producer.index):
                return False
            here = state.produced.get(port)
        elif not state.closed:
            return False
        else:
            here = state.final.get(port, {}).get(book.cluster)
        if here is not None:
            expected.include(here)
    return expected == live.run.edges[edge.index].arrived


def apply_sides_complete(book: Book, record: records.SidesComplete) -> None:
    """See records."""
    live = book.lives[record.run]
    step = live.graph.steps[record.step]
    live.run.steps[step.index].formed = True
    driving = step.driving
    book.touch(live)
    if driving is None or driving.batch is not None or step.crosses is not None:
        live.check.add(step.index)
        return
    held = live.run.edges[driving.index].held
    for unit_id in held:
        inputs = [[unit_id] if port is driving else [] for port in step.inputs]
        _form(live, step, inputs, live.run.units[unit_id].origin)
    held.clear()


def apply_gathered(book: Book, record: records.Gathered) -> None:
    """See records."""
    live = book.lives[record.run]
    step = live.graph.steps[record.step]
    live.run.steps[step.index].formed = True
    inputs = [in_order(live, edge) for edge in step.inputs]
    _form(live, step, inputs, origin_of(live, inputs) if step.inputs else book.cluster)
    book.touch(live)


def in_order(live: LiveRun, edge: Edge) -> list[bytes]:
    """The units held, as a task reads them: what is merged, by lineage."""
    held = live.run.edges[edge.index].held
    if edge.consumer.kind == MERGE:
        return sorted(held, key=lambda unit: (live.run.units[unit].order, unit))
    return sorted(held)


def origin_of(live: LiveRun, inputs: list[list[bytes]]) -> str:
    """The cluster that all of these stem from; "" if there are several, or none."""
    origins = {live.run.units[unit].origin for units in inputs for unit in units}
    return origins.pop() if len(origins) == 1 else ""


def _form(live: LiveRun, step: Step, inputs: list[list[bytes]], origin: str) -> None:
    live.make_ready(form(live, step, inputs, origin))


def form(live: LiveRun, step: Step, inputs: list[list[bytes]], origin: str) -> Task:
    """A task comes into being. Part of applying a record."""
    graph = live.graph
    task = Task(b"", step.index, inputs, origin, READY, live.run.attempts_before)
    named = [(edge.port, units) for edge, units in zip(step.inputs, live.inputs(task), strict=True)]
    task.id = task_id(graph.namespace, graph.run, step.name, named)
    live.run.tasks[task.id] = task
    if live.run.remembers or step.cache_key:
        live.formed.append(task.id)
    return task


def add(sums: dict[str, Sum], port: str, identifier: bytes) -> None:
    """Put an id into the sum of a port."""
    found = sums.get(port)
    if found is None:
        found = sums[port] = Sum()
    found.add(identifier)


def total(by_cluster: dict[str, Sum]) -> Sum:
    """The union of disjoint sets."""
    union = Sum()
    for part in by_cluster.values():
        union.include(part)
    return union
