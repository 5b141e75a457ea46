"""Tasks' directories: inputs linked in from the store, outputs moved out of them into the store.

<state>/tasks/<run>/<task hex>.<attempt>/in/<port><suffix>          one unit
                                        /in/<port>/<00000><suffix>  many, in order
                                        /out/<port><suffix>         written by the step: a file, or a directory of files
                                                                    or, where the port's units are such, a directory;
                                                                    outputs may be in memory instead (see `writing`)
                                        /tmp                        HOME and TMPDIR
<state>/tasks/.spare/<number>                                       emptied ones, to be renamed for the next task

Making four directories costs more than all else that the daemon does for a small task, so they are used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bdw_fed.v1 import model_pb2
from cluster_agent.data.base import Store, UnitKey, path_part, suffix
from cluster_agent.data.errors import ContentChangedError, DataError
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.works import BUILT_IN, Assignment, Port, file_name
from cluster_agent.node.writing import Writing
from cluster_agent.orders.messages import UnitInfo
from workflow.formats import DIRECTORY

_PARTS = ("in", "out", "tmp")
_SPARE = ".spare"
_MOST_SPARES = 64
_MOST_LEFT = 32


class MissingOutputError(DataError):
    """A task ended well without having written what it should; or wrote something that can't be a unit."""


def missing(port: str, name: str) -> MissingOutputError:
    """The error for an output of which there is nothing under its name."""
    return MissingOutputError(f"the step ended without its output {port}: expected a file or directory out/{name}")


@dataclass(frozen=True)
class Made:
    """A file that a task left on a port: its number there, where it is, and its name for people."""

    port: str
    index: int
    path: Path
    name: str
    whole: bool = False  # it is a directory, and as such one unit


@dataclass(frozen=True)
class Packed:
    """An input that is a directory: what is to be unpacked where."""

    port: str
    unit: UnitInfo
    target: Path


@dataclass
class TaskDirectory:
    """The directory of one attempt, made by `Directories`. `fill` it, run the task, take what it `made`."""

    root: Path
    inputs: dict[str, Path | Sequence[Path]] = field(default_factory=dict)
    outputs: dict[str, Path] = field(default_factory=dict)
    packed: list[Packed] = field(default_factory=list)
    writing: Writing | None = None  # where outputs are written that may lie in memory
    held: list[Path] = field(default_factory=list)  # links for inputs that lie on another file system
    _linked: list[tuple[str, Path, tuple[int, int]]] = field(default_factory=list)

    @property
    def temporary(self) -> Path:
        """Where the task may write what nobody needs afterwards."""
        return self.root / "tmp"

    def fill(self, store: Store, assignment: Assignment) -> None:
        """Link the inputs in and name the outputs. DataError if an input is not in the store as it should be.

        Directories are `packed` then: whoever executes the task unpacks them, and a split or a merge does not.
        """
        key, work, order = assignment
        for port, units in zip(work.inputs, order.inputs, strict=True):
            if port.format == DIRECTORY and work.kind not in BUILT_IN:
                self.inputs[port.name] = self._expect(port, units)
            else:
                self.inputs[port.name] = self._link(key, store, port, units)
        for output in work.outputs:
            in_memory = self.writing is not None and self.writing.has(output)
            there = self.writing.directory if self.writing is not None and in_memory else self.root / "out"
            self.outputs[output.name] = there / file_name(output.name, output.format)

    def unchanged(self) -> None:
        """ContentChangedError if the task has written to one of its inputs, which it shares with others."""
        for port, path, stamp in self._linked:
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # its own copy of a small one
            if (status.st_size, status.st_mtime_ns) != stamp:
                raise ContentChangedError(f"the step wrote to its input {port}; inputs may only be read")

    def made(self, ports: Sequence[model_pb2.OutputPort]) -> Iterator[Made]:
        """The files on the output ports, in the order of ports and names. MissingOutputError."""
        for port in ports:
            path = self.outputs[port.name]
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                if port.optional:
                    continue
                raise missing(port.name, path.name) from None
            if port.format == DIRECTORY:
                if not stat.S_ISDIR(mode):
                    raise MissingOutputError(f"out/{path.name} is no directory, which the output {port.name} is to be")
                yield Made(port.name, 0, path, path.name, whole=True)
            elif stat.S_ISDIR(mode):
                for index, relative in enumerate(sorted(_files(path, Path()), key=lambda found: found.as_posix())):
                    yield Made(port.name, index, path / relative, relative.as_posix())
            else:
                yield Made(port.name, 0, _regular(path, f"out/{path.name}"), path.name)

    def written(self) -> int:
        """Bytes that the task has on the disk now, outputs included, inputs not. Blocks."""
        total = 0
        for name in ("out", "tmp", "."):
            total += bytes_below(self.root / name, deep=name != ".")
        return total + self.written_to_memory()

    def written_to_memory(self) -> int:
        """Bytes of outputs in memory. Blocks."""
        return 0 if self.writing is None else bytes_below(self.writing.directory)

    def _link(self, key: TaskKey, store: Store, port: Port, units: Sequence[UnitInfo]) -> Path | Sequence[Path]:
        paths = self._paths(port, units)
        for unit, path in zip(units, [paths] if isinstance(paths, Path) else paths, strict=True):
            self._link_one(key, store, port.name, unit, path)
        return paths

    def _expect(self, port: Port, units: Sequence[UnitInfo]) -> Path | Sequence[Path]:
        paths = self._paths(port, units)
        for unit, path in zip(units, [paths] if isinstance(paths, Path) else paths, strict=True):
            self.packed.append(Packed(port.name, unit, path))
        return paths

    def _paths(self, port: Port, units: Sequence[UnitInfo]) -> Path | Sequence[Path]:
        """Where the units of a port are to be found; of many below a directory, which is made."""
        name, ending = path_part(port.name), suffix(port.format)
        if not port.many:
            if len(units) != 1:
                raise DataError(f"input {port.name} takes one unit, and {len(units)} came")
            return self.root / "in" / f"{name}{ending}"
        directory = self.root / "in" / name
        directory.mkdir()
        return [directory / f"{index:05}{ending}" for index in range(len(units))]

    def _link_one(self, key: TaskKey, store: Store, port: str, unit: UnitInfo, path: Path) -> None:
        content = store.link(UnitKey(key.namespace, key.run, unit.id), path, self.held)
        if unit.digest and unit.digest != content.digest:
            raise DataError(f"unit {unit.id.hex()} on input {port} has other bytes here than it should have")
        if content.path is None:
            self._linked.append((port, path, (content.size, path.stat().st_mtime_ns)))
        else:
            self._linked.append((port, content.path, (content.size, content.stamp)))


class Directories:
    """All tasks' directories below `root`; what an earlier daemon left there is removed. Blocks.

    Paths are texts here: a task needs so few calls of the system that to build `Path`s would take longer.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._spares: list[str] = []
        self._numbers = itertools.count()
        self._removing: set[asyncio.Future[None]] = set()
        shutil.rmtree(root, ignore_errors=True)
        (root / _SPARE).mkdir(parents=True)

    def make(self, key: TaskKey) -> TaskDirectory:
        """An empty directory for an attempt. OSError."""
        run = f"{self._root}/{path_part(key.run)}"
        path = f"{run}/{key.task.hex()}.{key.attempt}"
        if self._spares:
            spare = self._spares.pop()
        else:
            spare = self._spare()
            for name in _PARTS:
                os.makedirs(f"{spare}/{name}")  # noqa: PTH103
        try:
            os.rename(spare, path)  # noqa: PTH104
        except FileNotFoundError:  # the run's first task here
            os.makedirs(run, exist_ok=True)  # noqa: PTH103
            os.rename(spare, path)  # noqa: PTH104
        return TaskDirectory(Path(path))

    def recycle(self, used: TaskDirectory) -> None:
        """Take back a directory whose task has ended, with whatever is left in it."""
        for held in used.held:
            held.unlink(missing_ok=True)
        path, spare = str(used.root), self._spare()
        with contextlib.suppress(OSError):
            os.rename(path, spare)  # noqa: PTH104
        if len(self._spares) < _MOST_SPARES and _is_emptied(spare):
            self._spares.append(spare)
            return
        for left in (spare, path):
            removing = asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, left, True)
            self._removing.add(removing)
            removing.add_done_callback(self._removing.discard)

    async def close(self) -> None:
        """Finish deleting."""
        await asyncio.gather(*self._removing, return_exceptions=True)

    def end_run(self, run: str) -> None:
        """Remove the run's directory, if no task has one in it any more."""
        with contextlib.suppress(OSError):
            os.rmdir(f"{self._root}/{path_part(run)}")  # noqa: PTH106

    def _spare(self) -> str:
        return f"{self._root}/{_SPARE}/{next(self._numbers)}"


def _is_emptied(directory: str) -> bool:
    """Empty a used directory if that is quickly done; else leave it as it is, to be deleted."""
    try:
        if len(os.listdir(directory)) != len(_PARTS):  # noqa: PTH208
            return False
        left: list[str] = []
        for name in _PARTS:
            part = f"{directory}/{name}"
            mode = os.lstat(part).st_mode
            if not stat.S_ISDIR(mode) or stat.S_IMODE(mode) & 0o700 != 0o700:
                return False
            left += [f"{part}/{name}" for name in os.listdir(part)]  # noqa: PTH208
        if len(left) > _MOST_LEFT:
            return False
        for path in left:
            os.unlink(path)  # noqa: PTH108 - fails where it is a directory
    except OSError:
        return False
    return True


def _files(root: Path, below: Path) -> Iterator[Path]:
    for entry in os.scandir(root / below):
        relative = below / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _files(root, relative)
        else:
            _regular(root / relative, f"out/{root.name}/{relative}")
            yield relative


def _regular(path: Path, told: str) -> Path:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise MissingOutputError(f"{told} is not a regular file, so it can't be a unit")
    return path


def bytes_below(directory: Path, *, deep: bool = True) -> int:
    """Of the files in it; what vanishes meanwhile is not counted. Blocks."""
    total = 0
    try:
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                total += bytes_below(Path(entry.path)) if deep else 0
            else:
                total += entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return total  # the task is moving things about
    return total
