"""Moves contents down when a tier is full: from memory to the disk, one after another, the longest unused first; and
what shall not stay in memory, whatever room there is.

A thread copies; then, in one turn of the event loop, the copy has its name on the disk, and its units theirs, before
those in memory go. So whoever looks finds the content in one place or the other, and after a crash in between it is
found on both, of which the one on the disk counts. Who has opened the file, or holds a link to it, goes on with it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from cluster_agent.data.base import Content
from cluster_agent.data.errors import ContentChangedError, DataError
from cluster_agent.data.tiers.memory import MemoryTier
from cluster_agent.data.tiers.shelf import Shelf, check

_LOOK_SECONDS = 5.0  # whether others need the memory is not told to us
_log = structlog.get_logger(__name__)


class Spilling:
    """What moves contents of `memory` to `disk`. `stir` it when there may be too much there; `close` it at the end."""

    def __init__(
        self,
        memory: MemoryTier,
        disk: Shelf,
        in_thread: Callable[[Callable[[Path], object], Path], Awaitable[object]],
        check_space: Callable[[int], None],
        drop: Callable[[Content, str], None],
        lowered: Callable[[Content], None],
        moved: Callable[[], None],
    ) -> None:
        """`drop` forgets content that is damaged; `check_space` raises NoSpaceError; `lowered` hears of what was asked
        for and is in memory no more, `moved` that some has moved."""
        self._memory = memory
        self._disk = disk
        self._in_thread = in_thread
        self._check_space = check_space
        self._drop = drop
        self._lowered = lowered
        self._moved = moved
        self._asked: dict[Content, None] = {}
        self._moving: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, contents: Iterable[Content]) -> None:
        """These shall be on the disk."""
        self._asked.update(dict.fromkeys(contents))
        self.stir()

    def stir(self) -> None:
        """Something was put into memory, or shall not stay there."""
        if self._moving is None and (self._asked or self._memory.overrun):
            self._moving = asyncio.create_task(self._ease())
        if self._timer is None and self._memory.shelf.contents:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    async def all(self) -> None:
        """Move all there is, as far as the disk takes it."""
        if self._moving is not None:
            await self._moving
        for content in list(self._memory.shelf.contents):
            with suppress(DataError, OSError):
                await self.move(content)

    async def settled(self) -> None:
        """Return when nothing is being moved."""
        while self._moving is not None:
            await asyncio.wait([self._moving])

    async def close(self) -> None:
        """Move nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._moving is not None:
            await self._moving

    async def move(self, content: Content) -> None:
        """Move one content to the disk, unless it is freed meanwhile. DataError or OSError if it stays where it is."""
        source = self._memory.shelf
        copy = self._disk.fresh(content.digest)
        self._check_space(content.size)
        try:
            await self._in_thread(partial(shutil.copyfile, content.file), copy)
            if content not in source.contents:
                return
            check(content)  # it was not written to while it was copied
            self._exchange(content, copy)
        except FileNotFoundError as error:
            if content in source.contents:
                self._drop(content, f"{error.filename} is gone")
        except ContentChangedError as error:
            self._drop(content, str(error))
        finally:
            copy.unlink(missing_ok=True)

    def _exchange(self, content: Content, copy: Path) -> None:
        """From here on it lies on the disk, by all its names. OSError, and it lies where it lay."""
        source = self._memory.shelf
        names = list(content.names or ())
        moved = self._disk.place(copy, content.digest, content.size)
        named = 0
        try:
            for key in names:
                self._disk.name(key, moved)
                named += 1
        except OSError:  # full; or it has more units than a file there can have links
            for key in names[:named]:
                self._disk.unname(key)
            self._disk.discard(moved)
            raise
        for key in names:
            source.unname(key)
            source.tidy(key)
        source.discard(content)
        self._disk.exchange(moved, content)

    def _look(self) -> None:
        self._timer = None
        self.stir()

    async def _ease(self) -> None:
        there = self._memory.shelf.contents
        try:
            while self._asked:
                content = next(iter(self._asked))
                if content in there:
                    await self.move(content)
                del self._asked[content]
                self._lowered(content)
            while not self._memory.eased:
                await self.move(next(iter(there)))
        except (DataError, OSError) as error:
            _log.warning("what is in memory can't go to the disk", error=str(error))
        finally:
            self._moving = None
            self._moved()
