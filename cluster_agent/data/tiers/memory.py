"""The tier in memory: what tasks make for the next ones lies in a file system in memory, within a budget.

    reserve ─▶ a directory there that a task writes to ─▶ the store takes the file over by rename ─▶ release

A task's outputs have to be written where they shall lie, before anybody knows how large they are. So room is reserved
for what the step's tasks have made so far, or, before one has ended, for what the task reads; where there is none the
task writes to the disk. Where the files become too many, `overrun` says so, and what was not used for longest goes to
the disk (see `spilling`).

What lies here survives the death of this process, as durability `process` promises, and no more: under `power` nothing
is put here. A daemon that is stopped in good order leaves nothing here.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cluster_agent.data.tiers import machine
from cluster_agent.data.tiers.shelf import Shelf
from wire.digests import bytes_digest

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
_PART = 16  # by default a node keeps so small a part of the memory that its workers may use
_KEPT_FREE = 4  # such a part of the file system is not ours to fill
_SHARE = 4  # where nobody has asked for memory, no task may expect to fill more than such a part of the budget
_EXPECTED = 1 << 20  # of a task that reads nothing
_REMEMBERED = 1000  # steps
_OWNER = "owner"


class MemoryPlace(NamedTuple):
    """A directory in memory that is a daemon's own, and how many bytes may lie there.

    `auto`: also of what a workflow leaves to the node.
    """

    root: Path
    budget: int
    auto: bool = True


@dataclass(eq=False)
class Reserved:
    """Where a task may write so many bytes."""

    directory: Path
    size: int


class MemoryTier:
    """What is in memory, below `shelf`. `strained`: whether the machine is short of it."""

    def __init__(
        self,
        shelf: Shelf,
        budget: int,
        executor: Executor,
        strained: Callable[[], bool] = machine.strained,
        *,
        auto: bool = True,
    ) -> None:
        self.auto = auto
        self.shelf = shelf
        self.budget = budget
        self._executor = executor
        self._strained = strained
        self.reserved = 0  # bytes that are promised to tasks that run
        self._expected: dict[tuple[str, str, str], int] = {}
        self._numbers = itertools.count()
        self._out = shelf.root / "out"
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.mkdir()

    @property
    def room(self) -> int:
        """Bytes that may still be promised; less than 0 if there are too many already."""
        return self.budget - self.shelf.used - self.reserved

    @property
    def overrun(self) -> bool:
        """Whether something has to go to the disk, so that there is room for what is made next."""
        return bool(self.shelf.contents) and (self.shelf.used + self.reserved > self.budget * 3 // 4 or self.tight)

    @property
    def eased(self) -> bool:
        """Whether enough has gone."""
        return not self.shelf.contents or (self.shelf.used + self.reserved <= self.budget // 2 and not self.tight)

    @property
    def tight(self) -> bool:
        """Whether others need the memory more."""
        there = os.statvfs(self.shelf.root)
        return there.f_bavail < there.f_blocks // _KEPT_FREE or self._strained()

    def expected(self, step: tuple[str, str, str], reads: int) -> int:
        """Bytes that a task of a step (namespace, run, name) is expected to make, if it reads so many."""
        return self._expected.get(step) or max(reads, _EXPECTED)

    def made(self, step: tuple[str, str, str], size: int) -> None:
        """A task of the step has made so many bytes."""
        self._expected[step] = max(size, self._expected.pop(step, 0))
        while len(self._expected) > _REMEMBERED:
            del self._expected[next(iter(self._expected))]

    def reserve(self, size: int, *, meant: bool = False) -> Reserved | None:
        """A directory for outputs of so many bytes; None if they have to go to the disk. OSError.

        `meant`: the workflow asks for memory, so that they may take more than their share of the budget.
        """
        if size > min(self.room, self.budget if meant else self.budget // _SHARE) or self.tight:
            return None
        reserved = Reserved(self._out / str(next(self._numbers)), size)
        reserved.directory.mkdir()
        self.reserved += size
        return reserved

    def release(self, reserved: Reserved) -> None:
        """The task has ended. What it has left there is removed."""
        self.reserved -= reserved.size
        try:
            reserved.directory.rmdir()
        except OSError:
            self._executor.submit(shutil.rmtree, reserved.directory, ignore_errors=True)

    def too_much(self, reserved: Reserved, written: int) -> bool:
        """Whether a task that has written so much there must not go on."""
        return written > reserved.size and (written - reserved.size > self.room or self.tight)


def default_budget(memory: int, place: Path = SHARED_MEMORY) -> int:
    """Bytes that a node keeps in memory unless told otherwise, of `memory` that its workers may use (0: all)."""
    if not os.access(place, os.W_OK):
        return 0
    there = os.statvfs(place)
    total = machine.total_memory()
    return min(min(memory or total, total) // _PART, there.f_blocks * there.f_frsize // _KEPT_FREE)


def memory_place(state: Path, budget: int, place: Path = SHARED_MEMORY) -> MemoryPlace | None:
    """The place of the daemon with this state directory; None if it has none and shall have none. OSError.

    The directory is made if it is not there; only we can read it. What daemons have left whose own state directories
    are gone is removed.
    """
    own = state.resolve()
    prefix = f"bdw-fed-{os.getuid()}-store-"
    for left in place.glob(f"{prefix}*"):
        with suppress(OSError):
            if not Path((left / _OWNER).read_text()).exists():
                shutil.rmtree(left, ignore_errors=True)
    root = place / f"{prefix}{bytes_digest(os.fsencode(own)).hex()[:16]}"
    if not budget and not root.exists():
        return None
    own.mkdir(parents=True, exist_ok=True)  # before another daemon that starts just now looks whether it is there
    root.mkdir(mode=0o700, exist_ok=True)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{root} is not ours alone: another user of this machine has made it; remove it")
    (root / _OWNER).write_text(str(own))
    return MemoryPlace(root, budget)


def leave(root: Path) -> None:
    """Remove a place, if nothing that counts is left there."""
    for name in ("out", "held", "partial", "trash"):
        shutil.rmtree(root / name, ignore_errors=True)
    for name in ("units", "content"):
        for directory in sorted((root / name).rglob("*"), reverse=True):
            with suppress(OSError):
                directory.rmdir()
    with suppress(OSError):
        (root / "units").rmdir()
        (root / "content").rmdir()
        (root / "boot").unlink(missing_ok=True)
        (root / _OWNER).unlink(missing_ok=True)
        root.rmdir()
