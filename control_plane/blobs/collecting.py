"""Blobs that nobody refers to any more are deleted.

A bundle is put before the step that names it is stored, and a step that is applied again puts nothing; so a blob goes
only if it was neither put nor asked for during a while. What is referred to is read first: whoever refers to a blob
later has asked for it, which keeps it.
"""

from __future__ import annotations

import asyncio

import structlog

from control_plane.blobs.base import BlobStore
from control_plane.kinds import Kinds
from control_plane.patience import persistently

GRACE_SECONDS = 86_400.0
_LOOK_SECONDS = 3600.0
_log = structlog.get_logger(__name__)


async def collect(kinds: Kinds, blobs: BlobStore, grace: float = GRACE_SECONDS) -> None:
    """Run by the hub as long as it lives."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        try:
            await collect_once(kinds, blobs, grace)
        except OSError as error:
            _log.warning("blobs that nobody needs are not deleted yet", error=str(error))


async def collect_once(kinds: Kinds, blobs: BlobStore, grace: float) -> int:
    """Delete what nobody refers to and nobody asked for during `grace` seconds; how many blobs that was. OSError."""
    needed = await referred(kinds)
    deleted = 0
    async for digest in blobs.digests():
        if digest not in needed and await blobs.delete_older(digest, grace):
            deleted += 1
            _log.info("a blob that nobody refers to is deleted", digest=digest.hex())
    return deleted


async def referred(kinds: Kinds) -> set[bytes]:
    """The blobs that steps of any revision, runs and assignments name."""
    steps = await persistently(kinds.objects["Step"].list, None)
    revisions = await persistently(kinds.revisions["Step"].list, None)
    runs = await persistently(kinds.runs.list, None)
    assignments = await persistently(kinds.fragments.list, None)
    needed = {stored.value.bundle for listing in (steps, revisions) for stored in listing.items}
    needed.update(stored.value.plan for stored in runs.items)
    for stored in assignments.items:
        needed.update(step.execution.bundle for step in stored.value.fragment.steps)
    return needed - {b""}
