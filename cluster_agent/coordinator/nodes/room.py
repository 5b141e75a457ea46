"""The room that a task takes on the node that it is given to: processors, memory and disk, its run's hold, its worker.

What is taken with `take_room` is given back by `give_room`, once, when the task leaves the node.
"""

from __future__ import annotations

from cluster_agent.coordinator.fragment import SPLIT
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes.node import Nodes
from cluster_agent.coordinator.space import footprint
from cluster_agent.coordinator.state import Task


def take_room(nodes: Nodes, live: LiveRun, task: Task) -> None:
    """Count a task against the room of the node that it is assigned to."""
    node = nodes[task.node]
    step = live.graph.steps[task.step]
    node.running[step.definition] = node.running.get(step.definition, 0) + 1
    if step.kind == SPLIT:
        node.split_cpus += step.cpus
    else:
        node.used_cpus += step.cpus
        node.used_memory += step.memory
        if (hold := node.holds.get(live.key)) is not None:
            hold.used.add(step.cpus, step.memory)
    promised = footprint.promised(live, task, node.name)
    if task.attempt == 1:  # it may go on by itself; where it is told not to, that is given back
        promised += footprint.follows(live, step)
    node.promised += promised
    live.promised += promised
    node.tasks[live.key, task.id] = promised


def give_room(nodes: Nodes, live: LiveRun, task: Task) -> None:
    """The task is not on its node any more."""
    node = nodes[task.node]
    step = live.graph.steps[task.step]
    promised = node.tasks.pop((live.key, task.id))
    node.promised -= promised
    live.promised -= promised
    if live.windows:
        live.windows.pop(task.id, None)
    node.running[step.definition] -= 1
    if step.kind == SPLIT:
        node.split_cpus -= step.cpus
    else:
        node.used_cpus -= step.cpus
        node.used_memory -= step.memory
        if (hold := node.holds.get(live.key)) is not None:
            hold.used.add(-step.cpus, -step.memory)
    if not node.tasks:  # so that rounding does not add up
        node.used_cpus = node.split_cpus = 0.0
        node.used_memory = 0
    live.started.pop(task.id, None)
    live.missing.pop(task.id, None)
