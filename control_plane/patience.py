"""Trying again while the store is away, or while another writer keeps coming first.

An attempt reads what it decides on and then commits. After a Conflict, an Unavailable or an Uncertain failure it is
made anew from the reading on, so that one whose answer was lost is found done, or its loss is made good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from control_plane.store.errors import Conflict
from control_plane.store.etcd.client import backoff
from control_plane.store.etcd.errors import EtcdError, NoSpace, Refused

T = TypeVar("T")
REQUEST_SECONDS = 15.0
_WARN_AFTER_SECONDS = 5.0

_log = structlog.get_logger(__name__)


async def persistently(attempt: Callable[[], Awaitable[T]], seconds: float | None = REQUEST_SECONDS) -> T:
    """What `attempt` returns once it succeeds, tried for so many seconds (None: for ever).

    Then raises what the last attempt raised. An EtcdError that says no for good is raised at once, except that a full
    store is waited for where the patience is endless.
    """
    clock = asyncio.get_running_loop().time
    begun = clock()
    warned = False
    for delay in backoff():
        try:
            return await attempt()
        except (Conflict, EtcdError) as error:
            waited = clock() - begun
            if isinstance(error, Refused) and not (isinstance(error, NoSpace) and seconds is None):
                raise
            if seconds is not None and waited + delay >= seconds:
                raise
            if waited > _WARN_AFTER_SECONDS and not warned and isinstance(error, EtcdError):
                warned = True
                _log.warning("the store does not take a write; it is tried again", error=str(error))
            await asyncio.sleep(0.0 if isinstance(error, Conflict) and waited < 1.0 else delay)
    raise AssertionError("a backoff does not end")
