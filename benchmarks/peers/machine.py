"""What of the machine a figure depends on, so that two results can be told apart. Nothing that identifies it."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import psutil

SYNCS = 50


def facts(scratch: Path) -> dict[str, Any]:
    """Processor, memory (GiB), system, Python, and the disk below `scratch`: file system, milliseconds for a sync."""
    return {
        "processor": _processor(),
        "cpus": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
        "file_system": _file_system(scratch),
        "sync_ms": round(_sync_ms(scratch), 2),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _file_system(directory: Path) -> str:
    parts = [part for part in psutil.disk_partitions(all=True) if directory.resolve().is_relative_to(part.mountpoint)]
    return max(parts, key=lambda part: len(part.mountpoint)).fstype if parts else "unknown"


def _sync_ms(directory: Path) -> float:
    """The median time to append a page to a file and sync it: what durability against loss of power costs here."""
    path = directory / "sync-probe"
    samples = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            samples.append((time.perf_counter() - began) * 1000)
    path.unlink()
    return statistics.median(samples)
