"""Units that are directories: unpacked into a task's directory before it runs, packed into the store after it.

    the store's tar ─▶ in/<port>/…      out/<port>/…, or a dataset's part ─▶ <store>/partial/….tar ─▶ the store

What a task gets is a copy of its own. Threads do both, since a directory may be large. An archive that can't be
unpacked is looked at again: if the disk has damaged it the unit is made anew, and only what is wrong as it was made
ends the run.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import DataError, NoDirectoryError, WrongContentError
from cluster_agent.data.store import DiskStore
from cluster_agent.node.directory import Made, MissingOutputError, Packed, bytes_below
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.splitting import still_sound
from wire.digests import unit_id
from wire.directories import DirectoryError, pack, unpack


async def unpack_input(packed: Packed, store: DiskStore, task: TaskKey) -> None:
    """Make an input the directory that it is. DataError, OSError."""
    unit = packed.unit
    key = UnitKey(task.namespace, task.run, unit.id)
    content = store.find(key)
    if unit.digest and unit.digest != content.digest:
        raise DataError(f"unit {unit.id.hex()} on input {packed.port} has other bytes here than it should have")
    try:
        await _in_thread(lambda: _unpack(content, packed.target))
    except DirectoryError as error:
        await still_sound(store, key, unit)
        raise WrongContentError(f"{unit.name or unit.id.hex()} on input {packed.port}: {error}") from error


@asynccontextmanager
async def packed_output(made: Made, store: DiskStore, task: TaskKey) -> AsyncIterator[Path]:
    """The file that a directory is in the store; what is not taken over is removed. MissingOutputError, OSError."""
    name = f"{unit_id(task.task, made.port, made.index).hex()}.{task.attempt}"
    try:
        async with _packed(made.path, store, name) as archive:
            yield archive
    except DirectoryError as error:
        raise MissingOutputError(f"output {made.port} can't be kept as a directory: {error}") from error


async def keep_part(directory: Path, store: DiskStore, key: UnitKey) -> Content:
    """Make a directory of a dataset a unit in the store. NoDirectoryError if it can't be one; DataError, OSError."""
    store.space.check(await asyncio.to_thread(bytes_below, directory))
    try:
        async with _packed(directory, store, f"{key.unit.hex()}.part") as archive:
            return await store.commit(archive, key)
    except DirectoryError as error:
        raise NoDirectoryError(f"it can't be kept as a directory: {error}") from error


@asynccontextmanager
async def _packed(directory: Path, store: DiskStore, name: str) -> AsyncIterator[Path]:
    """An archive, where no task's program can reach it."""
    archive = store.partial / f".{name}.tar"
    try:
        await _in_thread(lambda: pack(directory, archive))
        yield archive
    finally:
        archive.unlink(missing_ok=True)


async def _in_thread(work: Callable[[], None]) -> None:
    """Do it in a thread, and return when it has been done, also where nobody wants it any more: it writes to files."""
    doing = asyncio.create_task(asyncio.to_thread(work))
    try:
        await asyncio.shield(doing)
    finally:
        await asyncio.wait([doing])


def _unpack(content: Content, target: Path) -> None:
    if content.data is not None:
        unpack(io.BytesIO(content.data), target)
        return
    with content.file.open("rb") as file:
        unpack(file, target)
