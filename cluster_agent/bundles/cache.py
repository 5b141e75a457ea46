"""Bundles' archives in a directory, by digest: whoever asks first has the hub's copy pulled, the others wait for it.

An archive gets its name when its digest has been checked, so what stands in the directory is right. Half ones of an
earlier life are removed at the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from wire.digests import DIGEST_BYTES, ContentHasher

Pull = Callable[[str, bytes], AsyncIterator[bytes]]
"""(namespace, digest) -> the archive in pieces. Raises BundleError."""

_PARTIAL = ".partial"


class BundleError(Exception):
    """A bundle can't be had. `missing`: the hub does not have it; otherwise trying again may help."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class BundleCache:
    """The archives that this cluster has. `pull` gets one from the hub."""

    def __init__(self, directory: Path, pull: Pull) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for partial in directory.glob(f"*{_PARTIAL}"):
            partial.unlink()
        self._directory = directory
        self._pull = pull
        self._pulling: dict[bytes, asyncio.Task[Path]] = {}

    async def get(self, namespace: str, digest: bytes) -> Path:
        """The archive's file. BundleError if it can't be had."""
        if len(digest) != DIGEST_BYTES:
            raise BundleError(f"{digest.hex() or 'an empty value'} is not a bundle's digest", missing=True)
        path = self._path(digest)
        if path.exists():
            return path
        return await asyncio.shield(self._begin(namespace, digest, path))

    def expect(self, namespace: str, digest: bytes) -> None:
        """Have it here before anybody asks, if it can be had: later the hub may be away."""
        path = self._path(digest)
        if not path.exists():
            self._begin(namespace, digest, path)

    async def close(self) -> None:
        """End the pulls under way."""
        tasks = list(self._pulling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _path(self, digest: bytes) -> Path:
        return self._directory / f"{digest.hex()}.tar.zst"

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
        return path
