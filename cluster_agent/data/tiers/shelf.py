"""Files of one file system by their digest, with units as hard links to them: the disk's shelf, and that in memory.

    <root>/content/<aa>/<digest hex>[.<n>]     the bytes, mode 0444
    <root>/units/<namespace>/<run>/<unit hex>  a hard link to the content
    <root>/held/<n>                            a link for a task whose directory is on another file system
    <root>/partial/                            what is being made
    <root>/trash/                              what a thread is removing

A shelf knows files, not which of them are wanted: that is the store's index. `.<n>` are further copies, for content
that more units name than a file can have links, and for content that has moved here beside one.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from cluster_agent.data.base import Content, UnitKey, path_part
from cluster_agent.data.errors import ContentChangedError
from cluster_agent.data.inventory import Runs, take_inventory
from cluster_agent.data.trash import Trash, empty


class Shelf:
    """The files below `root`; `touched` is told what a power failure could take, `grew` when
    room was made. Used from the event loop only."""

    def __init__(
        self,
        root: Path,
        executor: Executor,
        touched: Callable[[Path, Path], None],
        grew: Callable[[], None] = lambda: None,
    ) -> None:
        self.root = root
        self.partial = root / "partial"
        self.used = 0  # bytes that are ours
        self.contents: dict[Content, None] = {}  # what was not used for longest first
        self._touched = touched
        self._numbers = itertools.count()
        self._trash = Trash(root / "trash", executor, grew)
        for name in ("content", "units", "partial", "held"):
            (root / name).mkdir(parents=True, exist_ok=True)
        empty(root / "held")

    def inventory(self, runs: Runs) -> list[Content]:
        """What an earlier process left: all content that units name, which go into `runs`. Blocks."""
        found = take_inventory(self.root, runs)
        for content in found:
            if content.shared:
                self._has(content)
        return found

    def use(self, content: Content) -> None:
        """It was wanted just now."""
        del self.contents[content]
        self.contents[content] = None

    def content_path(self, digest: bytes) -> Path:
        """Where the first file of a digest lies."""
        name = digest.hex()
        return self.root / "content" / name[:2] / name

    def unit_path(self, key: UnitKey) -> Path:
        """Where the name of a unit lies."""
        return self.root / "units" / path_part(key.namespace) / path_part(key.run) / key.unit.hex()

    def place(self, file: Path, digest: bytes, size: int) -> Content:
        """Take over a file of this file system. OSError."""
        path = self._free_path(digest)
        file.chmod(0o444)
        _move(file, path)
        content = Content(digest, size, path, path.stat().st_mtime_ns, proven=time.monotonic())
        self._has(content)
        self._touched(path, path.parent)
        return content

    def link_in(self, file: Path, digest: bytes, size: int, stamp: int) -> Content:
        """Content that is a dataset's file, by a further name. OSError if it is on another file system."""
        path = self.content_path(digest)
        path.parent.mkdir(exist_ok=True)
        os.link(file, path)
        content = Content(digest, size, path, stamp, foreign=True)
        self._has(content)
        return content

    def name(self, key: UnitKey, content: Content) -> None:
        """Give content the name of a unit. OSError, with EMLINK if it has too many."""
        path = self.unit_path(key)
        try:
            os.link(content.file, path)
        except FileNotFoundError:  # the first of its run that is a file
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(content.file, path)
        self._touched(path.parent, path.parent)

    def copy(self, full: Content) -> Content:
        """The same bytes in a file of their own."""
        fresh = self.fresh(full.digest)
        shutil.copyfile(full.file, fresh)
        return self.place(fresh, full.digest, full.size)

    def fresh(self, digest: bytes) -> Path:
        """A new name for what is being made."""
        return self.partial / f".{digest.hex()}.{next(self._numbers)}.copy"

    def unname(self, key: UnitKey, suffix: str = "") -> None:
        """Take a unit's name away."""
        path = self.unit_path(key)
        (path.with_name(f"{path.name}{suffix}") if suffix else path).unlink(missing_ok=True)

    def tidy(self, key: UnitKey) -> None:
        """The unit's run has no units any more: remove its directories."""
        path = self.unit_path(key)
        for directory in (path.parent, path.parent.parent):
            try:
                directory.rmdir()
            except OSError:
                return  # not there, or not empty: another run, or a stray file that is not ours to judge

    def discard(self, content: Content) -> None:
        """Remove content that no unit names."""
        del self.contents[content]
        if self._trash.take(content.file, content.size) and not content.foreign:
            self.used -= content.size

    def exchange(self, moved: Content, content: Content) -> None:
        """`content`, whose file elsewhere is gone, is what `moved` was, which is forgotten."""
        del self.contents[moved]
        content.path, content.stamp, content.shelf, content.away = moved.path, moved.stamp, self, ""
        content.proven = moved.proven
        self.contents[content] = None

    def remove(self, file: Path, size: int) -> None:
        """Remove a file of this file system that is not content."""
        self._trash.take(file, size)

    def hold(self, content: Content, target: Path) -> Path:
        """Have `target`, on another file system, lead to the content, until what is returned is removed; however the
        content moves or is freed meanwhile."""
        held = self.root / "held" / str(next(self._numbers))
        os.link(content.file, held)
        target.symlink_to(held)
        return held

    async def close(self) -> None:
        """Finish removing."""
        await self._trash.close()

    def _has(self, content: Content) -> None:
        content.shelf = self
        self.contents[content] = None
        self.used += 0 if content.foreign else content.size

    def _free_path(self, digest: bytes) -> Path:
        path = self.content_path(digest)
        while path.exists():
            path = path.with_name(f"{digest.hex()}.{next(self._numbers)}")
        return path


def check(content: Content) -> None:
    """ContentChangedError if a large content's file is not what it was."""
    try:
        status = content.file.stat()
    except FileNotFoundError:
        raise ContentChangedError(f"{content.path} is gone") from None
    if (status.st_size, status.st_mtime_ns) != (content.size, content.stamp):
        raise ContentChangedError(f"{content.path} was changed after its digest was made")


def link(content: Content, target: Path) -> Path | None:
    """Put a large content at `target`; what must be removed when the target is. OSError."""
    assert content.shelf is not None
    try:
        os.link(content.file, target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return content.shelf.hold(content, target)
        if error.errno != errno.EMLINK:
            raise
        shutil.copyfile(content.file, target)
    return None


def write(target: Path, data: bytes) -> None:
    """A file of our own of these bytes, read-only like those of the store."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def stamp_of(file: Path) -> tuple[int, int]:
    """What changes when a file is written to: its size, and when that was."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def own_copy(file: Path) -> Path:
    """The same bytes under a name that nobody else has; the file goes. Blocks."""
    copy = file.with_name(f".{file.name}.copy")
    shutil.copyfile(file, copy)
    file.unlink()
    return copy


def _move(file: Path, target: Path) -> None:
    """Rename; the directory is there but for the first time."""
    try:
        file.rename(target)
    except FileNotFoundError:
        target.parent.mkdir(exist_ok=True)
        file.rename(target)
