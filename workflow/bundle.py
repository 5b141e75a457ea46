"""A step's code as one archive: packed where it is applied, unpacked where it runs.

A bundle is a directory as a tar archive compressed with zstd. Packing the same files gives the same bytes, on any
machine and at any time, so that the archive's digest names the code. Unpacking trusts nothing: an archive comes over a
network, and a step's code must not land outside its directory.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import zstandard

MOST_BYTES = 256 * 2**20
MOST_FILES = 20_000
SKIPPED = frozenset(["__pycache__", ".git", ".DS_Store", ".mypy_cache", ".pytest_cache", ".ruff_cache"])

_LEVEL = 9
_LARGEST_WINDOW = 2**27
_CHUNK = 2**18
# What tar adds to the contents: headers of a file with long names, and the last block.
_OVERHEAD_PER_FILE = 4096


class BundleError(Exception):
    """A directory can't be packed or an archive can't be unpacked; the message is meant for people."""


def pack(directory: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The archive of a directory. Caches, `.git` and compiled Python are left out.

    Raises `BundleError` for a missing directory, for links and special files, and above `most_bytes` of content.
    """
    if not directory.is_dir():
        raise BundleError(f"{directory} is not a directory; a step's bundle is the directory with its code")
    packed = io.BytesIO()
    left = most_bytes
    with (
        zstandard.ZstdCompressor(level=_LEVEL).stream_writer(packed, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for count, (name, path) in enumerate(_listed(directory), start=1):
            if count > MOST_FILES:
                raise BundleError(
                    f"{directory} holds more than {MOST_FILES} files; put data elsewhere or build an image"
                )
            if path.is_dir():
                archive.addfile(_header(name, tarfile.DIRTYPE, executable=True, size=0))
                continue
            with path.open("rb") as file:
                content = file.read(left + 1)
                executable = bool(os.fstat(file.fileno()).st_mode & 0o100)
            left -= len(content)
            if left < 0:
                raise BundleError(
                    f"{directory} holds more than {most_bytes // 2**20} MiB (at {name}); put data elsewhere"
                )
            archive.addfile(_header(name, tarfile.REGTYPE, executable, len(content)), io.BytesIO(content))
    return packed.getvalue()


def unpack(archive: Path, target: Path, most_bytes: int = MOST_BYTES) -> None:
    """Makes `target` the directory that was packed into `archive`: wholly or not at all.

    A `target` that is there already, and not empty, is left as it is. Raises `BundleError` for an archive that is
    damaged, holds anything but files and directories below its own root, or more than `most_bytes`.
    """
    if target.is_dir() and any(target.iterdir()):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
    try:
        with archive.open("rb") as file:
            _extract(file, making, most_bytes)
        making.chmod(0o755)
        try:
            making.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # Another unpacking of the same archive was quicker.
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _listed(directory: Path) -> Iterator[tuple[str, Path]]:
    """Everything below a directory, parents first and sorted, as (name in the archive, path)."""

    def below(path: Path, prefix: str) -> Iterator[tuple[str, Path]]:
        for entry in sorted(path.iterdir(), key=lambda entry: entry.name):
            if entry.name in SKIPPED or entry.suffix == ".pyc":
                continue
            name = prefix + entry.name
            if entry.is_symlink():
                raise BundleError(f"{entry} is a link, which a bundle can't hold; put the file itself there")
            if not (entry.is_dir() or entry.is_file()):
                raise BundleError(f"{entry} is neither a file nor a directory; a bundle can't hold it")
            _parts(name)
            yield name, entry
            if entry.is_dir():
                yield from below(entry, name + "/")

    return below(directory, "")


def _header(name: str, kind: bytes, executable: bool, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type = kind
    header.mode = 0o755 if executable else 0o644
    header.size = size
    return header


def _extract(file: IO[bytes], directory: Path, most_bytes: int) -> None:
    left = most_bytes
    seen: set[tuple[str, ...]] = set()
    decompressed = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).stream_reader(file)
    try:
        with tarfile.open(fileobj=_Bounded(decompressed, most_bytes), mode="r|", format=tarfile.PAX_FORMAT) as archive:
            for member in archive:
                parts = _parts(member.name)
                if parts in seen or len(seen) >= MOST_FILES:
                    raise BundleError(f"the archive holds {member.name!r} twice, or more than {MOST_FILES} files")
                seen.add(parts)
                path = directory.joinpath(*parts)
                if member.isdir():
                    path.mkdir(mode=0o755, parents=True, exist_ok=True)
                    continue
                left -= member.size
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                    raise BundleError(f"{member.name!r} in the archive is neither a file nor a directory")
                if left < 0:
                    raise BundleError(f"the archive holds more than {most_bytes} bytes")
                content = archive.extractfile(member)
                if content is None:
                    raise BundleError(f"{member.name!r} in the archive has no content")
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                _write(path, content, executable=bool(member.mode & 0o100))
    except (tarfile.TarError, zstandard.ZstdError, ValueError, EOFError, FileExistsError, NotADirectoryError) as error:
        raise BundleError(f"the archive is damaged: {error}") from error


def _write(path: Path, content: IO[bytes], executable: bool) -> None:
    # The mode stands before the content does, whatever the process's mask; synced, because the renaming vouches for it.
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o755 if executable else 0o644)
        shutil.copyfileobj(content, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())


def _parts(name: str) -> tuple[str, ...]:
    """The components of a member's name, if it stays below the archive's root."""
    parts = PurePosixPath(name).parts
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BundleError(f"{name!r} is not a name in UTF-8") from None
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
        raise BundleError(f"{name!r} is not a name within a bundle")
    return parts


class _Bounded(io.RawIOBase):
    """A stream that ends in an error once it has given more than an archive of `most_bytes` can have."""

    def __init__(self, source: zstandard.ZstdDecompressionReader, most_bytes: int) -> None:
        self._source = source
        self._left = most_bytes + MOST_FILES * _OVERHEAD_PER_FILE

    def read(self, size: int = -1) -> bytes:
        content = self._source.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise BundleError("the archive is larger than a bundle may be")
        return content
