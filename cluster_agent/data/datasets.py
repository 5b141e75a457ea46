"""Digests of datasets' files, remembered for the next run that opens the same file unchanged."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

_REMEMBERED = 10_000
_RESTING_SECONDS = 2.0


class DatasetDigests:
    """`hashed` makes the digest of a file of so many bytes."""

    def __init__(self, hashed: Callable[[Path, int], Awaitable[bytes]]) -> None:
        self._hashed = hashed
        self._known: dict[tuple[int, int, int, int], bytes] = {}

    async def digest(self, file: Path) -> bytes:
        """The digest of a file as it is now. OSError."""
        status = file.stat()
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        digest = self._known.pop(stamp, None)
        resting = time.time() - status.st_mtime > _RESTING_SECONDS
        if digest is None:
            digest = await self._hashed(file, status.st_size)
        if resting:  # else it may change within what the clock of the file system can tell
            self._known[stamp] = digest
            while len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
        return digest
