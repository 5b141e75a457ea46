"""Removes files without keeping the event loop: large ones are moved aside, and a thread removes what lies there."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

_AT_ONCE_BYTES = 1 << 20  # larger files take the disk a while


class Trash:
    """A directory on the file system of what it takes, emptied at the start. `removed` is called after each
    time. Use from the event loop; `close` it."""

    def __init__(self, directory: Path, executor: Executor, removed: Callable[[], None] = lambda: None) -> None:
        self._directory = directory
        self._executor = executor
        self._removed = removed
        self._numbers = itertools.count()
        self._removing: asyncio.Task[None] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        empty(directory)

    def take(self, file: Path, size: int) -> bool:
        """Remove a file of so many bytes. Whether it was there."""
        try:
            if size <= _AT_ONCE_BYTES:
                file.unlink()
                return True
            file.rename(self._directory / f"{os.getpid()}.{next(self._numbers)}")
        except FileNotFoundError:
            return False
        if self._removing is None:
            self._removing = asyncio.create_task(self._remove())
        return True

    async def close(self) -> None:
        """Finish removing."""
        if self._removing is not None:
            await self._removing

    async def _remove(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while await loop.run_in_executor(self._executor, empty, self._directory):
                self._removed()
        finally:
            self._removing = None


def empty(directory: Path) -> int:
    """Remove the files in a directory; how many they were. Blocks."""
    removed = 0
    for entry in os.scandir(directory):
        Path(entry.path).unlink(missing_ok=True)
        removed += 1
    return removed
