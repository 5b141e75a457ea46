"""Ends what a spawner has left behind that was killed before it could do so itself.

Programs are started without a death signal, and what they start may be anywhere. But all of it has inherited the
environment in which their spawner has put its owner's name (see `spawner`), unless it was wiped on purpose.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from cluster_agent.runtimes.process.spawner.orphans import MARK

_ROUNDS = 5  # what is killed may have started something meanwhile


def sweep(owner: str) -> None:
    """Kill all processes that were started for this owner. Blocks for some milliseconds."""
    for _ in range(_ROUNDS):
        found = [pid for pid in _processes() if _belongs(pid, owner)]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - names are all it needs


def _belongs(pid: int, owner: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or somebody else's
        return False
    begin, end = f"{MARK}=".encode(), f"@{owner}".encode()
    return any(entry.startswith(begin) and entry.endswith(end) for entry in environment.split(b"\0"))
