"""How files become content: what a task or a transfer wrote is taken over, a dataset's file is left where it lies.

    commit    ─▶ digest ─▶ a shelf, by rename ─▶ named      (small: into the journal)
    reference ─▶ digest ─▶ a further name of the file, or a reference to it where that is on another file system
    own       ─▶ a copy, for who sees only the store

Hashing and copying happen in threads, on files that nobody else can reach; what counts is done on the event loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.datasets import DatasetDigests
from cluster_agent.data.errors import ContentChangedError, NotAFileError
from cluster_agent.data.index import Index
from cluster_agent.data.space import Space
from cluster_agent.data.tiers.moving import Moving
from cluster_agent.data.tiers.shelf import own_copy, stamp_of
from wire.digests import bytes_digest, content_digest

_HASH_INLINE_BYTES: Final = 128 << 10
_NO_LINK: Final = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)

A = TypeVar("A")
T = TypeVar("T")


class Intake:
    """Takes files into `tiers` and the index. Those of up to `small` bytes it gives to `put`; `sound` is content of a
    digest that may get further units, `find` that of a unit, whose file is what it was."""

    def __init__(
        self,
        index: Index,
        tiers: Moving,
        space: Space,
        executor: Executor,
        small: int,
        put: Callable[[UnitKey, bytes, bytes | None], Content],
        sound: Callable[[bytes], Content | None],
        find: Callable[[UnitKey], Content],
    ) -> None:
        self._index = index
        self._tiers = tiers
        self._space = space
        self._executor = executor
        self._small = small
        self._put = put
        self._sound = sound
        self._find = find
        self._datasets = DatasetDigests(self._hash)

    async def commit(self, file: Path, key: UnitKey, digest: bytes | None) -> Content:
        """See Store."""
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFileError(f"{file.name} is not a regular file")
        if status.st_size <= self._small:
            content = self._put(key, file.read_bytes(), digest)
            file.unlink()
            return content
        if digest is None:
            digest = await self._hash(file, status.st_size, ours=status.st_nlink == 1)
        if status.st_nlink > 1 and digest not in self._index.large:
            file = await self._in_thread(own_copy, file)  # somebody else could change it through the other name
        return self._place(file, key, digest, status.st_size)

    async def reference(self, file: Path, key: UnitKey) -> Content:
        """See Store."""
        before = stamp_of(file)
        size, changed = before
        data = file.read_bytes() if size <= self._small else None
        digest = bytes_digest(data) if data is not None else await self._datasets.digest(file)
        if before != stamp_of(file):
            raise ContentChangedError(f"{file} was written to while its digest was made; try again when it rests")
        if data is not None:
            return self._put(key, data, digest)
        content = self._sound(digest)
        if content is None:
            try:
                content = self._index.large[digest] = self._tiers.disk.link_in(file, digest, size, changed)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                content = Content(digest, size, file, changed, foreign=True, shared=False)
                self._index.refer(key, content)
                return content
        self._index.name(key, content)
        return content

    async def copy(self, key: UnitKey, content: Content) -> None:
        """Place a copy of a dataset's file, under the name of its unit. Same errors as `find`."""
        self._space.check(content.size)
        copy = self._tiers.disk.fresh(content.digest)
        try:
            await self._in_thread(partial(shutil.copyfile, content.file), copy)
            if self._find(key) is content:  # else it was read anew meanwhile
                self._place(copy, key, content.digest, content.size)
        finally:
            copy.unlink(missing_ok=True)

    def _place(self, file: Path, key: UnitKey, digest: bytes, size: int) -> Content:
        """Have a file as the content of a unit, if there is none of the same bytes."""
        shelf = self._tiers.shelf_of(file)
        content = self._sound(digest)
        if content is not None:
            shelf.remove(file, size)
        else:
            if shelf is self._tiers.disk:
                self._space.check_capacity(size)
            content = self._index.large[digest] = shelf.place(file, digest, size)
        self._index.name(key, content)
        self._tiers.stir()
        return content

    async def _hash(self, file: Path, size: int, *, ours: bool = False) -> bytes:
        if size <= _HASH_INLINE_BYTES:
            return content_digest(file)
        return await self._in_thread(partial(content_digest, ours=ours), file)

    async def _in_thread(self, function: Callable[[A], T], argument: A) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, argument)
