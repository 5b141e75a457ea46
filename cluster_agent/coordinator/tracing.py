"""Lineage: how a unit came about, so that two ports can be zipped whose units come of the same beginnings.

The lineage of a unit is the number of its dataset's part and, for each task on its way, the number that the unit got on
its port: `2.5` is the sixth piece of the third part, and what a step makes of that piece alone is `2.5.0`. Noughts at
the end are left out, so that a way with a step more leads to the same name. On one port no two units have the same:
they have come through the same steps, and differ in some number. A task that takes several units, or none of a dataset,
is a beginning of its own.

It is kept only in runs with a port that is zipped, and travels with the units.
"""

from __future__ import annotations

from typing import NamedTuple

from cluster_agent.coordinator.fragment import ZIP, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import Part, Task


class Maker(NamedTuple):
    """What a unit inherits of whatever makes it."""

    lineage: str
    origin: str


def of_task(live: LiveRun, step: Step, task: Task) -> Maker:
    """What a task hands on."""
    if not live.graph.zips:
        return Maker("", task.origin)
    single = step.driving is not None and step.driving.batch is None and step.crosses is None
    if not single and not any(edge.pairing == ZIP for edge in step.meets):
        return Maker(task.id.hex() if step.inputs else "", task.origin)
    position = step.drives if single else step.inputs.index(step.meets[0])
    return Maker(live.run.units[task.inputs[position][0]].lineage, task.origin)


def of_part(live: LiveRun, part: Part) -> Maker:
    """What a part of a dataset hands on."""
    return Maker(str(part.index), live.graph.cluster)


def lineage(live: LiveRun, maker: Maker, index: int) -> str:
    """Of the unit that was made with this number; "" in runs that need none."""
    if not live.graph.zips:
        return ""
    found = f"{maker.lineage}.{index}"
    while found.endswith(".0"):
        found = found[:-2]
    return found
