"""The places that a measurement shares with others who use them: a prefix of its own, asked before, emptied after.

A federation passes over a place that is away, and runs as well without it. So whether it is there, and takes and gives
contents, is asked before anything is measured. A federation that is stopped may leave something in a place for its next
start; ours has none, so what its runs left is deleted here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from bdw_fed.perf.base import PerfError
from cluster_agent.data.shared import names
from cluster_agent.data.shared.declared import shared_config
from cluster_agent.data.shared.errors import SharedStoreError
from cluster_agent.data.shared.places import SharedPlaces
from topology.storage import Objects, Redis, Storage

Place = TypeVar("Place", Redis, Objects)
_NAMESPACE = "default"
_PROBE = b"is it kept?"


class Places:
    """Those in `storage`, as it names them; `self.storage` is the same below a prefix of ours. PerfError."""

    def __init__(self, storage: Storage, credentials: Path | None, cluster: str) -> None:
        own = f"perf-{secrets.token_hex(4)}"
        self.storage = Storage(redis=_below(storage.redis, own), objects=_below(storage.objects, own))
        self.runs: Sequence[str] = ()  # of which something may be there
        self._config = shared_config(self.storage, credentials or Path())
        self._cluster = cluster

    def __enter__(self) -> Places:
        asyncio.run(self._ask())
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            asyncio.run(self._sweep())
        except PerfError:
            if kind is None:  # or what happened before is the one to be told
                raise

    async def _ask(self) -> None:
        places = SharedPlaces(self._config)
        name = names.of_unit(_NAMESPACE, "probe", self._cluster, secrets.token_bytes(16))
        try:
            for place in places:
                await place.put_many({name: _PROBE})
                kept = await place.read_many([name])
                await place.delete([name])
                if kept != [_PROBE]:
                    raise PerfError(f"{place.place} does not give back what was put there")
        except SharedStoreError as error:
            raise PerfError(f"what --topology names can't be measured: {error}") from error
        finally:
            await places.close()

    async def _sweep(self) -> None:
        places = SharedPlaces(self._config)
        try:
            for place in places:
                for run in self.runs:
                    await place.sweep(names.of_run(_NAMESPACE, run, self._cluster))
        except SharedStoreError as error:
            raise PerfError(f"what was measured may have left contents behind: {error}") from error
        finally:
            await places.close()


def _below(place: Place | None, own: str) -> Place | None:
    """The place, below a prefix in its own."""
    return place and place.model_copy(update={"prefix": f"{place.prefix.rstrip('/')}/{own}"})
