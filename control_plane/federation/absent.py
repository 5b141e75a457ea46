"""Runs that are being stopped don't wait for clusters that can't be told.

While some run is STOPPING, its clusters are looked at whenever an agent's silence may have become an absence. The part
of an absent one counts as cancelled; its agent hears of it when it is back.
"""

from __future__ import annotations

import asyncio
import time

from bdw_fed.v1 import model_pb2 as m
from control_plane.federation.agents import Agents
from control_plane.runs import forms, messages
from control_plane.runs.board import Board
from control_plane.runs.driver import Runs
from control_plane.runs.errors import RunError

_AGAIN_SECONDS = 1.0


async def give_up_on_absent(board: Board, runs: Runs, agents: Agents) -> None:
    """Run by the hub as long as it lives."""
    while True:
        await board.some_run_stops()
        for run in board.live():
            if run.state != m.RUN_STATE_STOPPING:
                continue
            for cluster, fragment in sorted(run.fragments.items()):
                if fragment.state not in forms.FRAGMENT_ENDED and agents.known.out_of_touch(cluster):
                    event = messages.OutOfTouch(cluster, time.time())
                    try:
                        await runs.happened(run.namespace, run.name, event, seconds=None)
                    except RunError:
                        break
        wait = agents.known.seconds_to_next_change()
        await asyncio.sleep(_AGAIN_SECONDS if wait is None else min(max(wait, 0.05), _AGAIN_SECONDS))
