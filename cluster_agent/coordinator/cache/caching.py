"""The cache: results of tasks by what they were made from, for all runs of a namespace.

A key is a digest of all that a result depends on: what the plan says of it (`control_plane.planner.caching`), the
namespace, and the contents of the task's inputs. No run, no name and no place is in it. Of a port that takes several
units the order is not in it either, since it differs from run to run.

    Committed ─▶ CacheFilled ─▶ State.cached ─▶ a task forms, of any run ─▶ `find` ─▶ see seeking

The contents themselves are in the nodes' stores, under names that no run has (`wire.lines.CACHE`). A node may drop them
whenever it needs its disk; so what is found here is believed only once its node has looked. The table is bounded by
number and bytes, and what was used longest ago goes first.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from blake3 import blake3

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import records, remembering
from cluster_agent.coordinator.cache.shelf import Shelf
from cluster_agent.coordinator.fragment import Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import ClockRead, RunKey
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.state import Cached, Task
from cluster_agent.orders.messages import Output, UnitInfo
from wire.digests import content_name, unit_id
from wire.lines import CACHE

_LARGEST: Final = 8  # of the table's bytes a result takes at most this part


def key_of(live: LiveRun, step: Step, task: Task) -> bytes:
    """The key of a task's result; empty where it has none: not all that it reads is known."""
    hasher = blake3(step.cache_key)
    hasher.update(_told(live.key.namespace.encode()))
    for edge, ids in zip(step.inputs, live.inputs(task), strict=True):
        units = [live.run.units.get(unit) for unit in ids]
        digests = sorted(unit.digest for unit in units if unit is not None)
        if len(digests) != len(ids):
            return b""
        hasher.update(_told(edge.port.encode()) + _told(b"".join(digests)))
    return hasher.digest()


def _told(field: bytes) -> bytes:
    return len(field).to_bytes(8, "big") + field


def find(book: Book, key: bytes, age: float) -> Cached | None:
    """The result under a key, if it is not too old and its node is here."""
    entry = book.state.cached.get(key)
    if entry is None or not book.nodes[entry.node].connected or too_old(book, entry.executed, age):
        return None
    return entry


def too_old(book: Book, executed: float, age: float) -> bool:
    """Whether what was executed then (Unix time) is older than `age`; 0: nothing is."""
    return bool(age) and executed + age < book.wall


def fill(book: Book, live: LiveRun, step: Step, task: Task, node: str) -> None:
    """A task has just been executed on a node: its result goes into the cache."""
    units = live.run.units
    if any(units[unit].generation for ids in live.inputs(task) for unit in ids):
        return  # a unit that was made again with other bytes may have been read before
    made = [units[unit] for unit in task.outputs]
    if any(unit.generation for unit in made) or not _fits(book, sum(unit.size for unit in made)):
        return
    if key := key_of(live, step, task):
        book.tell(node, commands.keep(live.key, task.outputs))
        book.commit(records.CacheFilled(live.key, task.id, key, node, book.wall))
        trim(book)


def _fits(book: Book, size: int) -> bool:
    most = book.policy.cache_bytes
    return min(book.policy.cache_entries, most) > 0 and size * _LARGEST <= most


def trim(book: Book) -> None:
    """Drop what was used longest ago, as far as the table is too large."""
    number, size = len(book.state.cached), book.shelf.bytes
    dropped = []
    for key, entry in book.state.cached.items():
        if number <= book.policy.cache_entries and size <= book.policy.cache_bytes:
            break
        number -= 1
        size -= entry.size
        dropped.append(key)
    drop(book, dropped)


def drop(book: Book, keys: Collection[bytes]) -> None:
    """These results are in the cache no more, as far as they were."""
    known = tuple(key for key in keys if key in book.state.cached)
    if known:
        book.commit(records.CacheDropped(known))


def lost(book: Book, key: bytes, node: str) -> None:
    """The node has not got the contents of a result."""
    entry = book.state.cached.get(key)
    if entry is not None and entry.node == node:
        drop(book, [key])


def spoilt(book: Book, node: str, namespace: str, names: Collection[bytes]) -> None:
    """A node has contents with these names no more: what any of them belongs to is in the cache no more."""
    of = [key for key, each in book.state.cached.items() if (each.node, each.namespace) == (node, namespace)]
    drop(book, [key for key in of if not _names(book.state.cached[key]).isdisjoint(names)])


def reconcile(book: Book, node: str, held: dict[str, set[bytes]]) -> None:
    """A node has joined with these contents, by namespace: what it lost is dropped here, what nobody knows there."""
    missing = [
        key
        for key, entry in book.state.cached.items()
        if entry.node == node and not _names(entry) <= held.get(entry.namespace, set())
    ]
    drop(book, missing)
    for namespace, names in held.items():
        for name in names:
            if (node, namespace, name) not in book.shelf.held:
                book.free(node, RunKey(namespace, CACHE), name)


def _names(entry: Cached) -> set[bytes]:
    return {content_name(output.unit.digest) for output in entry.outputs}


def derive(book: Book) -> None:
    """After a restore: what follows from the table."""
    book.shelf = Shelf()
    for entry in book.state.cached.values():
        book.shelf.count(entry, 1)


def on_clock(book: Book, event: ClockRead) -> None:
    """What the wall clock shows."""
    book.wall_ahead = event.wall - book.now


def put(book: Book, key: bytes, entry: Cached) -> None:
    """A result is the one under its key, and used last. Part of applying a record."""
    book.shelf.count(entry, 1)  # before the former goes, which may have the same contents
    _take_out(book, key)
    book.state.cached[key] = entry


def _take_out(book: Book, key: bytes) -> None:
    entry = book.state.cached.pop(key, None)
    if entry is not None:
        for name in book.shelf.count(entry, -1):
            book.free(entry.node, RunKey(entry.namespace, CACHE), name)


def named(task: bytes, outputs: list[Output]) -> tuple[Output, ...]:
    """What is in the cache, as the outputs of a task."""
    found = []
    for output in outputs:
        unit = output.unit
        named = UnitInfo(unit_id(task, output.port, output.index), unit.digest, unit.size, task, name=unit.name)
        found.append(Output(output.port, output.index, named))
    return tuple(found)


def plain(output: Output) -> Output:
    """An output as any run has it."""
    unit = output.unit
    return Output(output.port, output.index, UnitInfo(b"", unit.digest, unit.size, name=unit.name))


def apply_filled(book: Book, record: records.CacheFilled) -> None:
    """See records."""
    live = book.lives[record.run]
    task = live.run.tasks[record.task]
    outputs = [plain(output) for output in remembering.outputs_of(live, task) or ()]
    definition = live.graph.steps[task.step].definition
    put(book, record.key, Cached(record.run.namespace, definition, record.node, record.executed, outputs))


def apply_dropped(book: Book, record: records.CacheDropped) -> None:
    """See records."""
    for key in record.keys:
        _take_out(book, key)
