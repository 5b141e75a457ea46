"""split: each splitter and merger on a file of its format, beside reading that file, and copying it with a digest.

What is measured is what the node daemon's thread does: parts of 8 MiB are made as files, with their digests, and put
together again. There is no federation in it; `pipeline` has the splitter in one. `cut` is the same without the parts:
how quickly records are found. Files are made here, with the same numbers each time.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from bdw_fed.perf import floor
from bdw_fed.perf.base import GIB, Case, PerfError, Result, Series, Settings
from bdw_fed.perf.federation import scratch
from cluster_agent.data.merge import merge
from cluster_agent.data.records import thrift
from cluster_agent.data.records.blocks import BLOCK_BYTES, blocks
from cluster_agent.data.records.formats import scanner
from cluster_agent.data.records.parquet import MAGIC, Footer, RowGroup, empty_footer, footer_for
from cluster_agent.data.split import SplitSpec, make_parts
from cluster_agent.data.split.cutting import BySize
from cluster_agent.orders.messages import SMALL
from wire.digests import ContentHasher

_PART = 8 << 20
_GROUP = 4 << 20
_NOTE = b'%d,"a note of ""%d"", in\ntwo lines",0.%d,"%d, and more",2024-01-01\n'
_QUOTED, _BARE, _TEXT = "csv, much quoted", "csv, no quotes", "text"
_SCANNED = (_QUOTED, _BARE, _TEXT)
_UNPACKED = "tar: a part a member"
_MEMBER = 256 << 10
_COPY = "the file read, hashed and written, as all of these do besides"
_FLOOR = "the file as it is read from the page cache, 1 MiB at a time"
_MERGED = {_QUOTED: "csv", _TEXT: "concat", "tar": "tar", "parquet": "parquet"}


class Split(Case):
    """ms a GiB."""

    name = "split"
    size = 256
    counts = "MiB"
    most = 16 << 10

    def measure(self, settings: Settings) -> Result:
        """See Case."""
        with scratch() as place:
            files = _files(place, settings.size)
            quoted = files[_QUOTED]
            times = _Times(place, settings.repetitions)
            read = {name: times.of(file, partial(floor.read, file)) for name, file in files.items()}
            copied = times.of(quoted, partial(_copy, quoted, place / "copy"))
            found = {f"{name}: cut": times.of(files[name], partial(_cut, files[name])) for name in _SCANNED}
            made = {
                f"{name}: split": times.of(file, partial(_split, file, times.parts)) for name, file in files.items()
            }
            unpack = partial(_split, files["tar"], times.parts, members=True)
            made[_UNPACKED] = times.of(files["tar"], unpack)
            merged = {f"{name}: merge": times.merging(files[name], form) for name, form in _MERGED.items()}
        what = f"a file of {settings.size} MiB to parts of {_PART >> 20} MiB, with digests"

        def series(name: str, what: str, taken: list[float], unit: int = 0) -> Series:
            return Series(name, what, taken, (), read[name.partition(":")[0]], _FLOOR, of=GIB, unit=unit)

        (first, taken), *others = made.items()
        return Result(
            self.name,
            settings.size,
            settings.durability,
            0.0,
            series(first, what, taken, _PART),
            [
                Series("copy", _COPY, copied, (), read[_QUOTED], _FLOOR, of=GIB),
                *(series(name, "records found, no part made", taken) for name, taken in found.items()),
                *(series(name, what, taken, _unit(name)) for name, taken in others),
                *(
                    series(name, "the parts to one file, with its digest", taken, _PART)
                    for name, taken in merged.items()
                ),
            ],
        )


class _Times:
    """Takes times, in ms a GiB of the file's content."""

    def __init__(self, place: Path, repetitions: int) -> None:
        self.parts = place / "parts"
        self._place = place
        self._repetitions = repetitions

    def of(self, file: Path, call: Callable[[], None]) -> list[float]:
        """One warm-up, then the samples; parts are removed in between."""
        self._timed(call)
        scale = GIB / _content_size(file)
        return [self._timed(call) * scale for _ in range(self._repetitions)]

    def merging(self, file: Path, form: str) -> list[float]:
        """Of the file's parts."""
        pieces = self._place / "pieces"
        _split(file, pieces)
        units = [(path.name, path) for path in sorted(pieces.iterdir(), key=lambda path: int(path.name))]
        target = self._place / "target"
        taken = self.of(file, lambda: _merge(units, form, target))
        shutil.rmtree(pieces)
        return taken

    def _timed(self, call: Callable[[], None]) -> float:
        began = time.perf_counter()
        call()
        taken = (time.perf_counter() - began) * 1000
        shutil.rmtree(self.parts, ignore_errors=True)
        return taken


def _unit(name: str) -> int:
    """In bytes; of a part."""
    return _MEMBER if name == _UNPACKED else _PART


def _content_size(file: Path) -> int:
    """In bytes; a compressed file stands beside the one that it was made of."""
    plain = file.with_suffix("") if file.suffix in (".gz", ".zst") else file
    return plain.stat().st_size


def _form(file: Path) -> str:
    return {".csv": "csv", ".txt": "text", ".gz": "csv", ".zst": "csv"}.get(file.suffix, file.suffix[1:])


# ------------------------------------------------------------------------------------------- what is measured


def _split(file: Path, parts: Path, *, members: bool = False) -> None:
    parts.mkdir()
    form = _form(file)
    spec = SplitSpec(members=True, format=form) if members else SplitSpec(size=_PART, header=form == "csv", format=form)
    size = sum(part.size for made in make_parts(file, spec, lambda: parts, lambda: False, SMALL) for part in made)
    if not size:
        raise PerfError(f"{file.name} was split into nothing")


def _merge(units: Iterable[tuple[str, Path]], form: str, target: Path) -> None:
    merge(units, form, target, lambda: False)
    target.unlink()


def _cut(file: Path) -> None:
    reading, cutter = scanner(_form(file)), BySize(0, _PART)
    for block in blocks(file, ""):
        for _ in cutter.cuts(reading.ends(block)):
            pass


def _copy(file: Path, target: Path) -> None:
    hasher = ContentHasher()
    with target.open("wb", buffering=0) as copy:
        for block in blocks(file, ""):
            data = memoryview(block.data)[: block.size]
            hasher.update(data)
            copy.write(data)
    target.unlink()


# -------------------------------------------------------------------------------------------------- the files


def _files(place: Path, size: int) -> dict[str, Path]:
    """A file of about `size` MiB in each format; compressed ones have that size inside, and are smaller."""
    files = {
        _QUOTED: place / "quoted.csv",
        _BARE: place / "bare.csv",
        _TEXT: place / "lines.txt",
        "csv.gz": place / "bare.csv.gz",
        "csv.zst": place / "bare.csv.zst",
        "tar": place / "members.tar",
        "parquet": place / "groups.parquet",
    }
    floor.write_csv(files[_BARE], size)
    os.link(files[_BARE], files[_TEXT])
    _write_quoted(files[_QUOTED], size << 20)
    _compress(files[_BARE], files["csv.gz"], files["csv.zst"])
    _write_tar(files["tar"], files[_BARE], size)
    _write_parquet(files["parquet"], files[_BARE])
    return files


def _write_quoted(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.write(b"number,note,share,more,day\n")
        number = 0
        while file.tell() < size:
            numbers = range(number, number + 10_000)
            file.write(b"".join(_NOTE % (each, each % 7919, each, each % 104_729) for each in numbers))
            number += 10_000


def _compress(source: Path, gzip: Path, zstd: Path) -> None:
    import zstandard
    from isal import igzip

    with source.open("rb") as file, igzip.open(gzip, "wb", compresslevel=1) as target:  # type: ignore[no-untyped-call]
        shutil.copyfileobj(file, target, BLOCK_BYTES)
    with source.open("rb") as file, zstd.open("wb") as to:
        zstandard.ZstdCompressor(level=1).copy_stream(file, to)


def _write_tar(path: Path, source: Path, size: int) -> None:
    with tarfile.open(path, "w") as archive, source.open("rb") as content:
        for number in range((size << 20) // _MEMBER):
            member = tarfile.TarInfo(f"pictures/{number:06}.png")
            data = content.read(_MEMBER)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _write_parquet(path: Path, source: Path) -> None:
    """Row groups of one column, with whatever bytes: nobody decodes them here."""
    placed: list[tuple[RowGroup, int]] = []
    with path.open("wb") as file, source.open("rb") as content:
        file.write(MAGIC)
        while data := content.read(_GROUP):
            placed.append((_row_group(len(data)), file.tell()))
            file.write(data)
        meta = empty_footer().meta
        file.write(footer_for(Footer(meta, (), 0), placed))


def _row_group(size: int) -> RowGroup:
    column = _struct({7: (thrift.I64, size), 9: (thrift.I64, 4)})
    chunk = _struct({2: (thrift.I64, 0), 3: (thrift.STRUCT, column)})
    columns = thrift.Items(thrift.STRUCT, [chunk])
    meta = _struct({1: (thrift.LIST, columns), 2: (thrift.I64, size), 3: (thrift.I64, 1000)})
    return RowGroup(meta, 1000, ((4, size),))


def _struct(fields: dict[int, tuple[int, object]]) -> thrift.Struct:
    made = thrift.Struct()
    made.fields = fields
    return made
