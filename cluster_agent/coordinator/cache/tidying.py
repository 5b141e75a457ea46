"""What people ask of the cache: what it has, step by step, and that it gives some of it up.

What is given up is told once it is in the log. Nodes drop its bytes then, as they do with whatever the table has no
room for. What a run has taken already it keeps; a task that waits for such a result just now is executed, so that it
does not come back with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from bdw_fed.v1 import control_plane_pb2, federation_pb2
from cluster_agent.coordinator.actions import Answered
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import caching, seeking
from cluster_agent.coordinator.messages import ClearAsked
from cluster_agent.coordinator.state import Cached


def kept(book: Book, namespace: str, step: str) -> list[control_plane_pb2.CachedStep]:
    """What the cache has of a namespace, or of one of its steps: NAME, or NAME@VERSION; empty: of all."""
    entries = (entry for entry in book.state.cached.values() if entry.namespace == namespace)
    return _summed(book.cluster, (entry for entry in entries if _is_of(entry.step, step)))


def on_clear(book: Book, event: ClearAsked) -> None:
    """Some of the results are not wanted any more."""

    def is_old(executed: float) -> bool:
        return not event.age or caching.too_old(book, executed, event.age)

    unwanted = {
        key: entry
        for key, entry in book.state.cached.items()
        if entry.namespace == event.namespace and _is_of(entry.step, event.step) and is_old(entry.executed)
    }
    caching.drop(book, unwanted)
    for live in book.lives.going.values():
        if live.key.namespace == event.namespace:
            for task, sought in list(live.sought.items()):
                definition = live.graph.steps[live.run.tasks[task].step].definition
                if sought.key and _is_of(definition, event.step) and is_old(sought.executed):
                    seeking.settle(book, live, task)
    told = federation_pb2.CachedSteps(steps=_summed(book.cluster, unwanted.values()))
    book.actions.append(Answered(event.number, told.SerializeToString()))


def _is_of(definition: str, step: str) -> bool:
    return step in ("", definition, definition.partition("@")[0])


def _summed(cluster: str, entries: Iterable[Cached]) -> list[control_plane_pb2.CachedStep]:
    """A line for each step, by name."""
    found: dict[str, control_plane_pb2.CachedStep] = {}
    for entry in entries:
        line = found.get(entry.step)
        if line is None:
            line = found[entry.step] = control_plane_pb2.CachedStep(cluster=cluster, step=entry.step)
            line.oldest = line.newest = entry.executed
        line.results += 1
        line.bytes += entry.size
        line.taken += entry.taken
        line.oldest, line.newest = min(line.oldest, entry.executed), max(line.newest, entry.executed)
    return [line for _, line in sorted(found.items())]
