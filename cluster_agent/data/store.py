"""A node's store: small units in a journal, large content in files by its digest with units as hard links to them.

    <root>/journal/                            small units, and results to be told (see `journal`)
    <root>/content, units, partial, trash      files (see `tiers.shelf`); in memory too, within a budget
    <root>/units/<namespace>/<run>/<unit hex>.ref   a unit whose bytes lie elsewhere (see `references`)

What is here is said by the `index`; files come in by the `intake`, and are moved between the `tiers`. What counts is
done on the event loop; hashing, copying, syncing and removing large files happen in threads, on files that nobody else
can reach. Content goes when its last unit does, and damaged content is never given out.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster_agent.data.base import Content, Damage, Store, UnitKey
from cluster_agent.data.errors import ContentChangedError, UnitAwayError, UnitDamagedError, UnitMissingError
from cluster_agent.data.index import Index
from cluster_agent.data.intake import Intake
from cluster_agent.data.journal import Journal
from cluster_agent.data.proving import Proving
from cluster_agent.data.shared.errors import SharedStoreError
from cluster_agent.data.space import Space
from cluster_agent.data.sync import GroupSync
from cluster_agent.data.tiers.away import AwayTier
from cluster_agent.data.tiers.memory import MemoryTier
from cluster_agent.data.tiers.moving import Moving, Places
from cluster_agent.data.tiers.shelf import Shelf, check, link, write
from cluster_agent.orders.messages import SMALL
from wire.digests import bytes_digest

_FREE_AT_ONCE = 256
TRANSFER = re.compile(r"([0-9a-f]{64})(?:\.done)?")  # the names of what is arriving, by digest
_DISK_ONLY = Places()


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
        self._copying = asyncio.Lock()
        self._executor = ThreadPoolExecutor(max_workers=3, thread_name_prefix="store")
        self.journal = Journal(root / "journal")
        self.proving = Proving(self.damaged)
        self._sync = GroupSync(root, self._executor, self.journal)
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
        self._index = Index(self.journal, self._tiers, self._sync.touched)
        self._intake = Intake(
            self._index, self._tiers, self.space, self._executor, small, self.put, self._sound, self.find
        )

    @property
    def partial(self) -> Path:
        """Where transfers keep what they have so far."""
        return self._disk.partial

    @property
    def stored_bytes(self) -> int:
        """Bytes on the disk."""
        return self._disk.used + self._index.small_bytes

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
        content = self._index.find(key)
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
            return self._index.find(key).digest == digest
        except UnitMissingError:
            return False
        except ContentChangedError as error:
            self.damaged(self._index.find(key), str(error))
            return False
        return content.digest == digest and (content.data is None or bytes_digest(content.data) == digest)

    def read(self, key: UnitKey) -> bytes | None:
        content = self._index.find(key)
        return content.data if content.data is not None else self.find(key).data

    def holds(self, key: UnitKey) -> bool:
        """Whether there is content under this name."""
        return self._index.get(key) is not None

    def has(self, digest: bytes) -> bool:
        content = self._index.large.get(digest)
        return digest in self._index.small or (content is not None and content.path is not None)

    def units(self) -> Iterator[UnitKey]:
        return self._index.units()

    def files(self) -> list[Content]:
        """What lies in files of ours on this node."""
        return [content for shelf in self._tiers.shelves for content in shelf.contents if not content.foreign]

    # ---------------------------------------------------------------------------------------------------- bytes in

    def put(self, key: UnitKey, data: bytes, digest: bytes | None = None) -> Content:
        content = Content(digest or bytes_digest(data), len(data), data=data)
        former = self._index.get(key)
        if former is not None:
            if former.path is None and former.digest == content.digest:
                return former
            self._index.forget(key)
        self.journal.put(key, content, data)
        self._index.enter(key, content)
        return content

    async def commit(self, file: Path, key: UnitKey, digest: bytes | None = None) -> Content:
        return await self._intake.commit(file, key, digest)

    async def reference(self, file: Path, key: UnitKey) -> Content:
        return await self._intake.reference(file, key)

    def refer(self, key: UnitKey, content: Content) -> Content:
        """Make a unit of bytes that lie elsewhere. OSError."""
        self._index.refer(key, content)
        return content

    async def own(self, key: UnitKey) -> None:
        async with self._copying:  # whoever wants the same bytes finds them then
            content = self.find(key)
            if content.path is None or content.shared:
                return
            if not self.name(key, content.digest):
                await self._intake.copy(key, content)

    def name(self, key: UnitKey, digest: bytes) -> bool:
        known = self._index.get(key)
        small = known if known is not None and known.digest == digest else self._index.small.get(digest)
        if small is not None and not small.large:
            with contextlib.suppress(UnitDamagedError):
                if small is not known:
                    self.put(key, self._read_small(small), digest)
                return True
        content = self._sound(digest)
        if content is not None:
            self._index.name(key, content)
        return content is not None

    def flush(self) -> None:
        self.journal.flush()
        if self.durability != "power":
            self.journal.segments.drop()

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
        while wanted := [content for key in keys if (content := self._index.find(key)).away]:
            await self._tiers.bring(wanted)
        for content in map(self._index.find, keys):
            known = self._index.large.get(content.digest)
            if content.shelf is not None and (known is None or known.path is None):
                self._index.large[content.digest] = content  # of several with the same bytes the one that is here

    async def assure(self, keys: Collection[UnitKey], *, anew: bool = False) -> None:
        await self.bring(keys)
        for key in keys:
            while (content := self._index.find(key)).path is not None and (anew or self.proving.due(content)):
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
            self._index.forget(key)
            if count % _FREE_AT_ONCE == 0:
                self._flush_frees()
                await asyncio.sleep(0)
        self.space.grew()

    async def end_run(
        self, namespace: str, run: str, keep: Collection[bytes], away: Collection[bytes] = (), *, results: bool = True
    ) -> None:
        kept = frozenset(keep)
        units = self._index.of_run(namespace, run)
        await self.free([UnitKey(namespace, run, unit) for unit in units if unit not in kept])
        self.journal.end_run(namespace, run)
        self._flush_frees()
        self._tiers.end_run(namespace, run, self._index.of_run(namespace, run), away, results=results)

    def _flush_frees(self) -> None:
        """A full disk must not keep anybody from freeing; what is not written now is written by the next flush."""
        with contextlib.suppress(OSError):
            self.flush()
        self.space.grew()

    def damaged(self, content: Content, why: str) -> None:
        """Content was found damaged: forget all units that name it, and tell of them."""
        keys = tuple(sorted(content.names or ()))
        if content.segment is not None:
            keys = (content.segment.units[content],)
        for key in keys:
            self._index.forget(key)
        if keys:
            shared = bool(content.away and self.away is not None and not self.away.is_own(content))
            self.on_damage(Damage(keys, content.digest, content.size, why, shared))

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

    def _sound(self, digest: bytes) -> Content | None:
        """Content that may get further units. If it was damaged it is dropped."""
        content = self._index.large.get(digest)
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
