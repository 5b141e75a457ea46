"""A whole directory as one unit: packed where a step has written it, unpacked where it is read or saved.

    directory ─▶ pack ─▶ a tar: what stores keep, what crosses, what is split by member ─▶ unpack ─▶ directory

Packing the same names and contents gives the same bytes, on any machine and at any time, so that the digest is one of
what is in the directory: names are sorted, and of times, owners and rights only one is kept, that a file can be
executed. Neither side trusts what it reads. What is packed belongs to a step, whose program may still move things
about, so no link is ever followed; what is unpacked comes over a network and may have been made by any tar, so no name
may lead out of the target, and nothing may become of it but files and directories.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Final

_CHUNK: Final = 1 << 20
_DEEPEST: Final = 100  # directories within each other: each is open while what is below it is packed
_FOLDER: Final = 0o755
_PLAIN: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class DirectoryError(Exception):
    """A directory can't be packed, or an archive is none of a directory; the message is meant for people."""


def pack(directory: Path, archive: Path) -> None:
    """Write `archive`, a tar of all that is in a directory. Blocks.

    DirectoryError for links, special files and names that can't be kept; OSError.
    """
    with (
        archive.open("xb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
        closing(_opened(directory)) as found,
    ):
        for name, descriptor in found:
            header = tarfile.TarInfo(name)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                header.type, header.mode = tarfile.DIRTYPE, _FOLDER
                tar.addfile(header)
            else:
                header.size = status.st_size
                header.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                with open(descriptor, "rb", closefd=False) as content:
                    tar.addfile(header, content)


def unpack(archive: IO[bytes], target: Path, *, writable: bool = False) -> None:
    """Make `target`, which is not there yet, the directory that was packed. Blocks.

    Its files can only be read and executed, unless they are to be `writable`. DirectoryError for what is no tar, or has
    anything in it but files and directories below its own root, each file once; OSError.
    """
    target.mkdir(_FOLDER)
    try:
        with tarfile.open(fileobj=archive, mode="r|", format=tarfile.PAX_FORMAT) as tar:
            for member in tar:
                path = target.joinpath(*_parts(member.name))
                if member.isdir():
                    path.mkdir(_FOLDER, parents=True, exist_ok=True)
                    continue
                if member.type not in _PLAIN or member.issparse():
                    raise DirectoryError(f"{member.name!r} in it is neither a file nor a directory")
                path.parent.mkdir(_FOLDER, parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None  # as it is a file
                _write(path, content, member, 0o755 if writable else 0o555)
    except (FileExistsError, NotADirectoryError) as error:
        found = Path(error.filename or target).name
        message = f"{found!r} stands in it twice, or differs from another name by upper and lower case alone"
        raise DirectoryError(message) from None
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise DirectoryError(f"it is no directory's archive, or a damaged one: {error}") from None


def _opened(directory: Path) -> Generator[tuple[str, int], None, None]:
    """Everything below a directory, open while it is looked at: (name in the archive, descriptor).

    Each directory stands before what is in it, and that is in the order of its names.
    """
    root = os.open(directory, _OPEN_FOLDER)
    ahead = [(root, "", _names(root, ""))]
    try:
        while ahead:
            folder, prefix, names = ahead[-1]
            for found in names:
                name = prefix + found
                descriptor, is_folder = _open(folder, found, name)
                if not is_folder:
                    try:
                        yield name, descriptor
                    finally:
                        os.close(descriptor)
                    continue
                ahead.append((descriptor, f"{name}/", _names(descriptor, name)))
                if len(ahead) > _DEEPEST:
                    raise DirectoryError(f"{name} lies more than {_DEEPEST} directories deep; put it higher")
                yield name, descriptor
                break
            else:
                ahead.pop()
                os.close(folder)
    finally:
        for folder, _, _ in ahead:
            os.close(folder)


def _names(folder: int, told: str) -> Iterator[str]:
    """What is in a directory, by name."""
    for name in sorted(os.listdir(folder)):
        try:
            name.encode()
        except UnicodeEncodeError:
            where = f" in {told}" if told else ""
            raise DirectoryError(f"{name!r}{where} is not a name in UTF-8; give it another one") from None
        yield name


def _open(folder: int, name: str, told: str) -> tuple[int, bool]:
    """A file's descriptor, or a directory's, and whether it is one."""
    mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise DirectoryError(f"{told} is a link, and would lead elsewhere where it is read; put the file itself there")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DirectoryError(f"{told} is neither a file nor a directory, so nobody else could read it; remove it")
    descriptor = os.open(name, _OPEN_FOLDER if stat.S_ISDIR(mode) else _OPEN_FILE, dir_fd=folder)
    if stat.S_IFMT(os.fstat(descriptor).st_mode) == stat.S_IFMT(mode):
        return descriptor, stat.S_ISDIR(mode)
    os.close(descriptor)
    raise DirectoryError(f"{told} was replaced while it was packed; write nothing more once the task is done")


def _parts(name: str) -> list[str]:
    """The components of a member's name. DirectoryError if it does not stay below the root."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DirectoryError(f"{name!r} in it is not a name in UTF-8") from None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise DirectoryError(f"{name!r} in it leads out of the directory")
    return parts


def _write(path: Path, content: IO[bytes], member: tarfile.TarInfo, rights: int) -> None:
    with path.open("xb") as file:
        shutil.copyfileobj(content, file, _CHUNK)
        os.fchmod(file.fileno(), rights if member.mode & stat.S_IXUSR else rights & 0o666)
