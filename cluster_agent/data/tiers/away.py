"""The tier in object storage: what is cold on a full disk, and outputs that shall lie there, is an object until wanted.

    send:   put ─▶ read again, digest right ─▶ in one turn: a reference for each unit, and the file goes
    bring:  get ─▶ digest right ─▶ in one turn: the file has its names, and the references go ─▶ the object is deleted

So a content is in one place or in both, never in none. Objects of a run that goes on are the node's own, under names
that are not used again. What a crash leaves there is swept at the end of its run: which runs have had any is kept on
the disk.

    <root>/away/<namespace>/<run>      an empty file: objects of this run may be there

An output of a run that has ended must outlive this node's disk. So it lies under its unit's name, where other nodes of
the cluster find it (see `kept`), and is not this node's to delete, neither when it is brought back nor when it is
freed. What was sent while the run went on is copied there at its end.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import structlog

from cluster_agent.data.base import Content, UnitKey, path_part
from cluster_agent.data.errors import ContentChangedError, DataError, UnitMissingError
from cluster_agent.data.references import REFERENCE, new_references
from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.errors import MissingError, SharedStoreError
from cluster_agent.data.tiers.kept import Kept
from cluster_agent.data.tiers.shelf import Shelf, check
from wire.digests import content_digest

_SWEEP_AGAIN_SECONDS = 60.0
_log = structlog.get_logger(__name__)


class AwayPlace(NamedTuple):
    """A bucket, and the directory in it that is a node's own."""

    store: SharedStore
    directory: str


class AwayTier:
    """The objects of one node. `drop` forgets content that is lost; `close` it at the end."""

    def __init__(
        self,
        place: AwayPlace,
        disk: Shelf,
        in_thread: Callable[[Callable[[Path], object], Path], Awaitable[object]],
        check_space: Callable[[int], None],
        drop: Callable[[Content, str], None],
    ) -> None:
        self.used = 0
        self.kept: Kept | None = None  # where outputs of ended runs lie; set once there is what puts them there
        self._place, self._directory = place
        self._disk = disk
        self._in_thread = in_thread
        self._check_space = check_space
        self._drop = drop
        self._bringing: dict[Content, asyncio.Task[None]] = {}
        self._objects: dict[str, Content] = {}
        self._sending: set[str] = set()
        self._doomed: list[str] = []
        self._deleting: asyncio.Task[None] | None = None
        self._sweeping: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._begun = os.urandom(4).hex()
        self._numbers = itertools.count()
        self._marks = disk.root / "away"

    @property
    def place(self) -> str:
        """Which bucket that is."""
        return self._place.place

    def found(self, contents: Iterable[Content]) -> None:
        """What an earlier process has sent."""
        for content in contents:
            self._has(content, content.away)

    # ------------------------------------------------------------------------------------------------------ there

    def takes(self, content: Content) -> bool:
        """Whether a content may be sent at some time: it is ours, and not too large for an object."""
        return not content.foreign and content.size <= self._place.most

    def may_go(self, content: Content) -> bool:
        """Whether a content on the disk may be sent now: it is of one run, and no task has it open."""
        names = content.names or set()
        if not self.takes(content) or len({key[:2] for key in names}) != 1:
            return False
        try:
            return content.file.stat().st_nlink == len(names) + 1
        except FileNotFoundError:
            return False

    def is_own(self, content: Content) -> bool:
        """Whether a content that is there is an object of this node alone."""
        return content.away.startswith(self._directory)

    def misplaced(self, content: Content) -> bool:
        """Whether a content is an object of this node alone, and an output of a run that has ended."""
        return bool(content.away and content.kept and content.names and self.kept is not None) and self.is_own(content)

    async def send(self, content: Content) -> None:
        """Move a content from the disk there, unless it is wanted meanwhile. DataError or OSError if it stays."""
        names = sorted(content.names or ())
        if content.kept and self.kept is not None:
            objects = [self.kept.name(key) for key in names]
            if not await self.kept.put(names, content):
                await self._refuse(content, objects[0])
            await self._exchange(content, names, objects)
            return
        namespace, run = names[0][:2]
        self._mark(namespace, run)
        name = f"{self._of_run(namespace, run)}{content.digest.hex()}.{self._begun}{next(self._numbers)}"
        self._sending.add(name)
        gone = False
        try:
            await self._place.put(name, content.file)
            if await self._place.digest(name) != content.digest:
                await self._refuse(content, name)
            gone = await self._exchange(content, names, [name] * len(names))
        finally:
            self._sending.discard(name)
            if not gone:
                self._delete_later(name)

    async def _refuse(self, content: Content, name: str) -> None:
        """What lies there now has other bytes: either those of the file are wrong, or the place has spoilt them."""
        if await self._in_thread(content_digest, content.file) != content.digest:
            self._drop(content, "its bytes are not those of its digest")
            raise ContentChangedError(f"{content.path} is damaged, and does not go to {self._place.place}")
        raise SharedStoreError(f"{self._place.place} does not give {name} back as it was put there")

    async def _exchange(self, content: Content, names: list[UnitKey], objects: list[str]) -> bool:
        """From here on it lies there; not if it has another name by now, or none, or is in use."""
        async with new_references(self._disk.fresh, self._in_thread, content, objects) as references:
            if sorted(content.names or ()) != names or content.shelf is not self._disk or not self.may_go(content):
                return False
            check(content)
            for key, fresh in zip(names, references, strict=True):
                self._refer(key, fresh)
                self._disk.unname(key)
            self._disk.discard(content)
            content.path, content.shelf = None, None
            self._has(content, objects[0])
            return True

    async def promote(self, content: Content) -> None:
        """Have a misplaced content lie where other nodes find it, unless it is wanted meanwhile. As `send`."""
        assert self.kept is not None
        names, former = sorted(content.names or ()), content.away
        objects = [self.kept.name(key) for key in names]
        if not await self.kept.put(names, content, former):
            raise SharedStoreError(f"{self._place.place} does not give {objects[0]} back as it was copied there")
        async with new_references(self._disk.fresh, self._in_thread, content, objects) as references:
            if sorted(content.names or ()) != names or content.away != former or content in self._bringing:
                return
            for key, fresh in zip(names, references, strict=True):
                self._refer(key, fresh)
            self.forget(content)
            self._has(content, objects[0])

    def _refer(self, key: UnitKey, reference: Path) -> None:
        path = self._disk.unit_path(key)
        reference.rename(path.with_name(f"{path.name}{REFERENCE}"))

    # ------------------------------------------------------------------------------------------------------- back

    async def bring(self, content: Content) -> None:
        """Have a content on the disk again. SharedStoreError: not now. UnitMissingError: never."""
        task = self._bringing.get(content)
        if task is None:
            task = self._bringing[content] = asyncio.create_task(self._bring(content))
            task.add_done_callback(lambda _: self._bringing.pop(content, None))
        await asyncio.shield(task)

    async def _bring(self, content: Content) -> None:
        fresh = self._disk.fresh(content.digest)
        try:
            self._check_space(content.size)
            await self._get(content, fresh)
            if not content.names:
                return
            moved = self._disk.place(fresh, content.digest, content.size)
            self._rename(content, moved)
            self.forget(content)
            self._disk.exchange(moved, content)
        except (MissingError, ContentChangedError) as error:
            self._drop(content, str(error))
            raise UnitMissingError(f"a unit is lost: {error}") from error
        finally:
            fresh.unlink(missing_ok=True)

    async def _get(self, content: Content, target: Path) -> None:
        """Write a content to a file. MissingError or ContentChangedError if no object of it is what it should be."""
        objects = {content.away: None}
        if self.kept is not None and not self.is_own(content):
            objects |= dict.fromkeys(self.kept.name(key) for key in sorted(content.names or ()))
        wrong: DataError | None = None
        for name in objects:
            try:
                await self._place.get(name, target)
            except MissingError as error:
                wrong = wrong or error
                continue
            if await self._in_thread(content_digest, target) == content.digest:
                return
            wrong = ContentChangedError(f"{name} in {self._place.place} is not what was put there")
        assert wrong is not None
        raise wrong

    def _rename(self, content: Content, moved: Content) -> None:
        """Give the file the names of the units in place of the references. OSError, and all is as it was."""
        named: list[UnitKey] = []
        try:
            for key in content.names or ():
                self._disk.name(key, moved)
                named.append(key)
        except OSError:
            for key in named:
                self._disk.unname(key)
            self._disk.discard(moved)
            raise
        for key in named:
            self._disk.unname(key, REFERENCE)

    # ------------------------------------------------------------------------------------------------------ nobody

    def forget(self, content: Content) -> None:
        """The object of a content is not this node's any more: if it was its alone, it is deleted."""
        self._objects.pop(content.away)
        self.used -= content.size
        if self.is_own(content):
            self._delete_later(content.away)

    def _delete_later(self, name: str) -> None:
        """Delete an object; if that fails, the end of its run does it."""
        self._doomed.append(name)
        if self._deleting is None:
            self._deleting = asyncio.create_task(self._delete())

    async def _delete(self) -> None:
        try:
            while self._doomed:
                names, self._doomed = self._doomed[:1000], self._doomed[1000:]
                await self._place.delete(names)
        except DataError as error:
            _log.info("objects are not deleted yet", error=str(error))
        finally:
            self._deleting = None

    def sweep(self, namespace: str, run: str) -> None:
        """A run has ended: delete what nobody knows of any more."""
        key = (namespace, run)
        if key not in self._sweeping and self._mark_of(namespace, run).exists():
            task = self._sweeping[key] = asyncio.create_task(self._sweep(namespace, run))
            task.add_done_callback(lambda _: self._sweeping.pop(key, None))

    async def _sweep(self, namespace: str, run: str) -> None:
        while True:
            try:
                found = [name async for name in self._place.names(self._of_run(namespace, run))]
                await self._place.delete([name for name in found if not self._wanted(name)])
                break
            except DataError as error:
                _log.info("the objects of a run are not swept yet", run=run, error=str(error))
                await asyncio.sleep(_SWEEP_AGAIN_SECONDS)
        directory = self._of_run(namespace, run)
        if not any(name.startswith(directory) for name in (*self._objects, *self._sending)):
            self._mark_of(namespace, run).unlink(missing_ok=True)

    def _wanted(self, name: str) -> bool:
        return name in self._objects or name in self._sending

    def marked(self) -> list[tuple[str, str]]:
        """The runs of which there may be objects."""
        return [(path.parent.name, path.name) for path in self._marks.glob("*/*")]

    async def close(self) -> None:
        """Begin nothing more; what is being deleted is left to the next start."""
        tasks = [*self._bringing.values(), *self._sweeping.values(), *([self._deleting] if self._deleting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _has(self, content: Content, name: str) -> None:
        content.away = name
        self._objects[name] = content
        self.used += content.size

    def _of_run(self, namespace: str, run: str) -> str:
        return f"{self._directory}{path_part(namespace)}/{path_part(run)}/"

    def _mark_of(self, namespace: str, run: str) -> Path:
        return self._marks / path_part(namespace) / path_part(run)

    def _mark(self, namespace: str, run: str) -> None:
        mark = self._mark_of(namespace, run)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
