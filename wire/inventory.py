"""The digest by which hub and agent see in one comparison whether they mean the same assignments."""

from __future__ import annotations

from collections.abc import Iterable

from wire.digests import bytes_digest


def inventory_digest(assignments: Iterable[tuple[str, str, int, int]]) -> bytes:
    """The digest of a set of (namespace, run, epoch, desired state), whatever order it comes in."""
    lines = sorted(f"{namespace}/{run}/{epoch}/{desired}" for namespace, run, epoch, desired in assignments)
    return bytes_digest("\n".join(lines).encode())
