"""How much a store may still take: what its file system has left and what its capacity allows, and who waits for more.

    units go, the trash is emptied ─▶ grew ─▶ splits that wait (`wait_for`), the node's word to its agent (`listeners`)

A part of the file system is left to tasks, which write beside the store. Others may write on the same disk, of which
nobody tells us: so it is looked at now and then as well.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cluster_agent.data.errors import NoSpaceError

_RESERVE_BYTES: Final = 64 << 20  # kept free for tasks, which free space by getting on; of a small disk a part
_RESERVE_PART: Final = 16
_CRAMMED_PART: Final = 4  # of the reserve: who fails with no more than this may have failed for that
_LOOK_SECONDS: Final = 2.0
_BITS: Final = 4  # of a number of bytes, as it is told


class Space:
    """The space below `root`. `capacity` bounds it (0 = the file system does); `stored` gives what the store has."""

    def __init__(self, root: Path, capacity: int, stored: Callable[[], int]) -> None:
        self._root = root
        self._capacity = capacity
        self._stored = stored
        self._waiting: set[asyncio.Event] = set()
        self.on_full: Callable[[int], None] = lambda _: None  # so many bytes are needed; whoever can spare some
        self.spare: Callable[[], int] = lambda: 0  # what whoever can spare some has, in bytes
        self.listeners: list[Callable[[], None]] = []

    def free(self) -> int:
        """What may still be stored, in bytes."""
        disk = os.statvfs(self._root)
        available = disk.f_bavail * disk.f_frsize - _reserve(disk)
        if self._capacity:
            available = min(available, self._capacity - self._stored())
        return max(0, available)

    def to_be_had(self) -> int:
        """What may still be stored once all that can be spared is given up, in bytes."""
        free = self.free()
        return free if free >= self._stored() else free + self.spare()  # to look for it costs more than to tell less

    def size(self) -> int:
        """What may be stored in all, about, as far as others leave it."""
        return coarse(self.free() + self._stored())

    def is_tight(self) -> bool:
        """Whether less is left than is stored."""
        return self.free() < self._stored()

    def check(self, size: int) -> None:
        """NoSpaceError unless `size` more bytes fit."""
        free = self.free()
        if size > free:
            self.on_full(size - free)
            raise NoSpaceError(f"{size} bytes don't fit: {free} bytes of this node's disk may still be used")

    def check_capacity(self, size: int) -> None:
        """NoSpaceError if the store would have more than it may: of what is on the disk already."""
        if self._capacity and self._stored() + size > self._capacity:
            free = max(0, self._capacity - self._stored())
            self.on_full(size - free)
            raise NoSpaceError(f"{size} bytes don't fit: the store may take {free} more")

    def is_crammed(self) -> bool:
        """Whether next to nothing is left on the disk, the reserve included."""
        disk = os.statvfs(self._root)
        crammed = disk.f_bavail * disk.f_frsize * _CRAMMED_PART < _reserve(disk)
        if crammed:
            self.on_full(_reserve(disk))
        return crammed

    def grew(self) -> None:
        """Something was removed: who waits looks again."""
        for waiting in self._waiting:
            waiting.set()
        for listener in self.listeners:
            listener()

    async def wait_for(self, size: int) -> None:
        """Return when so many bytes are free."""
        if self.free() >= size:
            return
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            while (free := self.free()) < size:
                changed.clear()
                self.on_full(size - free)
                try:
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    continue  # what others did on the disk
        finally:
            self._waiting.discard(changed)

    async def watch(self) -> None:
        """Notice what others do on the disk, until cancelled."""
        known = coarse(self.free())
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = coarse(self.free())
            if now != known:
                known = now
                self.grew()


def coarse(size: int) -> int:
    """A number of bytes, rounded down by a sixteenth at most: what differs only beyond that is no news."""
    less = max(0, size.bit_length() - _BITS - 1)
    return size >> less << less


def _reserve(disk: os.statvfs_result) -> int:
    return min(_RESERVE_BYTES, disk.f_blocks * disk.f_frsize // _RESERVE_PART)
