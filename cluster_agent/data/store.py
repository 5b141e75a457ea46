"""A node's store: small units in a journal, large content in files by its digest with units as hard links to them.

    <root>/journal/                            small units, and results to be told (see `journal`)
    <root>/content, units, partial, trash      files (see `tiers.shelf`); in memory too, within a budget
    <root>/units/<namespace>/<run>/<unit hex>.ref   a unit whose bytes lie elsewhere (see `references`)

The index is in memory, and made again from the journal and the directories at start (see `inventory`). What counts is
done on the event loop, so that index and directories change together; hashing, copying, syncing and removing large
files happen in threads, on files that nobody else can reach. Content goes when its last unit does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from cluster_agent.data.base import Content, Damage, Store, UnitKey
from cluster_agent.data.datasets import DatasetDigests
from cluster_agent.data.errors import (
    ContentChangedError,
    NotAFileError,
    UnitAwayError,
    UnitDamagedError,
    UnitMissingError,
)
from cluster_agent.data.inventory import Runs
from cluster_agent.data.journal import Journal
from cluster_agent.data.proving import Proving
from cluster_agent.data.references import REFERENCE, reference_text
from cluster_agent.data.shared.errors import SharedStoreError
from cluster_agent.data.space import Space
from cluster_agent.data.sync import GroupSync
from cluster_agent.data.tiers.away import AwayTier
from cluster_agent.data.tiers.memory import MemoryTier
from cluster_agent.data.tiers.moving import Moving, Places
from cluster_agent.data.tiers.shelf import Shelf, check, link, own_copy, stamp_of, write
from cluster_agent.orders.messages import SMALL
from wire.digests import bytes_digest, content_digest

_HASH_INLINE_BYTES = 128 << 10
_FREE_AT_ONCE = 256
TRANSFER = re.compile(r"([0-9a-f]{64})(?:\.done)?")  # the names of what is arriving, by digest

_DISK_ONLY = Places()

A = TypeVar("A")
T = TypeVar("T")


class DiskStore(Store):
    """The store below `root`. `capacity` bounds its bytes (0 = the file system does); call `close` at the end.

    Contents of up to `small` bytes are kept in the journal.
    """

    def __init__(
        self,
        root: Path,
        *,
        durability: str = "process",
        capacity: int = 0,
        small: int = SMALL,
        places: Places = _DISK_ONLY,
    ) -> None:
        self.root = root
        self.durability = durability
        self.small = small
        self.on_moved: Callable[[], None] = lambda: None  # contents are in other tiers than before
        self.on_damage: Callable[[Damage], None] = lambda _: None
        self.space = Space(root, capacity, lambda: self.stored_bytes)
        self._contents: dict[bytes, Content] = {}
        self._datasets = DatasetDigests(self._hash)
        self._copying = asyncio.Lock()
        self._runs: Runs = {}
        self._executor = ThreadPoolExecutor(max_workers=3, thread_name_prefix="store")
        self.journal = Journal(root / "journal")
        self._small: dict[bytes, Content] = {}  # by digest, the newest of each
        self.proving = Proving(self.damaged)
        self._sync = GroupSync(root, self._executor, self.journal)
        self._small_bytes = 0
        self._disk = Shelf(root, self._executor, self._sync.touched, self.space.grew)
        for path in self.partial.iterdir():
            if not TRANSFER.fullmatch(path.name):  # what was in the middle of being made here: it is begun anew
                path.unlink()
        self._tiers = Moving(
            self._disk,
            places,
            self._executor,
            free_bytes=self.space.free,
            check_space=self.space.check,
            drop=self.damaged,
            moved=self._moved,
        )
        for content in self._tiers.inventory(self._runs):
            self._contents.setdefault(content.digest, content)
        for key, content in list(self.journal.units()):
            if key.unit in self._runs.get(key[:2], {}):
                self.journal.free(content)  # its free was not written before the crash; the file is newer
            else:
                self._enter(key, content)

    @property
    def partial(self) -> Path:
        """Where transfers keep what they have so far."""
        return self._disk.partial

    @property
    def stored_bytes(self) -> int:
        """Bytes on the disk."""
        return self._disk.used + self._small_bytes

    @property
    def memory(self) -> MemoryTier | None:
        """The tier in memory."""
        return self._tiers.memory

    @property
    def away(self) -> AwayTier | None:
        """The tier in object storage."""
        return self._tiers.away

    # ------------------------------------------------------------------------------------------------- questions

    def find(self, key: UnitKey) -> Content:
        content = self._named(key)
        if content.path is not None:
            try:
                check(content)
            except ContentChangedError as error:
                if content.foreign:
                    raise  # a dataset's owner has changed it
                self.damaged(content, str(error))
                raise UnitDamagedError(f"unit {key.unit.hex()} of run {key.run} is damaged: {error}") from error
            if content.shelf is not None:
                content.shelf.use(content)
        elif content.away:
            raise UnitAwayError(f"unit {key.unit.hex()} of run {key.run} is in object storage, and was not brought")
        elif content.data is None:
            content = Content(content.digest, content.size, data=self._read_small(content))
        return content

    async def verify(self, key: UnitKey, digest: bytes) -> bool:
        """Whether the unit is here with the very bytes of `digest`: they are read. Damaged content is dropped."""
        try:
            await self.assure([key], anew=True)
            content = self.find(key)
        except (SharedStoreError, OSError):  # nobody knows, so it is not lost
            return self._named(key).digest == digest
        except UnitMissingError:
            return False
        except ContentChangedError as error:
            self.damaged(self._named(key), str(error))
            return False
        return content.digest == digest and (content.data is None or bytes_digest(content.data) == digest)

    def read(self, key: UnitKey) -> bytes | None:
        content = self._named(key)
        return content.data if content.data is not None else self.find(key).data

    def holds(self, key: UnitKey) -> bool:
        """Whether there is content under this name."""
        return key.unit in self._runs.get(key[:2], {})

    def has(self, digest: bytes) -> bool:
        content = self._contents.get(digest)
        return digest in self._small or (content is not None and content.path is not None)

    def units(self) -> Iterator[UnitKey]:
        for (namespace, run), units in self._runs.items():
            for unit in units:
                yield UnitKey(namespace, run, unit)

    def files(self) -> list[Content]:
        """What lies in files of ours on this node."""
        return [content for shelf in self._tiers.shelves for content in shelf.contents if not content.foreign]

    # ---------------------------------------------------------------------------------------------------- bytes in

    def put(self, key: UnitKey, data: bytes, digest: bytes | None = None) -> Content:
        content = Content(digest or bytes_digest(data), len(data), data=data)
        units = self._runs.get(key[:2])
        former = units.get(key.unit) if units is not None else None
        if former is not None:
            if former.path is None and former.digest == content.digest:
                return former
            self._forget(key)
        self.journal.put(key, content, data)
        self._enter(key, content)
        return content

    async def commit(self, file: Path, key: UnitKey, digest: bytes | None = None) -> Content:
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFileError(f"{file.name} is not a regular file")
        if status.st_size <= self.small:
            content = self.put(key, file.read_bytes(), digest)
            file.unlink()
            return content
        if digest is None:
            digest = await self._hash(file, status.st_size, ours=status.st_nlink == 1)
        if status.st_nlink > 1 and digest not in self._contents:
            file = await self._in_thread(own_copy, file)  # somebody else could change it through the other name
        return self._place(file, key, digest, status.st_size)

    async def reference(self, file: Path, key: UnitKey) -> Content:
        before = stamp_of(file)
        size, changed = before
        data = file.read_bytes() if size <= self.small else None
        digest = bytes_digest(data) if data is not None else await self._datasets.digest(file)
        if before != stamp_of(file):
            raise ContentChangedError(f"{file} was written to while its digest was made; try again when it rests")
        if data is not None:
            return self.put(key, data, digest)
        content = self._sound(digest)
        if content is None:
            try:
                content = self._contents[digest] = self._disk.link_in(file, digest, size, changed)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                    raise
                return self.refer(key, Content(digest, size, file, changed, True, False))
        self._name(key, content)
        return content

    async def own(self, key: UnitKey) -> None:
        async with self._copying:  # whoever wants the same bytes finds them then
            content = self.find(key)
            if content.path is None or content.shared:
                return
            if not self.name(key, content.digest):
                await self._copy(key, content)

    async def _copy(self, key: UnitKey, content: Content) -> None:
        """Place a copy of a dataset's file, under the name of its unit."""
        self.space.check(content.size)
        copy = self._disk.fresh(content.digest)
        try:
            await self._in_thread(partial(shutil.copyfile, content.file), copy)
            if self.find(key) is content:  # else it was freed, or read anew, meanwhile
                self._place(copy, key, content.digest, content.size)
        finally:
            copy.unlink(missing_ok=True)

    def name(self, key: UnitKey, digest: bytes) -> bool:
        known = self._runs.get((key.namespace, key.run), {}).get(key.unit)
        small = known if known is not None and known.digest == digest else self._small.get(digest)
        if small is not None and not small.large:
            with contextlib.suppress(UnitDamagedError):
                if small is not known:
                    self.put(key, self._read_small(small), digest)
                return True
        content = self._sound(digest)
        if content is not None:
            self._name(key, content)
        return content is not None

    def flush(self) -> None:
        self.journal.flush()
        if self.durability != "power":
            self.journal.drop()

    def save(self) -> None:
        """Have all of the journal survive a loss of power, whatever the durability is. Blocks; OSError."""
        self.journal.flush()
        self._sync.at_once()

    async def durable(self) -> None:
        self.flush()
        if self.durability == "power":
            await self._sync.wait()

    # --------------------------------------------------------------------------------------------------- bytes out

    async def bring(self, keys: Collection[UnitKey]) -> None:
        while wanted := [content for key in keys if (content := self._named(key)).away]:
            await self._tiers.bring(wanted)
        for content in map(self._named, keys):
            known = self._contents.get(content.digest)
            if content.shelf is not None and (known is None or known.path is None):
                self._contents[content.digest] = content  # of several with the same bytes the one that is here

    async def assure(self, keys: Collection[UnitKey], *, anew: bool = False) -> None:
        await self.bring(keys)
        for key in keys:
            while (content := self._named(key)).path is not None and (anew or self.proving.due(content)):
                sound = await self.proving.prove(content)
                if sound:
                    break
                if sound is not None:
                    raise UnitDamagedError(f"unit {key.unit.hex()} of run {key.run} is damaged")
                await self.bring([key])  # it has moved meanwhile

    def link(self, key: UnitKey, target: Path, held: list[Path] | None = None) -> Content:
        content = self.find(key)
        if content.path is None:
            assert content.data is not None
            write(target, content.data)
        elif not content.shared:
            target.symlink_to(content.path)
        else:
            holding = link(content, target)
            if holding is not None and held is not None:
                held.append(holding)
        return content

    # ----------------------------------------------------------------------------------------------------- freeing

    async def free(self, keys: Collection[UnitKey]) -> None:
        for count, key in enumerate(keys, 1):
            self._forget(key)
            if count % _FREE_AT_ONCE == 0:
                self._flush_frees()
                await asyncio.sleep(0)
        self.space.grew()

    async def end_run(
        self, namespace: str, run: str, keep: Collection[bytes], away: Collection[bytes] = (), *, results: bool = True
    ) -> None:
        kept = frozenset(keep)
        units = self._runs.get((namespace, run), {})
        await self.free([UnitKey(namespace, run, unit) for unit in units if unit not in kept])
        self.journal.end_run(namespace, run)
        self._flush_frees()
        self._tiers.end_run(namespace, run, self._runs.get((namespace, run), {}), away, results=results)

    def _flush_frees(self) -> None:
        """A full disk must not keep anybody from freeing; what is not written now is written by the next flush."""
        with contextlib.suppress(OSError):
            self.flush()
        self.space.grew()

    async def close(self) -> None:
        """Finish removing and syncing; what is in memory goes to the disk, as far as there is room."""
        await self.proving.close()
        await self._tiers.close()
        await self._sync.close()
        self._executor.shutdown()
        self.journal.close()

    # ---------------------------------------------------------------------------------------------------- inside

    def _moved(self) -> None:
        self.on_moved()

    async def _in_thread(self, function: Callable[[A], T], argument: A) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, argument)

    async def _hash(self, file: Path, size: int, *, ours: bool = False) -> bytes:
        if size <= _HASH_INLINE_BYTES:
            return content_digest(file)
        return await self._in_thread(partial(content_digest, ours=ours), file)

    def _named(self, key: UnitKey) -> Content:
        units = self._runs.get((key.namespace, key.run))
        content = units.get(key.unit) if units is not None else None
        if content is None:
            raise UnitMissingError(f"unit {key.unit.hex()} of run {key.run} is not in the store")
        return content

    def _enter(self, key: UnitKey, content: Content) -> None:
        """Put a content of the journal into the index."""
        units = self._runs.get(key[:2])
        if units is None:
            units = self._runs[key[:2]] = {}
        units[key.unit] = content
        self._small[content.digest] = content
        self._small_bytes += content.size

    def _sound(self, digest: bytes) -> Content | None:
        """Content that may get further units. If it was damaged it is dropped."""
        content = self._contents.get(digest)
        if content is None or content.path is None:  # None, or away
            return None
        try:
            check(content)
        except ContentChangedError as error:
            self.damaged(content, str(error))
            return None
        return content

    def _read_small(self, content: Content) -> bytes:
        try:
            return self.journal.read(content)
        except (ContentChangedError, OSError) as error:
            self.damaged(content, str(error))
            raise UnitDamagedError(f"a unit is damaged: {error}") from error

    def damaged(self, content: Content, why: str) -> None:
        """Content was found damaged: forget all units that name it, and tell of them."""
        keys = tuple(sorted(content.names or ()))
        if content.segment is not None:
            keys = (content.segment.units[content],)
        for key in keys:
            self._forget(key)
        if keys:
            shared = bool(content.away and self.away is not None and not self.away.is_own(content))
            self.on_damage(Damage(keys, content.digest, content.size, why, shared))

    def _place(self, file: Path, key: UnitKey, digest: bytes, size: int) -> Content:
        shelf = self._tiers.shelf_of(file)
        content = self._sound(digest)
        if content is not None:
            shelf.remove(file, size)
        else:
            if shelf is self._disk:
                self.space.check_capacity(size)
            content = self._contents[digest] = shelf.place(file, digest, size)
        self._name(key, content)
        self._tiers.stir()
        return content

    def _name(self, key: UnitKey, content: Content) -> None:
        """Make a unit of content; the newest naming of a unit counts."""
        former = self._runs.get(key[:2], {}).get(key.unit)
        if former is content:
            return
        content.add_name(key)  # before the former goes, which may be the same bytes
        if former is not None:
            self._forget(key)
        assert content.shelf is not None
        try:
            content.shelf.name(key, content)
        except OSError as error:
            self._lose_name(content, key)
            if error.errno != errno.EMLINK:
                raise
            shelf = content.shelf
            content = self._contents[content.digest] = shelf.copy(content)  # serves all further units
            content.add_name(key)
            shelf.name(key, content)
        self._runs.setdefault(key[:2], {})[key.unit] = content

    def _lose_name(self, content: Content, key: UnitKey) -> None:
        assert content.names is not None
        content.names.discard(key)
        if content.names:
            return
        if self._contents.get(content.digest) is content:
            del self._contents[content.digest]
        if content.shelf is not None:
            content.shelf.discard(content)
        else:
            self._tiers.forget(content)

    def refer(self, key: UnitKey, content: Content) -> Content:
        """Make a unit of bytes that lie elsewhere. OSError."""
        self._forget(key)
        path = self._disk.unit_path(key)
        reference = path.with_name(f"{path.name}{REFERENCE}")
        fresh = self._disk.fresh(content.digest)
        fresh.write_text(reference_text(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.rename(reference)
        content.add_name(key)
        self._runs.setdefault(key[:2], {})[key.unit] = content
        self._sync.touched(reference, path.parent)
        return content

    def _forget(self, key: UnitKey) -> None:
        units = self._runs.get(key[:2], {})
        content = units.pop(key.unit, None)
        if content is None:
            return
        if not units:
            del self._runs[key[:2]]
        if not content.large:
            self.journal.free(content)
            self._small_bytes -= content.size
            if self._small.get(content.digest) is content:
                del self._small[content.digest]
        elif content.shelf is not None:
            content.shelf.unname(key)
            self._lose_name(content, key)
        else:
            self._disk.unname(key, REFERENCE)
            self._lose_name(content, key)
        if not units:
            for shelf in self._tiers.shelves:
                shelf.tidy(key)
