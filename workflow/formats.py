"""The formats of which it is known where a record ends, and how a port or a file's name tells which one it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

SplitFormat = Literal["csv", "jsonl", "text", "parquet", "tar", "bytes"]
MergeFormat = Literal["concat", "csv", "jsonl", "parquet", "tar"]

DIRECTORY: Final = "directory"  # of a port whose units are whole directories; such a unit's bytes are a tar

TEXTUAL: Final = ("text", "csv", "jsonl")  # with lines
HEADED: Final = ("text", "csv")  # the first line may be a header
COMPRESSED: Final = frozenset(("gz", "gzip", "zst", "zstd"))
_BY_ENDING: Final[Mapping[str, SplitFormat]] = {
    "csv": "csv",
    "tsv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "txt": "text",
    "text": "text",
    "log": "text",
    "parquet": "parquet",
    "tar": "tar",
    "tgz": "tar",
    DIRECTORY: "tar",
    "bytes": "bytes",
}


def split_format(declared: str, name: str) -> SplitFormat:
    """How a file is cut: as the format that is `declared` at its port says, else as its name does, else as text."""
    for written in (declared, name.lower()):
        words = [word for word in written.split(".") if word not in COMPRESSED]
        if words and (known := _BY_ENDING.get(words[-1])):
            return known
    return "text"


def plain_format(written: str) -> str:
    """A format once it is decompressed: csv.gz -> csv."""
    return "" if written in COMPRESSED else plain_name(f".{written}").removeprefix(".")


def plain_name(name: str) -> str:
    """A file's name once it is decompressed: rows.csv.gz -> rows.csv, images.tgz -> images.tar."""
    stem, _, ending = name.rpartition(".")
    if ending == "tgz":
        return f"{stem}.tar"
    return stem if ending in COMPRESSED and stem else name
