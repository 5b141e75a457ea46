"""Reads pieces of files in a thread that steps back before all others, past what the machine has in memory.

What the kernel has cached says nothing of the disk: it is told to forget a piece before it is read, and after, since
nobody is going to need it because of us. (For files in memory that means nothing.)
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

_NICE: Final = 10
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}  # numbers of the system call, for which libc has no function
_OF_PROCESS: Final = 1
_IDLE: Final = 3 << 13


class Reading:
    """The thread. `close` it at the end."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="scrub", initializer=_step_back)

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function there."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self) -> None:
        """Return when nothing is being read."""
        self._executor.shutdown()


def piece(path: Path, offset: int, size: int) -> bytes:
    """Bytes of a file, from the disk; fewer at its end. Blocks. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
        data = os.pread(descriptor, size, offset)
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return data


def _step_back() -> None:
    """Have the calling thread use processors and disks that nobody else wants just now."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)  # 0: this thread, on Linux
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, _OF_PROCESS, 0, _IDLE)
