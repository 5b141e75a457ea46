"""How long a node's tasks take, and what they make: units whose content follows from their id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cluster_agent.node.works import Assignment
from cluster_agent.orders.messages import Output, UnitInfo
from simulator.trials.bulk import UNIT_BYTES
from wire.digests import bytes_digest, unit_id


@dataclass
class Pace:
    """How a node works, whichever daemon it has: seconds of a task by step, and how often a worker dies over one."""

    seconds: Callable[[str, bytes], float]
    slow: float = 1.0
    dies: Callable[[bytes, int], bool] = lambda _task, _attempt: False
    start_seconds: float = 0.05
    made_of: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)  # unit -> those of sources and splits in it


def made(task: Assignment, pace: Pace) -> tuple[Output, ...]:
    """What a task makes."""
    execution = task.work.execution
    cuts = execution.HasField("split")
    count = (task.order.parts or execution.split.split.count or 1) if cuts else 1
    inputs = [unit.id for units in task.order.inputs for unit in units]
    within = sorted(each for unit in inputs for each in pace.made_of.get(unit, (unit,)))
    found = []
    for port in task.work.outputs:
        for index in range(count):
            identifier = unit_id(task.key.task, port.name, index)
            if not cuts:
                pace.made_of[identifier] = tuple(within)
            digest = bytes_digest(identifier)
            unit = UnitInfo(identifier, digest, UNIT_BYTES, task=task.key.task, name="unit")
            found.append(Output(port.name, index, unit))
    return tuple(found)
