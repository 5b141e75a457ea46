"""The directory in which a worker does one small job after another."""

# For a small task what pathlib adds to a system call is more than the call.
# ruff: noqa: PTH102, PTH104, PTH108, PTH116, PTH118, PTH208, PTH211, PTH106

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from .frames import LEFT, MISSING
from .jobs import Work

_UNTOUCHED_NS = 10**18  # the time of inputs and directories that nobody has written to


class Place:
    """The worker's own directory, for one small job after another: in/ and out/ in it, and tmp, which is elsewhere.

    `home` exists; what is in it is removed by whoever made it. Its `tmp` is a directory, or a link to one.
    """

    def __init__(self, home: str, small: int) -> None:
        self._home = home
        self._small = small
        self._temporary = os.path.join(home, "tmp")
        self._count = 0
        self._used = False
        self._open: list[int] = []
        self._inputs: list[str] = []
        self._filed = False  # whether it has in/ and out/, which no task with values alone needs
        self._empty_size = 0  # of a directory, where sizes tell that; else 0
        self._name = ""  # that of the task
        self.root = ""  # until it is made, and after it could not be emptied

    def enter(self, task: str, attempt: int, work: Work, inputs: list[bytes]) -> None:
        """Be the directory of a task, with these inputs."""
        self._used = True
        if not self.root:
            self._make()
        self._inputs.clear()
        self._name = f"{self._home}/{task}.{attempt}"
        if not work.filed:
            os.chdir(self.root)
            return
        self._settle()
        os.chdir(self.root)
        for at, _, name in work.files_in:
            data = inputs[at]
            file = os.open(f"in/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            self._open.append(file)
            self._inputs.append(name)
            if os.write(file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.utime(file, ns=(_UNTOUCHED_NS, _UNTOUCHED_NS))

    def arguments(self, work: Work, parameters: dict[str, Any], inputs: list[bytes]) -> dict[str, Any]:
        """What the step's function is called with, values as bytes still."""
        arguments: dict[str, Any] = {port: Path(f"{self.root}/in/{name}") for _, port, name in work.files_in}
        for at, port in work.values_in:
            arguments[port] = inputs[at]
        arguments.update(parameters)
        if work.out:
            arguments["out"] = {port: Path(f"{self.root}/out/{name}") for port, name in work.files_out}
        return arguments

    def written_to(self, work: Work) -> str:
        """The port of an input that the task has written to, or empty."""
        found = ""
        for (_, port, _), file in zip(work.files_in, self._open):  # noqa: B905 - Python 3.9 has no strict
            try:
                if os.fstat(file).st_mtime_ns != _UNTOUCHED_NS:
                    found = port
                os.close(file)
            except OSError:  # the step has closed all descriptors that it could find
                continue
        self._open.clear()
        return found

    def outputs(self, work: Work, made: dict[str, bytes], pieces: list[bytes]) -> list[int]:
        """For each port the size of what is added to `pieces`, or why nothing is. `made` are the values. OSError."""
        if not work.files_out:
            return [self._made(name, made.get(port), pieces) for port, name in work.outputs]
        values = work.values.outputs if work.values else {}
        return [
            self._made(name, made.get(port), pieces)
            if port in values
            else self._output(f"{self.root}/out/{name}", pieces)
            for port, name in work.outputs
        ]

    def _made(self, name: str, data: bytes | None, pieces: list[bytes]) -> int:
        """A value; one that is large is left as a file."""
        if data is None:
            return MISSING
        if len(data) <= self._small:
            pieces.append(data)
            return len(data)
        self._settle()
        Path(f"{self.root}/out/{name}").write_bytes(data)
        return LEFT

    def _settle(self) -> None:
        """Have the task's name, and directories for its files."""
        if not self._filed:
            for name in ("in", "out"):
                os.mkdir(f"{self.root}/{name}")
            self._empty_size = os.stat(f"{self.root}/out").st_size if _size_tells(f"{self.root}/out") else 0
            os.utime(self.root, ns=(_UNTOUCHED_NS, _UNTOUCHED_NS))
            self._filed = True
        if self.root != self._name:
            os.rename(self.root, self._name)
            self.root = self._name

    def _output(self, path: str, pieces: list[bytes]) -> int:
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return MISSING
        except OSError:
            return LEFT
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or status.st_size > self._small:
                return LEFT
            data = os.read(file, self._small + 1)
        finally:
            os.close(file)
        os.unlink(path)
        pieces.append(data)
        return len(data)

    def empty(self) -> None:
        """Have nothing of the last task any more."""
        if not self._used:
            return
        self._used = False
        for file in self._open:  # of a task that could not be begun
            os.close(file)
        self._open.clear()
        try:
            for name in self._inputs:
                os.unlink(f"{self.root}/in/{name}")
            clean = (
                (not self._filed or (self._is_empty(f"{self.root}/in") and self._is_empty(f"{self.root}/out")))
                and os.stat(self.root).st_mtime_ns == _UNTOUCHED_NS
                and os.stat(self._temporary).st_mtime_ns == _UNTOUCHED_NS
            )
        except OSError:
            clean = False
        if not clean:
            os.chdir("/")
            shutil.rmtree(self.root, ignore_errors=True)
            self.root = ""

    def _is_empty(self, directory: str) -> bool:
        if self._empty_size:
            return os.stat(directory).st_size == self._empty_size
        return not os.listdir(directory)

    def _make(self) -> None:
        for entry in os.scandir(self._temporary):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        os.utime(self._temporary, ns=(_UNTOUCHED_NS, _UNTOUCHED_NS))
        self._count += 1
        root = f"{self._home}/{self._count}"
        os.mkdir(root)
        os.symlink(os.path.realpath(self._temporary), os.path.join(root, "tmp"))
        self._filed = False
        os.utime(root, ns=(_UNTOUCHED_NS, _UNTOUCHED_NS))
        self.root = root


def _size_tells(empty: str) -> bool:
    """Whether the size of a directory tells that there is something in it, as in memory."""
    before = os.stat(empty).st_size
    os.mkdir(os.path.join(empty, "probe"))
    with_one = os.stat(empty).st_size
    os.rmdir(os.path.join(empty, "probe"))
    return before != with_one and os.stat(empty).st_size == before
