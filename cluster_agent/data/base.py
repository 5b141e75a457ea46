"""What a node's store does for tasks and transfers, whatever tier the bytes lie in.

A unit is a name (namespace, run, id) for content. A large content is a file, kept once however many units name it, and
goes when the last of them is freed; it comes in by `commit` (a file that a task or a transfer wrote, taken over by
rename) or by `reference` (a dataset's file, left where it is). A small one (up to `orders.messages.SMALL` bytes) is
kept in the node's journal for each unit, and comes in by `put`; the others put it there too. Bytes go out by `read`
(small ones), `link` (into a task's directory) and `find` (to a peer). All methods are called from the event loop; what
may take long is a coroutine. Small units and results survive this process from the next `flush` or `durable` on.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cluster_agent.data.errors import BadNameError
from workflow.formats import DIRECTORY

if TYPE_CHECKING:
    from cluster_agent.data.segment import Segment
    from cluster_agent.data.tiers.shelf import Shelf

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,252}")


class UnitKey(NamedTuple):
    """A unit's name: the namespace and name of its run, and its 16 bytes of id."""

    namespace: str
    run: str
    unit: bytes


class Content(msgspec.Struct, eq=False, gc=False):
    """Bytes that the store has: BLAKE3 digest, size in bytes, and a file, a place in the journal or one far away."""

    digest: bytes
    size: int
    path: Path | None = None  # the file; None: in the journal, or away
    stamp: int = 0  # the file's st_mtime_ns when the digest was made
    foreign: bool = False  # the file is a dataset's, not ours to count or to change
    shared: bool = True  # may serve further units of the same digest
    names: set[UnitKey] | None = None  # the units that name it, where it is large
    cold: bool = False  # its run has ended
    kept: bool = False  # and it is an output of it
    proven: float = float("-inf")  # when its file was last known to have the bytes of the digest; monotonic seconds
    shelf: Shelf | None = None  # where its file lies, which may change; None where it is a dataset's elsewhere
    away: str = ""  # its name in the object store, where it lies only there
    data: bytes | None = None  # what the journal has in memory; `find` and `read` always give it
    segment: Segment | None = None  # where in the journal, at which offset of it
    offset: int = 0

    @property
    def large(self) -> bool:
        """It is in no journal."""
        return self.path is not None or bool(self.away)

    def add_name(self, key: UnitKey) -> None:
        """One more unit names it, perhaps of a run that goes on."""
        self.kept = False
        if self.names is None:
            self.names = set()
        self.names.add(key)

    @property
    def file(self) -> Path:
        """The file of a large content."""
        assert self.path is not None
        return self.path


class Damage(NamedTuple):
    """Content that is not what it was: what had its bytes, and what is wrong with them. It is forgotten."""

    units: tuple[UnitKey, ...]
    digest: bytes
    size: int
    why: str
    shared: bool = False  # they lay where all nodes of the cluster look for them, and are not there either


class Store(abc.ABC):
    """The content of one node. Damaged content is never given out: it is forgotten, and whoever listens is told."""

    @abc.abstractmethod
    def find(self, key: UnitKey) -> Content:
        """The content of a unit; UnitMissingError, which is UnitDamagedError if its file shows that it was changed;
        ContentChangedError if that is a dataset's."""

    @abc.abstractmethod
    def has(self, digest: bytes) -> bool:
        """Whether content with this digest is here."""

    @abc.abstractmethod
    def units(self) -> Iterable[UnitKey]:
        """All units, in no order."""

    @abc.abstractmethod
    def name(self, key: UnitKey, digest: bytes) -> bool:
        """Make a further unit of content that is here; False if it is not."""

    @abc.abstractmethod
    async def own(self, key: UnitKey) -> None:
        """Have a unit's bytes here, where a dataset's file could only be referred to. Same errors as `find`."""

    @abc.abstractmethod
    async def bring(self, keys: Collection[UnitKey]) -> None:
        """Have units' bytes on this node, where they are in object storage. SharedStoreError: not now, but they are not
        lost; else the same errors as `find`."""

    @abc.abstractmethod
    async def assure(self, keys: Collection[UnitKey], *, anew: bool = False) -> None:
        """Have units' bytes on this node and right: what has lain for long is read before it is used; `anew`: all that
        is large is. Same errors as `bring`; OSError: nobody knows."""

    @abc.abstractmethod
    def link(self, key: UnitKey, target: Path, held: list[Path] | None = None) -> Content:
        """Put a unit's content at `target`, a large one without copying. Same errors as `find`.

        `held` gets what is to be removed together with the target.
        """

    @abc.abstractmethod
    def put(self, key: UnitKey, data: bytes, digest: bytes | None = None) -> Content:
        """Make a unit of a small content. OSError if the disk is full."""

    @abc.abstractmethod
    def read(self, key: UnitKey) -> bytes | None:
        """A unit's content if it is small, else None. Same errors as `find`."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Return when all that was put and freed so far survives this process. OSError: it may be tried again."""

    @abc.abstractmethod
    async def commit(self, file: Path, key: UnitKey, digest: bytes | None = None) -> Content:
        """Take over `file`, which must be on the store's file system; `digest` where it is known already."""

    @abc.abstractmethod
    async def reference(self, file: Path, key: UnitKey) -> Content:
        """Make a unit of a dataset's file where it lies. ContentChangedError if it changes meanwhile."""

    @abc.abstractmethod
    async def durable(self) -> None:
        """Return when everything put and committed so far survives what the durability setting names."""

    @abc.abstractmethod
    async def free(self, keys: Collection[UnitKey]) -> None:
        """Forget units; unknown ones are ignored."""

    @abc.abstractmethod
    async def end_run(
        self, namespace: str, run: str, keep: Collection[bytes], away: Collection[bytes] = (), *, results: bool = True
    ) -> None:
        """Forget all units of a run but those in `keep`; those in `away` go to object storage, if there is one.

        `results`: what is kept is the run's outputs."""


def path_part(name: str) -> str:
    """`name` where it may stand as one component of a path; BadNameError otherwise."""
    if not _NAME.fullmatch(name):
        raise BadNameError(
            f"{name!r} can't be part of a path: expected letters, digits, '_', '-', ':' and '.', not first"
        )
    return name


def suffix(format_name: str) -> str:
    """The file suffix for a port's format: ".csv" for "csv"; empty for none, for directories, and for no suffix."""
    if format_name == DIRECTORY:
        return ""
    return f".{format_name}" if re.fullmatch(r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*", format_name) else ""
