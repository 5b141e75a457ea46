"""What people import: `Client` and `SyncClient`, loaded only when they are asked for.

The package is lazy so that importing `bdw_fed.v1` (the protos) costs nothing else.
"""

from __future__ import annotations

from typing import Any

_PUBLIC = ("Client", "SyncClient")


def __getattr__(name: str) -> Any:
    """Load a public name from `bdw_fed.client` at its first use."""
    if name in _PUBLIC:
        import bdw_fed.client

        return getattr(bdw_fed.client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
