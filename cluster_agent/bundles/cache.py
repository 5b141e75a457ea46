"""Bundles' archives in a directory, by digest: whoever asks first has the hub's copy pulled, the others wait for it.

An archive gets its name when its digest has been checked, so what stands in the directory is right. Half ones of an
earlier life are removed at the start. Each new one makes those go that were not asked for during a week, the longest
unused first, if all are too many bytes; the hub has them still.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from cluster_agent.bundles.surplus import Kept, surplus
from wire.digests import DIGEST_BYTES, ContentHasher

Pull = Callable[[str, bytes], AsyncIterator[bytes]]
"""(namespace, digest) -> the archive in pieces. Raises BundleError."""

_PARTIAL = ".partial"
_SUFFIX = ".tar.zst"
_MOST_BYTES = 4 << 30
_RESTING_SECONDS = 7 * 86_400.0  # a run may need what it has not asked for since it began, and the hub be away


class BundleError(Exception):
    """A bundle can't be had. `missing`: the hub does not have it; otherwise trying again may help."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class BundleCache:
    """The archives that this cluster has. `pull` gets one from the hub; above `most_bytes` old ones go."""

    def __init__(
        self, directory: Path, pull: Pull, *, most_bytes: int = _MOST_BYTES, resting: float = _RESTING_SECONDS
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for partial in directory.glob(f"*{_PARTIAL}"):
            partial.unlink()
        self._directory = directory
        self._pull = pull
        self._most_bytes = most_bytes
        self._resting = resting
        self._pulling: dict[bytes, asyncio.Task[Path]] = {}

    async def get(self, namespace: str, digest: bytes) -> Path:
        """The archive's file. BundleError if it can't be had."""
        if len(digest) != DIGEST_BYTES:
            raise BundleError(f"{digest.hex() or 'an empty value'} is not a bundle's digest", missing=True)
        path = self._path(digest)
        if path.exists():
            os.utime(path)
            return path
        return await asyncio.shield(self._begin(namespace, digest, path))

    def expect(self, namespace: str, digest: bytes) -> None:
        """Have it here before anybody asks, if it can be had: later the hub may be away."""
        path = self._path(digest)
        if path.exists():
            os.utime(path)
        else:
            self._begin(namespace, digest, path)

    async def close(self) -> None:
        """End the pulls under way."""
        tasks = list(self._pulling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _path(self, digest: bytes) -> Path:
        return self._directory / f"{digest.hex()}{_SUFFIX}"

    def _begin(self, namespace: str, digest: bytes, path: Path) -> asyncio.Task[Path]:
        task = self._pulling.get(digest)
        if task is None:
            task = self._pulling[digest] = asyncio.create_task(self._fetch(namespace, digest, path))
            task.add_done_callback(lambda done: self._pulled(digest, done))
        return task

    def _pulled(self, digest: bytes, task: asyncio.Task[Path]) -> None:
        del self._pulling[digest]
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be left to

    async def _fetch(self, namespace: str, digest: bytes, path: Path) -> Path:
        partial = path.with_name(path.name + _PARTIAL)
        hasher = ContentHasher()
        try:
            with partial.open("wb") as file:
                async for chunk in self._pull(namespace, digest):
                    hasher.update(chunk)
                    file.write(chunk)
            if hasher.digest() != digest:
                raise BundleError(f"what the hub sent for bundle {digest.hex()} has another digest")
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise BundleError(f"{partial}: {error.strerror}") from error
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        partial.replace(path)
        self._clear()
        return path

    def _clear(self) -> None:
        """Remove old archives. Whoever reads one has it open."""
        kept = []
        for path in self._directory.glob(f"*{_SUFFIX}"):
            status = path.stat()
            kept.append(Kept(path.name, status.st_size, status.st_mtime))
        for name in surplus(kept, self._most_bytes, time.time() - self._resting):
            (self._directory / name).unlink(missing_ok=True)
