"""What the worker asks of the kernel: whom a task has left, how much memory it had, what is unread in pipes."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
import termios
from pathlib import Path

_WALL = 0x40000000  # for waitid: children of every kind


def unread(stream: int) -> int:
    """Bytes in a pipe that the daemon has not read yet."""
    count = bytearray(4)
    try:
        fcntl.ioctl(stream, termios.FIONREAD, count)
    except OSError:  # the step has closed it
        return 0
    return int.from_bytes(count, sys.byteorder)


def has_children() -> bool:
    """Whether there is any process that is a child of ours; what lost its parent below us is one too."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL)
    except ChildProcessError:
        return False
    return True


def children() -> list[int]:
    """Our direct children; orphans of theirs become ours, as we are their subreaper."""
    found: list[int] = []
    try:
        for thread in Path("/proc/self/task").iterdir():
            found += [int(pid) for pid in (thread / "children").read_text().split()]
    except OSError:  # a kernel without that file, or a thread that ended just now
        found += [pid for pid in children_by_parent() if pid not in found]
    return found


def children_by_parent() -> list[int]:
    found = []
    own = str(os.getpid())
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1] == own:
                    found.append(int(process.name))
            except OSError:
                continue
    return found


def end_children(baseline: frozenset[int]) -> None:
    """Kill all that a task has started and left, whatever session it has fled to."""
    while True:
        left = [pid for pid in children() if pid not in baseline]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                continue


def limit_memory(limit: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = hard if limit == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def own_peak() -> int:
    """The most memory that this process has ever used, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def peak() -> int:
    """The most memory that was in use since `_reset_peak`, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return own_peak()
