"""Which bundles go when there are too many bytes of them: those that were used longest ago, and never one in use."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """A bundle on a disk: its digest in hex, bytes, and when it was used last (Unix time)."""

    name: str
    size: int
    used: float


def surplus(kept: Iterable[Kept], most_bytes: int, before: float, in_use: Collection[str] = ()) -> list[str]:
    """Those to remove until the rest has at most `most_bytes`; none that is in use, or was used since `before`."""
    oldest_first = sorted(kept, key=lambda one: one.used)
    over = sum(one.size for one in oldest_first) - most_bytes
    found = []
    for one in oldest_first:
        if over <= 0:
            break
        if one.name not in in_use and one.used < before:
            found.append(one.name)
            over -= one.size
    return found
