"""The client: what a program (and our own command line) uses to speak to the hub.

`Client` is for asyncio, `SyncClient` for everything else; both have the same methods and give the contract's own
messages (bdw_fed.v1). Loaded at first use, so that one does not pay for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bdw_fed.client.asynchronous import Client
    from bdw_fed.client.blocking import SyncClient
    from bdw_fed.client.connection import Profile, find_profile
    from bdw_fed.client.objects import Document
    from bdw_fed.client.outputs import Downloaded
    from bdw_fed.client.runs import has_ended

__all__ = ["Client", "Document", "Downloaded", "Profile", "SyncClient", "find_profile", "has_ended"]

_WHERE = {
    "Client": "asynchronous",
    "SyncClient": "blocking",
    "Profile": "connection",
    "find_profile": "connection",
    "Document": "objects",
    "Downloaded": "outputs",
    "has_ended": "runs",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
