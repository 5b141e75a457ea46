"""Steps' code on the node: each bundle is fetched from the agent once, checked, unpacked, and then only read.

<root>/<digest hex>/       the unpacked directory; its time is that of its last use
<root>/.*                  being fetched, unpacked or removed; removed at start

Each new one makes the longest unused ones go, if they are too many bytes together, but for those of warm workers.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc

from cluster_agent.bundles.surplus import Kept, surplus
from cluster_agent.runtimes.errors import StartError
from wire.digests import content_digest
from workflow.bundle import BundleError, unpack

Fetch = Callable[[str, bytes], AsyncIterator[bytes]]  # (namespace, digest) -> pieces of the archive
_ATTEMPTS = 6
_MOST_BYTES = 4 << 30
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


class Bundles:
    """The bundles below `root`, within `most_bytes` together, fetched by `fetch`. `in_use` tells who must not go."""

    def __init__(
        self, root: Path, fetch: Fetch, in_use: Callable[[], set[bytes]] = set, *, most_bytes: int = _MOST_BYTES
    ) -> None:
        self._root = root
        self._fetch = fetch
        self._in_use = in_use
        self._most_bytes = most_bytes
        self._coming: dict[bytes, asyncio.Task[Path]] = {}
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob(".*"):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()

    async def get(self, namespace: str, digest: bytes) -> Path:
        """The directory of a bundle. StartError if it can't be had, or is not what its digest says."""
        target = self._root / digest.hex()
        if target.is_dir():
            os.utime(target)
            return target
        task = self._coming.get(digest)
        if task is None:
            task = self._coming[digest] = asyncio.create_task(self._get(namespace, digest, target))
            task.add_done_callback(lambda _: self._coming.pop(digest, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Give up what is being fetched."""
        tasks = list(self._coming.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _get(self, namespace: str, digest: bytes, target: Path) -> Path:
        archive = self._root / f".{digest.hex()}.tar.zst"
        try:
            await self._download(namespace, digest, archive)
            await asyncio.to_thread(_unpack, archive, target, digest)
        except (OSError, ValueError, BundleError) as error:
            raise StartError(f"bundle {digest.hex()[:12]}: {error}") from error
        finally:
            archive.unlink(missing_ok=True)
        await self._clear(digest)
        return target

    async def _clear(self, fresh: bytes) -> None:
        """Remove the longest unused ones: out of sight at once, from the disk by a thread."""
        kept = await asyncio.to_thread(_kept, self._root)
        in_use = {digest.hex() for digest in (*self._in_use(), fresh)}
        for name in surplus(kept, self._most_bytes, time.time(), in_use):
            leaving = self._root / f".{name}.leaving"
            (self._root / name).rename(leaving)
            await asyncio.to_thread(shutil.rmtree, leaving, ignore_errors=True)

    async def _download(self, namespace: str, digest: bytes, archive: Path) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with archive.open("wb") as file:
                    async for chunk in self._fetch(namespace, digest):
                        file.write(chunk)
                return
            except grpc.aio.AioRpcError as error:
                if attempt == _ATTEMPTS or error.code() not in _AGAIN:
                    raise StartError(f"bundle {digest.hex()[:12]}: the agent says: {error.details()}") from None
            await asyncio.sleep(random.uniform(0, min(2.0, 0.1 * 2.0**attempt)))  # noqa: S311 - spreads load


def _kept(root: Path) -> list[Kept]:
    """All that are unpacked. Blocks."""
    return [
        Kept(path.name, sum(file.lstat().st_size for file in path.rglob("*")), path.stat().st_mtime)
        for path in root.iterdir()
        if not path.name.startswith(".")
    ]


def _unpack(archive: Path, target: Path, digest: bytes) -> None:
    if content_digest(archive) != digest:
        raise ValueError("its bytes are not what its digest says")
    unpack(archive, target)
    target.mkdir(exist_ok=True)
