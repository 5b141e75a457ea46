"""Runs whose hub is gone while it handed them out are given up, by whichever hub sees that first.

A hub counts as gone once it has not lived for as long as its lease: one that has just been started may have been asked
for a run before the others know of it. A hub gives its own runs up where its store was away for so long that whoever
submitted was told so. That a hub which is still at it hands out no more is made sure where it writes (`handing_out`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable

import structlog

from bdw_fed.v1 import model_pb2 as m
from control_plane.hubs.living import LivingHubs
from control_plane.runs.board import Board
from control_plane.runs.driver import Runs
from control_plane.runs.errors import RunError
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError

_LOOK_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Orphans:
    """The runs that nobody hands out any more, pure. `patience`: for how many seconds that must have been so."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: dict[tuple[str, str], float] = {}

    def found(self, halfway: Iterable[m.Run], living: Collection[bytes], now: float) -> list[tuple[str, str]]:
        """Those of the runs that are handed out halfway, by the ids of the hubs that live and are at it."""
        alone = [(run.namespace, run.name) for run in halfway if run.handed_out_by not in living]
        self._since = {name: self._since.get(name, now) for name in alone}
        return [name for name, at in self._since.items() if now - at >= self._patience]


async def give_up_halfway(board: Board, runs: Runs, hubs: LivingHubs, patience: float) -> None:
    """Run by the hub as long as it lives. `patience`: seconds that a hub's lease lasts."""
    orphans = Orphans(patience)
    while True:
        halfway = [run for run in board.halfway() if not runs.hands_out(run.namespace, run.name)]
        for namespace, name in orphans.found(halfway, hubs.others().keys(), time.monotonic()):
            try:
                await runs.give_up(namespace, name, time.time())
                _log.warning("a run was given up that was not handed out to the end", namespace=namespace, run=name)
            except (RunError, EtcdError, StoreError) as error:
                _log.info("a run was not given up yet", namespace=namespace, run=name, error=str(error))
        await asyncio.sleep(_LOOK_SECONDS)
