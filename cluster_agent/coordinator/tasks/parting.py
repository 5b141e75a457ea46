"""How many parts a split makes that is to make one for each slot of the step that reads them.

That is decided when the split is first given to a node, and logged with it: attempts after the first, and the same task
once the run has begun again, make the same parts. So it does not matter that there are other slots then.
"""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import estimating, loads
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import Task

_MOST: Final = 10_000


def parts(book: Book, live: LiveRun, step: Step, task: Task) -> int:
    """How many parts the task makes, if that is for us to decide and not decided; else 0."""
    if not step.per_slot or task.parts:
        return 0
    known = live.run.known.get(task.id)
    if known is not None and known.parts:
        return known.parts
    slots = sum(
        _slots(book, live, reader, cluster)
        for reader in step.consumers
        for cluster in ((book.cluster,) if reader.pinned else reader.executors)
    )
    return max(1, min(int(slots), _MOST))


def _slots(book: Book, live: LiveRun, reader: Step, cluster: str) -> float:
    """How many tasks of the step a cluster executes at a time: ours as it is, another as it says, else as planned."""
    if cluster == book.cluster:
        return reader.slots or loads.slots(book, live, reader)
    told = book.loads.peers.get(cluster)
    said = told.steps.get(reader.definition) if told is not None else None
    return said.slots if said is not None else estimating.planned_slots(book, live, reader, cluster)
