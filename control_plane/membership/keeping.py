"""The certificates that a hub sees to: its own, where it has the authority, and those that it is given to keep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from wire.identity.kept import Kept

_LOOKS = 100  # within a life
_SECONDS = 60.0  # between two looks, at most: a machine that slept, or a clock that was set, is found soon

_log = structlog.get_logger(__name__)


class Keeping:
    """Makes the next certificate whenever it is time. Servers and channels take the new one, and so does etcd."""

    def __init__(self, kept: Sequence[Kept]) -> None:
        self._kept = kept

    def see_to_all(self) -> None:
        """Before anything needs them: a start after a long time, or after a crash in the middle of a renewal."""
        for each in self._kept:
            each.see_to()

    async def keep(self) -> None:
        """Run by the hub as long as it lives."""
        if not self._kept:
            return
        pause = min(_SECONDS, min(each.life for each in self._kept) / _LOOKS)
        while True:
            await asyncio.sleep(pause)
            for each in self._kept:
                self._look(each)

    def _look(self, kept: Kept) -> None:
        try:
            renewed = kept.see_to()
        except OSError as error:
            _log.warning(
                "a certificate can't be renewed; it is tried again", directory=str(kept.directory), error=str(error)
            )
            return
        if renewed:
            _log.info("a certificate was renewed", of=str(kept.identity), directory=str(kept.directory))
