"""The few things asked of Linux itself: to die with one's parent, a process's identity, its memory.

A pid alone does not name a process, because pids are used again; with its start time it does.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: signal.Signals, parent: int) -> None:
    """Have `number` sent to this process when its parent ends; end at once if `parent` has ended already."""
    if _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os._exit(1)


def name_process(name: str) -> None:
    """The name that `ps -o comm` and `top` show; its first 15 bytes."""
    _libc.prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]), 0, 0, 0)


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none, or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def is_running(pid: int, started: int) -> bool:
    """Whether the process that had this pid and start time still runs."""
    return start_time(pid) == started


def wait_for_end(pid: int, started: int, timeout: float) -> bool:
    """Wait until a process, ours or not, has ended; False if it has not within `timeout` seconds."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if not is_running(pid, started):
            return True
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(left * 1000):
                return True
        return not is_running(pid, started)
    finally:
        os.close(handle)


def send_signal(pid: int, started: int, number: signal.Signals) -> bool:
    """Signal a process, never another one that has got its pid; False if it has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not is_running(pid, started):
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Memory:
    """Bytes of a process: resident, and its fair share where pages are shared with others."""

    resident: int
    proportional: int


def memory_of(pid: int) -> Memory | None:
    """The memory of a process; None if it has ended or is not ours to look at."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (OSError, ProcessLookupError):
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:] if line.endswith("kB")}
    return Memory(kib.get("Rss", 0) * 1024, kib.get("Pss", 0) * 1024)


def thread_count() -> int:
    """How many threads this process has."""
    return len(list(Path("/proc/self/task").iterdir()))
