"""Where a task writes its outputs: in memory, if its ports allow that and there is room, else in its directory.

What ports leave to the node goes there only where the operator has said what memory may take: a file in memory costs
more processor time than one in the disk's page cache, and pays where the disk can't keep up.

Programs that stay are left out: one can't be stopped for the sake of one of its tasks. So is what watches a directory,
which moves its files by rename; a merge, of which nobody knows how large what it reads is without its compression; and
a worker that sees no directories but its own. A split asks for each of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bdw_fed.v1 import model_pb2
from cluster_agent.data.store import DiskStore
from cluster_agent.data.tiers.memory import MemoryTier, Reserved
from cluster_agent.node.works import Assignment
from cluster_agent.orders.messages import Output
from workflow.formats import DIRECTORY

_AUTO = frozenset(("", "auto"))  # what ports say whose units lie where the node sees fit
_KINDS = frozenset(("python", "command", "split"))
_CUT_AHEAD = 64 << 20  # bytes that a split may have made that are not in the store yet


class Writing:
    """Room in memory for one attempt of a task. `end` it, after its outputs were taken out."""

    def __init__(self, tier: MemoryTier, reserved: Reserved, step: tuple[str, str, str]) -> None:
        self._tier = tier
        self._reserved = reserved
        self._step = step

    @property
    def directory(self) -> Path:
        """Where to write."""
        return self._reserved.directory

    def has(self, port: model_pb2.OutputPort) -> bool:
        """Whether what the task makes at a port is among it."""
        return _may_lie_in(self._tier, port)

    def takes(self, size: int) -> bool:
        """Whether there is room for a part of so many bytes beside what is reserved. A thread may ask."""
        return size <= self._tier.room and not self._tier.tight

    def overflows(self, written: int) -> bool:
        """Whether the attempt must not go on, since it has written so much; the next one will be on the disk."""
        if not self._tier.too_much(self._reserved, written):
            return False
        self._tier.made(self._step, max(written, self._tier.budget + 1))
        return True

    def end(self) -> None:
        """Let go of what is left of it."""
        self._tier.release(self._reserved)


def _may_lie_in(tier: MemoryTier, port: model_pb2.OutputPort) -> bool:
    """Whether what a task makes at a port may lie there. A directory is packed into another file."""
    return (port.store == "memory" or (tier.auto and port.store in _AUTO)) and port.format != DIRECTORY


def writing_to_memory(store: DiskStore, assignment: Assignment) -> Writing | None:
    """Room in memory for a task; None if its outputs go to the disk. OSError."""
    tier, work = store.memory, assignment.work
    if tier is None or work.kind not in _KINDS or store.durability == "power":
        return None
    ports = [port.store for port in work.outputs if _may_lie_in(tier, port)]
    if not ports:
        return None
    step = _step(assignment)
    if work.kind == "split":
        size = min(assignment.bytes_in, _CUT_AHEAD, tier.budget // 8)
    else:
        size = tier.expected(step, assignment.bytes_in)
    reserved = tier.reserve(size, meant="memory" in ports)
    return Writing(tier, reserved, step) if reserved is not None else None


def learn_size(store: DiskStore, assignment: Assignment, outputs: Sequence[Output]) -> None:
    """A task has made these."""
    if store.memory is not None:
        store.memory.made(_step(assignment), sum([output.unit.size for output in outputs]))


def _step(assignment: Assignment) -> tuple[str, str, str]:
    work = assignment.work
    return work.namespace, work.run, work.step
