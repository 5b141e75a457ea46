"""Where workers keep their own directories for small tasks: in memory where there is some, their tmp on the disk.

    <memory>/<number>/          a worker's; see `worker`
    <disk>/<number>/            its tmp: HOME and TMPDIR of its tasks

A worker's directories go with it, all of them with the daemon: should it be killed, the spawner removes those that lie
in memory, and its next start whatever is left.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wire.digests import bytes_digest

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it


@dataclass(frozen=True)
class Place:
    """One worker's: `home` for its tasks, and where `home/tmp` leads to."""

    home: Path
    temporary: Path


class Places:
    """All places of one daemon, in these two directories, which are its own. Blocks; OSError."""

    def __init__(self, memory: Path, disk: Path) -> None:
        self.memory = memory
        self._roots = (memory, disk)
        self._numbers = itertools.count(1)
        for root in self._roots:
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(mode=0o700, parents=True)

    def make(self) -> Place:
        """A new place."""
        memory, disk = (root / str(number) for number in [next(self._numbers)] for root in self._roots)
        place = Place(memory, disk)
        for directory in (memory, disk):
            directory.mkdir(parents=True)
        (memory / "tmp").symlink_to(disk)
        return place

    async def remove(self, place: Place) -> None:
        """A place whose worker is gone."""
        for directory in (place.home, place.temporary):
            await asyncio.to_thread(shutil.rmtree, directory, True)

    def close(self) -> None:
        """Remove all."""
        for root in self._roots:
            shutil.rmtree(root, ignore_errors=True)


def open_places(state: Path, memory: Path | None = None) -> Places:
    """The places of the daemon with this state directory, in `memory`; by default shared memory, else the disk."""
    disk = state / "places"
    if memory is None:
        memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else state
    name = f"bdw-fed-{os.getuid()}-{bytes_digest(os.fsencode(state.resolve())).hex()[:16]}"
    for left in memory.glob(f"{name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):
        return Places(memory / f"{name}.{os.getpid()}", disk)
    return Places(state / f"{name}.{os.getpid()}", disk)
