"""Names for completion in the shell, asked of the hub; silent where there is none."""

from __future__ import annotations

_TIMEOUT = 1.0


def names_of(kind: str, incomplete: str) -> list[str]:
    """The names of `kind` ("run", "workflow", "cluster") that start with `incomplete`; empty if nobody answers."""
    from bdw_fed.cli.kinds import KINDS
    from bdw_fed.client import SyncClient
    from bdw_fed.client.errors import ClientError

    if kind == "kind":
        return [name for name in KINDS if name.startswith(incomplete)]
    try:
        with SyncClient() as client:
            names = [item.name for item in client.list(KINDS[kind], limit=200)]
    except (ClientError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]
