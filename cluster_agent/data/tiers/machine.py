"""What a machine, or the container that we are in, has of memory: it bounds what a node may keep there."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_KIB = 1024


def total_memory() -> int:
    """Bytes of memory that there are for us; 0 where nobody says."""
    limit = _number(_CGROUP / "memory.max")
    total = _meminfo("MemTotal")
    return min(limit, total) if limit and total else limit or total


def strained() -> bool:
    """Whether less than a quarter of it may still be taken. What files take that the kernel can forget is not taken."""
    limit = _number(_CGROUP / "memory.max")
    if limit and _number(_CGROUP / "memory.current") - _forgettable() > limit * 3 // 4:
        return True
    return _meminfo("MemAvailable") < _meminfo("MemTotal") // 4


def _forgettable() -> int:
    """Bytes of files that our control group holds in memory, and that are on a disk."""
    try:
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("active_file ", "inactive_file ")))


def _number(file: Path) -> int:
    """What a file of a control group says; 0 for "max", and where there is none."""
    try:
        text = file.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0


def _meminfo(name: str) -> int:
    try:
        text = _MEMINFO.read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * _KIB
    return 0
