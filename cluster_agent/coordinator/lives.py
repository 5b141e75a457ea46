"""The live sides of all runs: kept apart by what is done with them, and made anew from the durable state."""

from __future__ import annotations

from collections import Counter

from cluster_agent.coordinator.clusters.ways import OFFERED, QUEUED
from cluster_agent.coordinator.fragment import Graph
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes.node import Nodes
from cluster_agent.coordinator.nodes.room import take_room
from cluster_agent.coordinator.state import ASSIGNED, PENDING, READY, Run


class Lives(dict[RunKey, LiveRun]):
    """All runs that we have, and apart from those that have ended: what is going, and who listens.

    Runs that have ended stay until nobody wants their results, and there may be very many of them. What is done in each
    batch looks at the others alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.going: dict[RunKey, LiveRun] = {}  # those that have not ended
        self.listeners: dict[str, dict[RunKey, LiveRun]] = {}  # of these: cluster that may send us units -> runs
        self.stored: Counter[str] = Counter()  # namespace -> bytes, of all runs

    def take(self, live: LiveRun) -> None:
        """Put a run in, or another live side in the place of what it had."""
        self.set_aside(live.key)
        if live.key in self:
            del self[live.key]
        self[live.key] = live
        self.stored[live.key.namespace] += live.stored
        if live.going:
            self.going[live.key] = live
            for cluster in live.graph.listeners:
                self.listeners.setdefault(cluster, {})[live.key] = live

    def __delitem__(self, run: RunKey) -> None:
        self.stored[run.namespace] -= self[run].stored
        super().__delitem__(run)

    def set_aside(self, run: RunKey) -> None:
        """The run has ended, or is about to be dropped; nothing happens if it had ended before."""
        live = self.going.pop(run, None)
        if live is None:
            return
        for cluster in live.graph.listeners:
            runs = self.listeners[cluster]
            del runs[run]
            if not runs:
                del self.listeners[cluster]


def rebuilt(run: Run, graph: Graph, nodes: Nodes, now: float) -> LiveRun:
    """The live side of a durable run, with its tasks counted against their nodes' room."""
    live = LiveRun(run, graph)
    for step in graph.concerned:
        if run.steps[step.index].closed:
            live.unclosed -= 1
    for edge, unit, out in live.ways_out():
        if out.state == QUEUED:
            live.queue_out(out.cluster, edge, unit)
            continue
        live.count_out(out.cluster, edge, 1)
        if out.state == OFFERED:
            live.offered.setdefault(out.cluster, {})[edge, unit] = now
    if live.going:
        live.pending_parts.extend(index for index, part in enumerate(run.parts) if part.state == PENDING)
        for task in run.tasks.values():
            if task.state == READY:
                live.make_ready(task)
                if run.remembers or graph.steps[task.step].cache_key:
                    live.formed.append(task.id)
            elif task.state == ASSIGNED:
                live.assigned[task.step] += 1
                take_room(nodes, live, task)
    live.check.update(range(len(graph.steps)))
    return live
