"""The merging itself, one class a format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.records.archive import TRAILER, Members, aligned
from cluster_agent.data.records.blocks import Block, blocks, compression
from cluster_agent.data.records.parquet import (
    MAGIC,
    Footer,
    RowGroup,
    difference,
    empty_footer,
    footer_for,
    footer_of,
)
from cluster_agent.data.records.quoted import Quoted
from cluster_agent.data.split.rowgroups import pieces
from cluster_agent.data.split.writing import write_all
from wire.digests import ContentHasher

_MOST_HEADER = 16 << 20


@dataclass(frozen=True, slots=True)
class Merged:
    """What was made."""

    size: int
    digest: bytes


class StoppedError(Exception):
    """The merging was asked to stop."""


def merge(units: Iterable[tuple[str, Path]], form: str, target: Path, stopped: Callable[[], bool]) -> Merged:
    """Write the units, of which each has a name for people, one behind the other into `target`.

    Blocks; `stopped` is asked before each block: StoppedError. WrongContentError, with the unit's name and number,
    where one is not of the format or does not fit to the others.
    """
    with target.open("wb", buffering=0) as file:
        merger = FORMATS[form](_Target(file), stopped)
        for number, (name, path) in enumerate(units, 1):
            try:
                merger.add(path)
            except WrongContentError as error:
                raise WrongContentError(f"unit {number} ({name}): {error}") from error
        merger.end()
        return Merged(merger.target.size, merger.target.hasher.digest())


class _Target:
    """The file that is made."""

    def __init__(self, file: FileIO) -> None:
        self.size = 0
        self.hasher = ContentHasher()
        self._file = file

    def write(self, data: memoryview | bytes | bytearray) -> None:
        write_all(self._file, data)
        self.hasher.update(data)
        self.size += len(data)


class Merger(ABC):
    """Writes units of one format into `target`."""

    def __init__(self, target: _Target, stopped: Callable[[], bool]) -> None:
        self.target = target
        self._stopped = stopped

    @abstractmethod
    def add(self, path: Path) -> None:
        """The next unit."""

    def end(self) -> None:
        """There are no more units."""
        return

    def blocks(self, path: Path, *, raw: bool = False) -> Iterator[Block]:
        """A unit's content, decompressed where it is not wanted `raw`."""
        for block in blocks(path, "" if raw else compression(path)):
            if self._stopped():
                raise StoppedError
            yield block


class Concat(Merger):
    """The bytes, as they are."""

    def add(self, path: Path) -> None:
        """See Merger."""
        for block in self.blocks(path, raw=True):
            self.target.write(memoryview(block.data)[: block.size])


class Lines(Merger):
    """Lines; where the last one of a unit has no newline, it gets one if more follows."""

    def __init__(self, target: _Target, stopped: Callable[[], bool]) -> None:
        super().__init__(target, stopped)
        self.newline = b"\n"
        self._open = False  # the last byte was no newline

    def add(self, path: Path) -> None:
        """See Merger."""
        for block in self.blocks(path):
            self.lines(memoryview(block.data)[: block.size], first=block.base == 0)

    def lines(self, data: memoryview, *, first: bool) -> None:
        """Write some bytes; `first`: a line begins with them."""
        if data:
            if first and self._open:
                self.target.write(self.newline)
            self.target.write(data)
            self._open = data[-1] != ord("\n")


class Csv(Lines):
    """Records behind the header, which all units have and which is written once."""

    def __init__(self, target: _Target, stopped: Callable[[], bool]) -> None:
        super().__init__(target, stopped)
        self._header: bytes | None = None

    def add(self, path: Path) -> None:
        """See Merger."""
        scanner = Quoted()
        header = bytearray()
        begins = -1  # the first record behind the header
        end = 0
        for block in self.blocks(path):
            ends = scanner.ends(block)
            view = memoryview(block.data)[: block.size]
            end = block.stop
            if begins >= 0:
                self.lines(view, first=block.base == begins)
                continue
            cut = ends.first(1)
            header += view if cut is None else view[: cut - block.base]
            if cut is not None:
                begins = cut
                self._head(bytes(header))
                self.lines(view[cut - block.base :], first=True)
            elif len(header) > _MOST_HEADER:
                raise WrongContentError(f"its first record has more than {_MOST_HEADER >> 20} MiB: no header")
        scanner.close(end)
        if header and begins < 0:  # it is all there is
            self._head(bytes(header))

    def _head(self, header: bytes) -> None:
        if self._header is None:
            self._header = header
            self.newline = b"\r\n" if header.endswith(b"\r\n") else b"\n"
            self.lines(memoryview(header), first=True)
        elif header.rstrip(b"\r\n") != self._header.rstrip(b"\r\n"):
            raise WrongContentError(
                f"its header is {_shown(header)}, and that of the first is {_shown(self._header)}; make all units with "
                "one header, or write merge: concat if they have none"
            )


def _shown(header: bytes) -> str:
    text = header.rstrip(b"\r\n").decode("utf-8", "replace")
    return repr(text if len(text) <= 120 else f"{text[:117]}...")


class Tar(Merger):
    """Members. What one unit says of all of its members, only the first may say."""

    def __init__(self, target: _Target, stopped: Callable[[], bool]) -> None:
        super().__init__(target, stopped)
        self._header: bytes | None = None

    def add(self, path: Path) -> None:
        """See Merger."""
        scanner = Members()
        header = bytearray()
        end = 0
        for block in aligned(self.blocks(path)):
            scanner.ends(block)
            end = block.stop
            stop = end if scanner.ended is None else min(end, scanner.ended)
            begin = min(max(scanner.header, block.base), stop)
            view = memoryview(block.data)
            if block.base < scanner.header:
                header += view[: begin - block.base]
            if begin < stop:
                self._head(bytes(header))
                self.target.write(view[begin - block.base : stop - block.base])
        scanner.close(end)

    def end(self) -> None:
        """See Merger."""
        self.target.write(TRAILER)

    def _head(self, header: bytes) -> None:
        if self._header is None:
            self._header = header
            self.target.write(header)
        elif header != self._header:
            raise WrongContentError(
                "it has other headers for all of its members than the first; make the archives without them"
            )


class Parquet(Merger):
    """Row groups. Schemas must agree; what else the footer says is taken from the first unit."""

    def __init__(self, target: _Target, stopped: Callable[[], bool]) -> None:
        super().__init__(target, stopped)
        self._first: Footer | None = None
        self._placed: list[tuple[RowGroup, int]] = []
        target.write(MAGIC)

    def add(self, path: Path) -> None:
        """See Merger."""
        with path.open("rb", buffering=0) as file:
            footer = footer_of(file)
            if self._first is None:
                self._first = footer
            elif differ := difference(self._first, footer):
                raise WrongContentError(
                    f"its schema is not that of the first: {differ}; write all units with one schema"
                )
            for group in footer.groups:
                self._placed.append((group, self.target.size))
                for piece in pieces(file, group):
                    if self._stopped():
                        raise StoppedError
                    self.target.write(piece)

    def end(self) -> None:
        """See Merger."""
        self.target.write(footer_for(self._first or empty_footer(), self._placed))


FORMATS: Final[dict[str, type[Merger]]] = {
    "concat": Concat,
    "csv": Csv,
    "jsonl": Lines,
    "parquet": Parquet,
    "tar": Tar,
}
