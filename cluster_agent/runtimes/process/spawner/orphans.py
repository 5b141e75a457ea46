"""Ends what children have left behind: processes that fled from their group, and became ours when their parent died.

Whose an orphan was is said by its session, or by the variable MARK in its environment. A process that is about to
become another program has no environment for a moment; so it is looked at again, a few times, until that is clear.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

MARK = "BDW_FED_WORKER"
_LOOKS = 20
_READ_BYTES = 1 << 16


class Orphans:
    """`children` are those that are no orphans: number by pid. `listing` finds all, where the kernel's file won't do.

    `looks`: how many times it is to be looked again.
    """

    def __init__(self, children: Mapping[int, int], listing: Callable[[], list[int]]) -> None:
        self.looks = 0
        self._children = children
        self._listing = listing
        self._ended: set[int] = set()  # former children, as long as there may be anything left of their sessions
        try:
            self._listed = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        except OSError:  # a kernel without that file
            self._listed = -1

    def left_by(self, pid: int, number: int) -> bool:
        """A child has ended: kill what it has left behind; whether there was anything, as far as is clear."""
        self._ended.add(pid)
        return self._end(number)

    def look(self) -> None:
        """Something has ended that was no child: it may have left others, which show a little later."""
        self.looks = _LOOKS
        self._end()

    def look_again(self) -> None:
        """Some time has passed."""
        self.looks -= 1
        self._end()

    def end_all(self) -> None:
        """Kill children and orphans, until there are none."""
        for pid in self._children:
            kill_group(pid)
        while True:
            left = self._listing()
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ProcessLookupError, ChildProcessError):
                    continue

    def _end(self, ended: int = 0) -> bool:
        """Kill those who left their group and outlived their worker; whether any may be of the one that `ended`."""
        strangers = [pid for pid in self._all() if pid not in self._children]
        if not strangers:
            self._ended.clear()
            self.looks = 0
            return False
        alive = set(self._children.values())
        found = unclear = False
        for pid in strangers:
            try:
                session = os.getsid(pid)
                if session in self._ended and session not in self._children:
                    kill_group(os.getpgid(pid))
                    found = True
                    continue
                environment = Path(f"/proc/{pid}/environ").read_bytes()
                if not environment:  # dead already; without any; or about to become another program, and not yet it
                    if _is_dead(pid):
                        continue
                    unclear = True
                number = _marked(environment)
                found = found or number in (None, ended)
                if number not in alive and (number is not None or not alive):
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        if not unclear:
            self.looks = 0
        return found

    def _all(self) -> list[int]:
        """Our children, and orphans that became ours."""
        if self._listed < 0:
            return self._listing()
        listed = os.pread(self._listed, _READ_BYTES, 0)
        if len(listed) == _READ_BYTES:
            return self._listing()
        return [int(pid) for pid in listed.split()]


def kill_group(pid: int) -> None:
    """Kill a process and its group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _marked(environment: bytes) -> int | None:
    for entry in environment.split(b"\0"):
        name, _, value = entry.partition(b"=")
        number = value.partition(b"@")[0]
        if name == MARK.encode() and number.isdigit():
            return int(number)
    return None


def _is_dead(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"
