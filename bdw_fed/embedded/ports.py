"""Ports for the federation's processes: chosen once, kept over restarts.

They lie below the range from which the kernel takes ports for outgoing connections, so that no connection, of ours or
of another program, sits on the port of a process that is just being started again.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bdw_fed.embedded.errors import EmbeddedError

LOOPBACK = "127.0.0.1"
_LOWEST = 17_000
_HIGHEST = 32_000


def choose_ports(names: Sequence[str], kept: Mapping[str, int]) -> dict[str, int]:
    """A free port for each name, the one it had before where that is still free. EmbeddedError if there are too few."""
    chosen = {name: kept[name] for name in names if name in kept and is_free(kept[name])}
    taken = set(chosen.values())
    candidates = _candidates()
    for name in names:
        if name in chosen:
            continue
        port = next((port for port in candidates if port not in taken and is_free(port)), None)
        if port is None:
            raise EmbeddedError(f"there are not {len(names)} free ports between {_LOWEST} and {_highest()}")
        chosen[name] = port
        taken.add(port)
    return chosen


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _candidates() -> Iterable[int]:
    """All ports in the range, from a place in it that differs each time, so that two federations seldom meet."""
    highest = _highest()
    start = random.randrange(_LOWEST, highest)  # noqa: S311 - spreads, hides nothing
    yield from range(start, highest)
    yield from range(_LOWEST, start)


def _highest() -> int:
    try:
        outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _HIGHEST
    return outgoing if _LOWEST + 1000 < outgoing < _HIGHEST else _HIGHEST
