"""What a split is, and what it makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

MEASURES: Final = ("size", "lines", "records", "count", "members")


@dataclass(frozen=True)
class SplitSpec:
    """Exactly one of `size` (bytes a part, header included), `lines`, `records`, `count` (parts a file) and `members`
    (each member of an archive by itself) says where to cut. `format` is one of `records.formats`."""

    size: int = 0
    lines: int = 0
    records: int = 0
    count: int = 0
    members: bool = False
    header: bool = False
    format: str = "text"

    def __post_init__(self) -> None:
        given = [value for value in (self.size, self.lines, self.records, self.count, self.members) if value]
        if len(given) != 1 or given[0] < 0:
            raise ValueError(f"a split has exactly one of {', '.join(MEASURES)}, and it is positive")

    @property
    def at_once(self) -> int:
        """Records a part; 0 where that is not the measure. A line is a record."""
        return self.records or self.lines


@dataclass(frozen=True, slots=True)
class Part:
    """A part that has been made: its place in the order, bytes, BLAKE3 digest, and either content or file.

    `name` is its own, where it has one.
    """

    index: int
    size: int
    digest: bytes
    data: bytes | None = None
    path: Path | None = None
    name: str = ""
