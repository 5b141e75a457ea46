"""The directories of one pod on its node: where they are, made before it, and removed after it.

<state>/workers/<id>/            the pod's own, at the same path here and there
                    /socket      where the starter listens
                    /tasks/      directories of its tasks
                    /small/      of small ones
                    /home/       of a program that stays; of one that watches a directory, what is `/in` to it …
                    /calls       where a service calls
<memory>/<id>/                   small tasks' files, where the node has a directory in memory for them
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster_agent.runtimes.directories.worker import PARTS
from cluster_agent.runtimes.process.places import Places

HOME: Final = "home"  # of a program that stays


@dataclass(frozen=True)
class Roots:
    """Where all pods of one node have their directories; `memory` is one in memory, if there is one."""

    state: Path
    memory: Path | None = None

    @property
    def workers(self) -> Path:
        """The pods' own, all of them."""
        return self.state / "workers"

    def place(self, identity: str) -> Place:
        """Where the pod of this identity has its directories."""
        memory = self.memory / identity if self.memory is not None else None
        root = self.workers / identity
        return Place(root, memory, root / "tasks")

    def left(self, known: Collection[str]) -> list[Path]:
        """The directories of pods that are none of these identities."""
        roots = [root for root in (self.workers, self.memory) if root is not None and root.is_dir()]
        return [path for root in roots for path in root.iterdir() if path.name not in known]


@dataclass(frozen=True)
class Place:
    """The directories of one pod; in `tasks` its tasks have theirs."""

    root: Path
    memory: Path | None
    tasks: Path

    @property
    def socket(self) -> Path:
        """Where its starter listens."""
        return self.root / "socket"

    @property
    def home(self) -> Path:
        """Where a program that stays lives."""
        return self.root / HOME

    @property
    def calls(self) -> Path:
        """Where a service calls; no longer than the starter's."""
        return self.root / "calls"

    def make(self, *, watching: bool) -> None:
        """Before the pod is: what is mounted in it has to be there. OSError."""
        boxes = [self.home / part for part in PARTS] if watching else []
        for path in (self.root, self.memory, *boxes):
            if path is not None:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def small(self) -> Places:
        """The directories of small tasks, empty. OSError."""
        return Places((self.memory or self.root) / "small", self.root / "temporary")

    def remove(self) -> None:
        """Nothing is left of it."""
        remove([path for path in (self.root, self.memory) if path is not None])


def remove(directories: Collection[Path]) -> None:
    """Remove them with all that is in them, as far as that can be."""
    for path in directories:
        shutil.rmtree(path, ignore_errors=True)
