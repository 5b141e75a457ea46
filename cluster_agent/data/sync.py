"""Makes files, directories and the journal survive a power failure, many with one wait.

Who needs durability says what was touched and waits; all that was touched until the disk is free again goes with one
round. A round of a few files syncs each; a large one asks the file system to write all it has.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path

from cluster_agent.data.journal import Journal

_ONE_BY_ONE = 8


def _sync_all(descriptors: list[int], paths: Iterable[Path], root: Path) -> None:
    """Write what the descriptors are of, which are closed, and the paths. Blocks."""
    try:
        for descriptor in descriptors:
            os.fdatasync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    sync_paths(paths, root)


def sync_paths(paths: Iterable[Path], root: Path) -> None:
    """Write files and directories below `root` to the disk. Blocks. What is gone meanwhile needs no sync."""
    wanted = list(paths)
    if len(wanted) > _ONE_BY_ONE:
        descriptor = os.open(root, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
                raise OSError(ctypes.get_errno(), "syncfs failed", str(root))
        finally:
            os.close(descriptor)
        return
    for path in wanted:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class GroupSync:
    """Batches `sync_paths` calls; used from the event loop only."""

    def __init__(self, root: Path, executor: Executor, journal: Journal) -> None:
        self._root = root
        self._executor = executor
        self._journal = journal
        self._touched: set[Path] = set()
        self._next: asyncio.Future[None] | None = None
        self._round: asyncio.Task[None] | None = None

    def touched(self, *paths: Path) -> None:
        """These are part of the next round."""
        self._touched.update(paths)

    async def wait(self) -> None:
        """Return when all that was touched before this call is on the disk; OSError if that failed."""
        if not self._touched and not self._journal.unsynced and self._next is None and self._round is None:
            return
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        waiting = self._next
        if self._round is None:
            self._round = asyncio.create_task(self._rounds())
        await asyncio.shield(waiting)

    def at_once(self) -> None:
        """Sync the journal here and now, before anybody waits. Blocks; OSError."""
        files, doomed = self._journal.segments.begin_sync()
        _sync_all(files, (), self._root)
        self._journal.segments.end_sync(doomed, True)

    async def close(self) -> None:
        """Finish what was begun."""
        if self._round is not None:
            await asyncio.gather(self._round, return_exceptions=True)

    async def _rounds(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._next is not None:
                waiting, self._next = self._next, None
                paths, self._touched = self._touched, set()
                files, doomed = self._journal.segments.begin_sync()
                try:
                    await loop.run_in_executor(self._executor, _sync_all, files, paths, self._root)
                except OSError as error:
                    self._journal.segments.end_sync(doomed, False)
                    self._touched |= paths
                    waiting.set_exception(error)
                    waiting.exception()  # waiters may all have gone
                else:
                    self._journal.segments.end_sync(doomed, True)
                    waiting.set_result(None)
        finally:
            self._round = None
