"""The books of a coordinator, added up again from its durable state: every room, use, queue and count must agree.

A leak is found at the event that makes it, not at the end of a run that happens to wait for it.
"""

from __future__ import annotations

from collections import Counter

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters.ways import OFFERED, QUEUED
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.fragment import EACH, GATHER_ALL, SPLIT
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.lives import Lives
from cluster_agent.coordinator.space.bounds import stored_by
from cluster_agent.coordinator.state import ASSIGNED, DONE, READY, RETRYING, Task


def audit(core: Coordinator) -> None:
    """AssertionError that says which account is wrong."""
    book = core._book
    for live in book.lives.values():
        if live.going:
            audit_uses(live)
            audit_queues(live)
            audit_ways_out(live)
    audit_room(book)
    audit_lives(book.lives)
    audit_stored(book.lives)


def audit_lives(lives: Lives) -> None:
    """What is kept apart of the runs that go on is what a look at all of them finds."""
    going = {key: live for key, live in lives.items() if live.going}
    assert lives.going == going, "other runs are going than are looked after"
    heard = {name for live in going.values() for name in live.graph.listeners}
    listeners = {name: {key: live for key, live in going.items() if name in live.graph.listeners} for name in heard}
    assert lives.listeners == listeners, "others listen than are told"


def audit_uses(live: LiveRun) -> None:
    """Each unit is held by exactly what still needs it: a task, a group, a way out, a result."""
    run = live.run
    needed: Counter[bytes] = Counter()
    foreign = {(edge, unit) for unit, incoming in run.incoming.items() for edge in incoming.edges}
    needed.update(unit for _, unit in foreign)
    for edge in live.graph.edges:
        state = run.edges[edge.index]
        needed.update(unit for unit in state.outs if (edge.index, unit) not in foreign)  # one that is passed on
        needed.update(unit for unit in state.pairs if (edge.index, unit) not in foreign)
        for unit, copies in state.copies.items():
            needed[unit] += len(copies)
        consumer = run.steps[edge.consumer.index]
        waits = not consumer.formed if edge.pairing == GATHER_ALL or edge.meets else not consumer.let_go
        if edge.pairing == EACH or waits:
            needed.update(unit for unit in state.held if (edge.index, unit) not in foreign)
    for step, unit in run.outputs:
        if not any((edge.index, unit) in foreign for edge in live.graph.steps[step].inputs):
            needed[unit] += 1
    for task in run.tasks.values():
        if task.remake:
            needed.update(unit for units in live.inputs(task) for unit in units)
        elif task.state != DONE and live.graph.steps[task.step].crosses is None:
            for edge, units in zip(live.graph.steps[task.step].inputs, task.inputs, strict=True):
                needed.update(unit for unit in units if (edge.index, unit) not in foreign)
    for identifier in run.bare:
        held = run.tasks[identifier]
        for edge, units in zip(live.graph.steps[held.step].inputs, held.inputs, strict=True):
            if not edge.side:
                needed.update(unit for unit in units if (edge.index, unit) not in foreign)
    for kept in run.units.values():
        assert kept.uses == needed[kept.id], f"a unit has {kept.uses} uses, and {needed[kept.id]} things need it"
        assert kept.uses or not (kept.copies or kept.shared), "a unit that nothing needs keeps its bytes"


def audit_queues(live: LiveRun) -> None:
    """Each task that waits stands in exactly one queue, and each step knows how much it has before it."""
    run = live.run
    queued = [task for queue in live.ready for task in queue]
    assert live.waiting == len(queued), f"{live.waiting} tasks should wait, {len(queued)} do"
    assert len(set(queued)) == len(queued), "a task waits twice"
    parked = {task for tasks in live.parked.values() for task in tasks}
    for identifier in queued:
        task = run.tasks[identifier]
        again = task.state == RETRYING and identifier in live.requeued
        assert task.state == READY or again, f"a task of state {task.state} waits for a node"
    for queue in live.ready:
        awaited = [live.is_awaited(run.tasks[identifier]) for identifier in queue]
        assert awaited == sorted(awaited, reverse=True), "a task that somebody may wait for stands behind one of others"
    assert not live.sought.keys() & set(queued), "a task waits for a node, and for whoever may know its result"
    missing = {task.id for task in run.tasks.values() if task.state == READY} - set(queued) - parked - set(live.sought)
    assert not missing, f"{len(missing)} tasks that are ready wait nowhere"
    for step in live.graph.steps:
        if not step.placed:
            continue
        tasks = [task for task in run.tasks.values() if task.step == step.index]
        assigned = sum(task.state == ASSIGNED for task in tasks)
        assert live.assigned[step.index] == assigned, f"{step.name}: {assigned} tasks are assigned"
        if step.crosses is None:
            before = sum(_driving(live, task) for task in tasks if task.state != DONE and not task.remake)
        else:
            before = sum(len(run.edges[edge.index].pairs) for edge in step.inputs)
        before += sum(
            len(run.edges[edge.index].held)
            for edge in step.inputs
            if edge.pairing == EACH or ((edge.pairing == GATHER_ALL or edge.meets) and not run.steps[step.index].formed)
        )
        assert run.steps[step.index].open == before, f"{step.name}: {before} units are open"


def _driving(live: LiveRun, task: Task) -> int:
    edges = live.graph.steps[task.step].inputs
    return sum(len(units) for edge, units in zip(edges, task.inputs, strict=True) if not edge.side)


def audit_ways_out(live: LiveRun) -> None:
    """What is owed to other clusters is what is on its way to them."""
    outs = [(live.graph.edges[edge], unit, out) for edge, unit, out in live.ways_out()]
    assert live.owed == len(outs), f"{len(outs)} units are on their way out, {live.owed} are owed"
    sent = Counter((out.cluster, edge.consumer.index) for edge, _, out in outs if not edge.side)
    assert {key: count for key, count in live.sent.items() if count} == dict(sent)
    queued = {(cluster, edge, unit) for cluster, queue in live.queued.items() for edge, unit in queue}
    assert queued == {(out.cluster, edge.index, unit) for edge, unit, out in outs if out.state == QUEUED}
    offered = {(cluster, edge, unit) for cluster, offers in live.offered.items() for edge, unit in offers}
    assert offered == {(out.cluster, edge.index, unit) for edge, unit, out in outs if out.state == OFFERED}


def audit_room(book: Book) -> None:
    """The room that a node has given is that of the tasks that it was given."""
    given: dict[str, list[tuple[LiveRun, Task]]] = {}
    for live in book.lives.values():
        for task in live.run.tasks.values():
            if task.state == ASSIGNED:
                given.setdefault(task.node, []).append((live, task))
    for live in book.lives.values():
        promised = sum(size for node in book.nodes.values() for (run, _), size in node.tasks.items() if run == live.key)
        assert live.promised == promised, f"{live.key.run}: {promised} bytes are promised to its tasks"
    for name in {*book.nodes, *given}:
        node = book.nodes[name]
        tasks = given.get(name, [])
        assert set(node.tasks) == {(live.key, task.id) for live, task in tasks}, (
            f"{name}: other tasks than it was given"
        )
        steps = [live.graph.steps[task.step] for live, task in tasks]
        for known, counted in ((node.split_cpus, True), (node.used_cpus, False)):
            given_cpus = sum(step.cpus for step in steps if (step.kind == SPLIT) is counted)
            assert abs(known - given_cpus) < 1e-6, f"{name}: cpus leaked"
        assert node.used_memory == sum(step.memory for step in steps), f"{name}: memory leaked"
        running = {definition: count for definition, count in node.running.items() if count}
        assert running == dict(Counter(step.definition for step in steps)), f"{name}: workers are counted wrong"


def audit_stored(lives: Lives) -> None:
    """What runs and namespaces have stored is what the copies of their units take."""
    by_namespace: Counter[str] = Counter()
    for live in lives.values():
        stored = stored_by(live.run)
        assert live.stored == stored, f"{live.key.run}: {stored} bytes are stored, {live.stored} are counted"
        by_namespace[live.key.namespace] += stored
        for task, window in live.windows.items():
            parts = sum(unit.size * len(unit.copies) for unit in live.run.units.values() if unit.task == task)
            assert window.stored == parts, f"{parts} bytes of a split's parts are stored, {window.stored} are counted"
    assert +lives.stored == +by_namespace, "namespaces have other bytes stored than their runs"
