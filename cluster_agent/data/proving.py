"""Reads files of the store and compares them to their digests: before a task is given what has lain for long.

What was written or read through within the last hour mostly comes out of the machine's memory, and to read it again
would show nothing of the disk. All else is read before it is used; whoever uses it then has it from memory, so that it
is read from the disk once all the same. It is read, not mapped: an unreadable sector must not end the process.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from cluster_agent.data.base import Content
from wire.digests import ContentHasher

PROVEN_SECONDS: Final = 3600.0
_PIECE_BYTES: Final = 4 << 20
_THREADS: Final = 2
DISKS_FAULT: Final = (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.ENOENT)


class Proving:
    """`drop` forgets content for the reason given. Has threads of its own, so that who writes does not wait for it."""

    def __init__(self, drop: Callable[[Content, str], None]) -> None:
        self._drop = drop
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="prove")
        self._under_way: dict[Content, asyncio.Task[bool | None]] = {}

    def due(self, content: Content) -> bool:
        """Whether content in a file of ours was last proven so long ago that it should be read before it is used."""
        return not content.foreign and time.monotonic() - content.proven > PROVEN_SECONDS

    async def prove(self, content: Content) -> bool | None:
        """Whether a file has the bytes of its digest; where not, it is dropped. None: it was freed, or has moved.

        Whoever asks meanwhile gets the same answer. OSError: nobody knows, and the disk is not to blame.
        """
        task = self._under_way.get(content)
        if task is None:
            task = self._under_way[content] = asyncio.create_task(self._prove(content))
            task.add_done_callback(lambda _: self._under_way.pop(content, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Return when nothing is being read."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self._executor.shutdown()

    async def _prove(self, content: Content) -> bool | None:
        path, began = content.path, time.monotonic()
        if path is None:
            return None
        try:
            digest = await asyncio.get_running_loop().run_in_executor(self._executor, digest_of, path)
        except OSError as error:
            if error.errno not in DISKS_FAULT:
                raise
            why = f"its bytes can't be read: {error.strerror or error}"
        else:
            if digest == content.digest:
                content.proven = began
                return True
            why = "its bytes are not those of its digest"
        if content.path != path or not content.names:
            return None
        self._drop(content, why)
        return False


def digest_of(path: Path) -> bytes:
    """The digest of a file, of which every byte is read. Blocks. OSError."""
    hasher = ContentHasher()
    buffer = memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
    return hasher.digest()
