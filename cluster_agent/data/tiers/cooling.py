"""Moves contents from the disk to object storage: what is asked for at once, and, when the disk is nearly full, what is
cold: first outputs of runs that have ended, then what was not used for longest. And within it, where it lies wrong.

One at a time, so that what tasks read and write has the disk and the line. Where the object store does not answer, all
stays where it is, and is tried again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from cluster_agent.data.base import Content
from cluster_agent.data.errors import DataError
from cluster_agent.data.tiers.away import AwayTier
from cluster_agent.data.tiers.shelf import Shelf

_AGAIN_SECONDS = 30.0
_log = structlog.get_logger(__name__)


class Cooling:
    """What sends contents of `disk` to `away`. `free_bytes`: what may still be stored on the disk; `moved` hears that
    some has moved."""

    def __init__(self, disk: Shelf, away: AwayTier, free_bytes: Callable[[], int], moved: Callable[[], None]) -> None:
        self._disk = disk
        self._away = away
        self._free_bytes = free_bytes
        self._moved = moved
        self._asked: dict[Content, None] = {}
        self._working: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pressed(self) -> bool:
        """Whether less than an eighth of the disk that we may use is left."""
        free = self._free_bytes()
        return free < (free + self._disk.used) // 8

    @property
    def _eased(self) -> bool:
        """Whether a quarter of it is left."""
        free = self._free_bytes()
        return free >= (free + self._disk.used) // 4

    def ask(self, contents: Iterable[Content]) -> None:
        """These shall be sent whatever room there is."""
        self._asked.update(dict.fromkeys(contents))
        self.stir()

    def stir(self) -> None:
        """Something was put on the disk, or is cold from now on."""
        if self._working is None and self._timer is None and (self._asked or self.pressed):
            self._working = asyncio.create_task(self._work())

    async def settled(self) -> None:
        """Return when nothing is being sent."""
        while self._working is not None:
            await asyncio.wait([self._working])

    async def close(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)

    async def _work(self) -> None:
        later = False
        left: list[Content] = []  # it was given or lost a name meanwhile, or a task reads it
        try:
            while self._asked:
                content = next(iter(self._asked))
                if self._may_go(content) and not await self._send(content):
                    later = True
                    break
                del self._asked[content]
                if self._away.misplaced(content) or (content in self._disk.contents and self._away.takes(content)):
                    left.append(content)
            if self.pressed:
                later |= not await self._ease()
        finally:
            self._working = None
            self._moved()
        self._asked.update(dict.fromkeys(left))
        if later or left:
            self._timer = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._again)

    async def _ease(self) -> bool:
        """Send what is cold until a quarter of the disk is free. Whether that was done."""
        for content in sorted(self._disk.contents, key=lambda content: not content.cold):
            if self._eased:
                return True
            if self._may_go(content) and not await self._send(content):
                return False
        return self._eased

    def _may_go(self, content: Content) -> bool:
        on_disk = content in self._disk.contents and self._away.may_go(content)
        return on_disk or self._away.misplaced(content)

    async def _send(self, content: Content) -> bool:
        try:
            await (self._away.promote(content) if content.away else self._away.send(content))
        except FileNotFoundError:
            return True  # freed meanwhile
        except (DataError, OSError) as error:
            _log.warning("what is cold can't go to the object store", error=str(error))
            return False
        return True

    def _again(self) -> None:
        self._timer = None
        self.stir()
