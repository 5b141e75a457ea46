"""The store on a disk: small units in a journal, large content by its digest with units as hard links to it.

    <root>/journal/                            small units, and results to be told (see `journal`)
    <root>/content/<aa>/<digest hex>[.<n>]     the bytes, mode 0444
    <root>/units/<namespace>/<run>/<unit hex>  a hard link to the content
    <root>/units/<namespace>/<run>/<unit hex>.ref   a dataset's file on another file system: JSON
    <root>/partial/                            transfers that are not complete
    <root>/trash/                              what a thread is removing

The index is in memory, and made again from the journal and the directories at start (see `inventory`). What counts is
done on the event loop, so that index and directories change together; hashing, syncing and removing large files happen
in threads, on files that nobody else can reach. Content goes when its last unit does: it is renamed into the trash at
once, and removed when there is time. `.<n>` are further copies for content that more units name than a file can have
links.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from cluster_agent.data.base import Content, Store, UnitKey, path_part
from cluster_agent.data.datasets import DatasetDigests
from cluster_agent.data.errors import ContentChangedError, NoSpaceError, NotAFileError, UnitMissingError
from cluster_agent.data.inventory import Runs, take_inventory
from cluster_agent.data.journal import Journal
from cluster_agent.data.sync import GroupSync
from cluster_agent.data.trash import Trash
from cluster_agent.orders.messages import SMALL
from wire.digests import bytes_digest, content_digest

_HASH_INLINE_BYTES = 128 << 10
_FREE_AT_ONCE = 256
TRANSFER = re.compile(r"([0-9a-f]{64})(?:\.done)?")  # the names of what is arriving, by digest
_RESERVE_BYTES = 64 << 20  # kept free for tasks, which free space by getting on

A = TypeVar("A")
T = TypeVar("T")


class DiskStore(Store):
    """The store below `root`. `capacity` bounds its bytes (0 = the file system does); call `close` at the end.

    Contents of up to `small` bytes are kept in the journal.
    """

    def __init__(self, root: Path, *, durability: str = "process", capacity: int = 0, small: int = SMALL) -> None:
        self.root = root
        self.durability = durability
        self.stored_bytes = 0
        self.small = small
        self.on_full: Callable[[int], None] = lambda _: None  # so many bytes are needed; whoever can spare some
        self._capacity = capacity
        self._contents: dict[bytes, Content] = {}
        self._datasets = DatasetDigests(self._hash)
        self._copying = asyncio.Lock()
        self._runs: Runs = {}
        self._executor = ThreadPoolExecutor(max_workers=3, thread_name_prefix="store")
        self.journal = Journal(root / "journal")
        self._small: dict[bytes, Content] = {}  # by digest, the newest of each
        self._sync = GroupSync(root, self._executor, self.journal)
        self._numbers = itertools.count()
        self._trash = Trash(root / "trash", self._executor)
        for name in ("content", "units", "partial"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for path in (root / "partial").iterdir():
            if not TRANSFER.fullmatch(path.name):  # what was in the middle of being made here: it is begun anew
                path.unlink()
        for content in take_inventory(root, self._runs):
            self._contents[content.digest] = content
            self.stored_bytes += 0 if content.foreign else content.size
        for key, content in list(self.journal.units()):
            if key.unit in self._runs.get(key[:2], {}):
                self.journal.free(content)  # its free was not written before the crash; the file is newer
            else:
                self._enter(key, content)

    @property
    def partial(self) -> Path:
        """Where transfers keep what they have so far."""
        return self.root / "partial"

    # ------------------------------------------------------------------------------------------------- questions

    def find(self, key: UnitKey) -> Content:
        content = self._named(key)
        if content.path is not None:
            self._check(content)
        elif content.data is None:
            content = Content(content.digest, content.size, data=self.journal.read(content))
        return content

    async def verify(self, key: UnitKey, digest: bytes) -> bool:
        """Whether the unit is here with the very bytes of `digest`: they are read. Damaged content is dropped."""
        try:
            content = self.find(key)
        except UnitMissingError:
            return False
        except ContentChangedError:
            self._drop(self._named(key))
            return False
        if content.digest != digest:
            return False
        if content.data is not None:
            return bytes_digest(content.data) == digest
        try:
            sound = await self._in_thread(content_digest, content.file) == digest
        except FileNotFoundError:  # freed meanwhile
            return False
        if not sound and self._contents.get(digest) is content:
            self._drop(content)
        return sound

    def read(self, key: UnitKey) -> bytes | None:
        content = self._named(key)
        return content.data if content.data is not None else self.find(key).data

    def holds(self, key: UnitKey) -> bool:
        """Whether there is content under this name."""
        return key.unit in self._runs.get(key[:2], {})

    def has(self, digest: bytes) -> bool:
        return digest in self._small or digest in self._contents

    def units(self) -> Iterator[UnitKey]:
        for (namespace, run), units in self._runs.items():
            for unit in units:
                yield UnitKey(namespace, run, unit)

    def free_bytes(self) -> int:
        """What may still be stored, in bytes."""
        disk = os.statvfs(self.root)
        available = disk.f_bavail * disk.f_frsize - _RESERVE_BYTES
        if self._capacity:
            available = min(available, self._capacity - self.stored_bytes)
        return max(0, available)

    def check_space(self, size: int) -> None:
        """NoSpaceError unless `size` more bytes fit."""
        free = self.free_bytes()
        if size > free:
            self.on_full(size - free)
            raise NoSpaceError(f"{size} bytes don't fit: {free} bytes of this node's disk may still be used")

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
            file = await self._in_thread(_own_copy, file)  # somebody else could change it through the other name
        return self._place(file, key, digest, status.st_size)

    async def reference(self, file: Path, key: UnitKey) -> Content:
        before = _stamp(file)
        size, changed = before
        data = file.read_bytes() if size <= self.small else None
        digest = bytes_digest(data) if data is not None else await self._datasets.digest(file)
        if before != _stamp(file):
            raise ContentChangedError(f"{file} was written to while its digest was made; try again when it rests")
        if data is not None:
            return self.put(key, data, digest)
        content = self._sound(digest)
        if content is None:
            content = Content(digest, size, self._content_path(digest), changed, foreign=True)
            content.file.parent.mkdir(exist_ok=True)
            try:
                os.link(file, content.file)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                    raise
                return self._refer(file, key, Content(digest, size, file, changed, True, False))
            self._contents[digest] = content
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
        self.check_space(content.size)
        copy = self.partial / f".{content.digest.hex()}.{next(self._numbers)}.copy"
        try:
            await self._in_thread(partial(shutil.copyfile, content.file), copy)
            if self.find(key) is content:  # else it was freed, or read anew, meanwhile
                self._place(copy, key, content.digest, content.size)
        finally:
            copy.unlink(missing_ok=True)

    def name(self, key: UnitKey, digest: bytes) -> bool:
        known = self._runs.get((key.namespace, key.run), {}).get(key.unit)
        small = known if known is not None and known.digest == digest else self._small.get(digest)
        if small is not None and small.path is None:
            if small is not known:
                self.put(key, self.journal.read(small), digest)
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

    def link(self, key: UnitKey, target: Path) -> Content:
        content = self.find(key)
        if content.path is None:
            assert content.data is not None
            _write(target, content.data)
            return content
        if not content.shared:
            target.symlink_to(content.path)
            return content
        try:
            os.link(content.path, target)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            shutil.copyfile(content.path, target)
        return content

    # ----------------------------------------------------------------------------------------------------- freeing

    async def free(self, keys: Collection[UnitKey]) -> None:
        for count, key in enumerate(keys, 1):
            self._forget(key)
            if count % _FREE_AT_ONCE == 0:
                self._flush_frees()
                await asyncio.sleep(0)

    async def end_run(self, namespace: str, run: str, keep: Collection[bytes]) -> None:
        kept = frozenset(keep)
        units = self._runs.get((namespace, run), {})
        await self.free([UnitKey(namespace, run, unit) for unit in units if unit not in kept])
        self.journal.end_run(namespace, run)
        self._flush_frees()

    def _flush_frees(self) -> None:
        """A full disk must not keep anybody from freeing; what is not written now is written by the next flush."""
        with contextlib.suppress(OSError):
            self.flush()

    async def close(self) -> None:
        """Finish removing and syncing."""
        await self._trash.close()
        await self._sync.close()
        self._executor.shutdown()
        self.journal.close()

    # ---------------------------------------------------------------------------------------------------- inside

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
        self.stored_bytes += content.size

    def _check(self, content: Content) -> None:
        assert content.path is not None
        try:
            status = content.path.stat()
        except FileNotFoundError:
            raise ContentChangedError(f"{content.path} is gone") from None
        if (status.st_size, status.st_mtime_ns) != (content.size, content.stamp):
            raise ContentChangedError(f"{content.path} was changed after its digest was made")

    def _sound(self, digest: bytes) -> Content | None:
        """Content that may get further units. If it was damaged it is dropped, with all units that name it."""
        content = self._contents.get(digest)
        if content is None:
            return None
        try:
            self._check(content)
        except ContentChangedError:
            self._drop(content)
            return None
        return content

    def _drop(self, content: Content) -> None:
        """Forget all units that name it."""
        for run, units in list(self._runs.items()):
            for unit in [unit for unit, named in units.items() if named is content]:
                self._forget(UnitKey(*run, unit))

    def _content_path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self.root / "content" / name[:2] / name

    def _unit_path(self, key: UnitKey) -> Path:
        return self.root / "units" / path_part(key.namespace) / path_part(key.run) / key.unit.hex()

    def _place(self, file: Path, key: UnitKey, digest: bytes, size: int) -> Content:
        content = self._sound(digest)
        if content is not None:
            self._trash.take(file, size)
        else:
            path = self._content_path(digest)
            file.chmod(0o444)
            _move(file, path)
            content = Content(digest, size, path, path.stat().st_mtime_ns)
            self._contents[digest] = content
            self.stored_bytes += size
            self._sync.touched(path, path.parent)
        self._name(key, content)
        return content

    def _name(self, key: UnitKey, content: Content) -> None:
        """Make a unit of content; the newest naming of a unit counts."""
        units = self._runs.get((key.namespace, key.run), {})
        former = units.get(key.unit)
        if former is content:
            return
        content.refs += 1  # before the former goes, which may be the same bytes
        if former is not None:
            self._forget(key)
        path = self._unit_path(key)
        try:
            try:
                os.link(content.file, path)
            except FileNotFoundError:  # the first of its run that is a file
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(content.file, path)
        except OSError as error:
            if error.errno != errno.EMLINK:
                content.refs -= 1
                raise
            content = self._further_copy(content)
            os.link(content.file, path)
        self._runs.setdefault((key.namespace, key.run), {})[key.unit] = content
        self._sync.touched(path.parent)

    def _further_copy(self, full: Content) -> Content:
        """The same bytes in a file of their own; it serves all further units of the digest."""
        full.refs -= 1
        path = full.file.with_name(f"{full.digest.hex()}.{next(self._numbers)}")
        fresh = self.partial / path.name
        shutil.copyfile(full.file, fresh)
        fresh.chmod(0o444)
        while path.exists():
            path = full.file.with_name(f"{full.digest.hex()}.{next(self._numbers)}")
        fresh.rename(path)
        content = Content(full.digest, full.size, path, path.stat().st_mtime_ns, refs=1)
        self._contents[full.digest] = content
        self.stored_bytes += full.size
        self._sync.touched(path, path.parent)
        return content

    def _refer(self, file: Path, key: UnitKey, content: Content) -> Content:
        path = self._unit_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._forget(key)
        reference = path.with_name(f"{path.name}.ref")
        fresh = self.partial / reference.name
        told = {"path": str(file), "digest": content.digest.hex(), "size": content.size, "mtime_ns": content.stamp}
        fresh.write_text(json.dumps(told))
        fresh.rename(reference)
        content.refs = 1
        self._runs.setdefault((key.namespace, key.run), {})[key.unit] = content
        self._sync.touched(reference, path.parent)
        return content

    def _forget(self, key: UnitKey) -> None:
        run = (key.namespace, key.run)
        units = self._runs.get(run, {})
        content = units.pop(key.unit, None)
        if content is None:
            return
        if not units:
            del self._runs[run]
        if content.path is None:
            self.journal.free(content)
            self.stored_bytes -= content.size
            if self._small.get(content.digest) is content:
                del self._small[content.digest]
        else:
            path = self._unit_path(key)
            (path if content.shared else path.with_name(f"{path.name}.ref")).unlink(missing_ok=True)
            content.refs -= 1
            if content.refs == 0 and content.shared:
                self._discard(content)
        if not units:
            path = self._unit_path(key)
            for directory in (path.parent, path.parent.parent):
                try:
                    directory.rmdir()
                except OSError:
                    break  # not empty: another run, or a stray file that is not ours to judge

    def _discard(self, content: Content) -> None:
        if self._contents.get(content.digest) is content:
            del self._contents[content.digest]
        if self._trash.take(content.file, content.size) and not content.foreign:
            self.stored_bytes -= content.size


def _move(file: Path, target: Path) -> None:
    """Rename; the directory is there but for the first time."""
    try:
        file.rename(target)
    except FileNotFoundError:
        target.parent.mkdir(exist_ok=True)
        file.rename(target)


def _write(target: Path, data: bytes) -> None:
    """A file of our own of these bytes, read-only like those of the store."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _stamp(file: Path) -> tuple[int, int]:
    """What changes when a file is written to: its size, and when that was."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _own_copy(file: Path) -> Path:
    copy = file.with_name(f".{file.name}.copy")
    shutil.copyfile(file, copy)
    file.unlink()
    return copy
