"""A task that forms and whose result is remembered is done without being executed, see `remembering`.

What was freed meanwhile is remembered without its bytes. Mostly nobody asks for them, since whoever had them is done
as well; where somebody does, they are made again as anything that got lost. So the inputs of such a task are held until
nobody needs its outputs, over clusters too: a sender is not told that it may free them. For the same reason a unit that
comes from another cluster is taken without its bytes where the result of its task is known.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import records, remembering
from cluster_agent.coordinator.clusters import routing
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.space import copies
from cluster_agent.coordinator.state import DONE, Task
from cluster_agent.coordinator.tasks import tracing
from cluster_agent.coordinator.tasks.committing import consume
from cluster_agent.coordinator.tasks.making import make
from cluster_agent.orders.messages import Output


def recall(book: Book, live: LiveRun, task: Task) -> list[bytes] | None:
    """Take what is known of a task that has formed; those of its units whose bytes are needed. None: nothing is."""
    step = live.graph.steps[task.step]
    entry = live.run.known.get(task.id)
    if entry is None or step.crosses is not None or entry.inputs != remembering.contents(live, task):
        return None  # a driving unit that is crossed is consumed with others
    outputs = [Output(each.port, each.index, each.unit) for each in entry.outputs]
    chosen = routing.routes(book, live, step, outputs, tracing.of_task(live, step, task))
    book.commit(records.Recalled(live.key, task.id, chosen))
    book.publish(live, "task.recalled", step.name, task.id, {"units": len(outputs)})
    return [unit for unit in task.outputs if live.run.units[unit].kept]


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
            copies.adopt(book, live, unit, each)
        else:
            remembering.free(book, live, each)
    state = live.run.steps[step.index]
    state.done += 1
    state.reused += 1
    made = [live.run.units[unit] for unit in task.outputs]
    bare = any(unit.uses and not unit.copies for unit in made)
    if bare:
        live.run.bare[task.id] = None
    consume(book, live, step, task, hold=bare)
    if not state.open:
        live.check.add(step.index)
    book.touch(live)
