"""Where a program that stays lives: a directory of its own, and the socket at which it may call.

A program for one task has the task's directory for that. In a pod both lie in the pod's directory; elsewhere in the
worker's place, or, where there are no places, in a temporary directory.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.places import Places

_PATH_BYTES = 107  # that a socket's path may have


@dataclass(frozen=True)
class Home:
    """`remove` is called when the program is gone."""

    root: Path
    socket: Path
    remove: Callable[[], Awaitable[None]]


def make_home(places: Places | None) -> Home:
    """A home for a program that is a process of this machine. Blocks; StartError, OSError."""
    if places is None:
        root = Path(tempfile.mkdtemp(prefix="bdw-fed-"))
        (root / "home").mkdir()

        async def remove() -> None:
            await asyncio.to_thread(shutil.rmtree, root, True)

        return Home(root / "home", root / "socket", remove)
    place = places.make()
    socket = place.home / "socket"
    if len(os.fsencode(socket)) > _PATH_BYTES:
        shutil.rmtree(place.home, ignore_errors=True)
        shutil.rmtree(place.temporary, ignore_errors=True)
        raise StartError(
            f"a service's socket would be {socket}, which has more than {_PATH_BYTES} bytes: give the node daemon a "
            "shorter --directory"
        )
    return Home(place.temporary, socket, lambda: places.remove(place))


def home_in(root: Path, socket: Path) -> Home:
    """The home in a pod, emptied of what another program has left there. What is mounted stays. Blocks; OSError."""
    root.mkdir(mode=0o700, exist_ok=True)
    socket.unlink(missing_ok=True)
    for part in root.iterdir():
        empty(part) if part.is_dir() and not part.is_symlink() else part.unlink()

    async def remove() -> None:  # goes with the pod
        socket.unlink(missing_ok=True)

    return Home(root, socket, remove)


def empty(directory: Path) -> None:
    """Remove what is in a directory. Blocks; OSError."""
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
