"""Ended runs expire: they, their outputs and their plans are deleted some time after their end, and not before the time
is over that their outputs are to be kept.

Wall-clock time, because people count retention in days.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import structlog

from bdw_fed.v1 import model_pb2 as m
from control_plane.blobs.base import BlobStore
from control_plane.kinds import Kinds
from control_plane.patience import persistently
from control_plane.runs import forms
from control_plane.runs.driver import Runs
from control_plane.runs.errors import RunError
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError

_LOOK_SECONDS = 600.0

_log = structlog.get_logger(__name__)


async def delete_run(runs: Runs, blobs: BlobStore, namespace: str, name: str) -> None:
    """Delete an ended run and its plan. NoSuchRun, or Refused while it lives."""
    run = await runs.delete(namespace, name)
    if run.plan:
        await blobs.delete(run.plan)


def expires_at(run: m.Run, keep_seconds: float) -> float:
    """When an ended run expires, as Unix time."""
    return run.ended_at + max(keep_seconds, run.retain_outputs)


async def expire(kinds: Kinds, runs: Runs, blobs: BlobStore, keep_seconds: float) -> None:
    """Run by the hub as long as it lives."""
    while True:
        listing = await persistently(kinds.runs.list, None)
        for run in [stored.value for stored in listing.items]:
            if run.state in forms.ENDED and expires_at(run, keep_seconds) < time.time():
                try:
                    with suppress(RunError):  # somebody else was quicker
                        await delete_run(runs, blobs, run.namespace, run.name)
                except (EtcdError, StoreError) as error:
                    _log.info("an expired run is not deleted yet", run=run.name, error=str(error))
        await asyncio.sleep(min(_LOOK_SECONDS, max(keep_seconds, 1.0)))
