"""Lineage: how a unit came about, so that two ports can be zipped whose units come of the same beginnings.

The lineage of a unit is the number of its dataset's part and, for each task on its way, the number that the unit got on
its port: 2.5 is the sixth piece of the third part, and what a step makes of that piece alone is 2.5.0. Its *name*
leaves out the noughts at the end, so that a way with a step more at its end leads to the same name. On one port no two
units have the same: they have come through the same steps, so their lineages are of one length, and differ in some
number. (Where a port reads several, one unit may come by two of them; then it is not clear which is to be zipped, and
the run says so.) Noughts at the end are only counted in what is kept, `2.5+1`, since a chain may have very many steps.
A task that takes several units, or none of a dataset, is a beginning of its own.

It is kept only in runs with a port that is zipped, and travels with the units.

A merge puts units together in the order of their lineage. There a unit's place is told in bytes that sort as the
numbers do, and what a task makes of several units stands where the first of them does. So that is another thing than
the name above, and kept for the steps whose units a merge will ask for.
"""

from __future__ import annotations

from typing import NamedTuple

from cluster_agent.coordinator.fragment import ZIP, Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import Part, Task


class Maker(NamedTuple):
    """What a unit inherits of whatever makes it."""

    lineage: str
    origin: str
    order: bytes = b""


def of_task(live: LiveRun, step: Step, task: Task) -> Maker:
    """What a task hands on."""
    order = _order(live, step, task) if step.ordered else b""
    if not live.graph.zips:
        return Maker("", task.origin, order)
    single = step.driving is not None and step.driving.batch is None and step.crosses is None
    if not single and not any(edge.pairing == ZIP for edge in step.meets):
        return Maker(task.id.hex() if step.inputs else "", task.origin, order)
    position = step.drives if single else step.inputs.index(step.meets[0])
    return Maker(live.run.units[task.inputs[position][0]].lineage, task.origin, order)


def _order(live: LiveRun, step: Step, task: Task) -> bytes:
    """The place of what a task makes, before its index."""

    def first(edge: Edge) -> bytes:
        return min((live.run.units[unit].order for unit in task.inputs[step.inputs.index(edge)]), default=b"")

    if step.driving is None:
        return min(map(first, step.meets), default=b"")
    return first(step.driving) + (first(step.crosses) if step.crosses is not None else b"")


def rank(index: int) -> bytes:
    """An index in bytes that sort like the numbers, none of which begins as another one is."""
    written = index.to_bytes((index.bit_length() + 7) // 8, "big")
    return bytes([len(written)]) + written


def of_part(live: LiveRun, part: Part) -> Maker:
    """What a part of a dataset hands on."""
    return Maker(str(part.index), live.graph.cluster, rank(part.index))


def lineage(live: LiveRun, maker: Maker, index: int) -> str:
    """Of the unit that was made with this number; "" in runs that need none."""
    if not live.graph.zips:
        return ""
    numbers, _, noughts = maker.lineage.partition("+")
    if not index:
        return f"{numbers}+{int(noughts or 0) + 1}"
    return f"{numbers}{'.0' * int(noughts or 0)}.{index}"


def name(found: str) -> str:
    """What units that are zipped have in common of their lineages."""
    return found.partition("+")[0]
