"""Finds the files of a dataset's part below the cluster's data root, and nothing outside of it."""

from __future__ import annotations

import stat
from pathlib import Path

from cluster_agent.data.errors import NoDirectoryError, NotAFileError, OutsideRootError


def resolve(root: Path, path: str) -> list[tuple[str, Path]]:
    """The part's files as (name for people, resolved path): one, or all below a directory in the order of their names.

    Names that start with a dot are left out of a directory, as file managers and version control put them there. Links
    are followed as long as they stay inside `root`. OutsideRootError, NotAFileError or FileNotFoundError otherwise.
    """
    base, start = _start(root, path)
    if start.is_dir():
        return [
            (relative.as_posix(), _regular(_inside(base, start / relative, path)))
            for relative in sorted(_walk(start, Path()), key=lambda relative: relative.as_posix())
        ]
    return [(Path(path).name, _regular(start))]


def resolve_directory(root: Path, path: str) -> Path:
    """The part's directory. NoDirectoryError if it is none, and as of `resolve`."""
    base, start = _start(root, path)
    if start == base:
        raise NoDirectoryError(f"{path} is the data root itself; name a directory below it")
    if not start.is_dir():
        raise NoDirectoryError(f"{path} is no directory")
    return start


def _start(root: Path, path: str) -> tuple[Path, Path]:
    base = root.resolve(strict=True)
    if "\0" in path:
        raise OutsideRootError(f"{path!r} is not a path")
    return base, _inside(base, base / path, path)


def _walk(start: Path, below: Path) -> list[Path]:
    found = []
    for entry in (start / below).iterdir():
        relative = below / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            found += _walk(start, relative)
        else:
            found.append(relative)
    return found


def _inside(base: Path, candidate: Path, told: str) -> Path:
    try:
        resolved = candidate.resolve(strict=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"{told}: there is no {candidate} on this node") from None
    except (OSError, RuntimeError) as error:
        raise NotAFileError(f"{told}: {error}") from None
    if not resolved.is_relative_to(base):
        raise OutsideRootError(f"{told} leads to {resolved}, which is not below the data root {base}")
    return resolved


def _regular(path: Path) -> Path:
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotAFileError(f"{path} is not a regular file")
    return path
