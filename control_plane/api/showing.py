"""Runs as people see them: the newest counters, a word on clusters that are out of touch, and where outputs lie."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from control_plane.federation.agents import Agents
from control_plane.patience import persistently
from control_plane.runs import forms
from control_plane.runs.board import Board
from control_plane.runs.driver import Runs
from control_plane.runs.errors import Refused
from wire.identity import Identity, Role, server_name


class ShownRuns:
    """Runs with what the board and the agents tell of them."""

    def __init__(self, runs: Runs, board: Board, agents: Agents) -> None:
        self._runs = runs
        self._board = board
        self._agents = agents

    async def get(self, namespace: str, name: str) -> m.Run:
        """A run now. NoSuchRun."""
        run = await persistently(lambda: self._runs.get(namespace or "default", name))
        return self._explained(self._board.shown(run))

    async def watch(self, namespace: str, name: str) -> AsyncGenerator[m.Run]:
        """A run now, and whenever it changes, until it has ended. NoSuchRun."""
        async with aclosing(self._board.watch(namespace or "default", name)) as runs:
            async for run in runs:
                yield self._explained(run)

    async def outputs(self, run: m.Run) -> list[cp.OutputsResponse.Located]:
        """A run's results, and where their bytes lie. Refused if it has none yet."""
        if run.state != m.RUN_STATE_SUCCEEDED and not run.outputs:  # one may have gone on without tasks that failed
            raise Refused(f"the run {run.name} is {forms.state_word(run.state)}: it has outputs once it has succeeded")
        outputs = list(run.outputs)
        if run.outputs_left_out:
            outputs = await persistently(lambda: self._runs.outputs(run))
        statuses = self._agents.known.statuses()
        return [_located(run, each, statuses.get(each.cluster)) for each in outputs]

    def _explained(self, run: m.Run) -> m.Run:
        """The run, with a word on clusters that are out of touch where it says nothing itself."""
        if run.state != m.RUN_STATE_RUNNING or run.message:
            return run
        absent = [name for name in sorted(run.fragments) if self._agents.known.out_of_touch(name)]
        if not (why := forms.absence(run, absent)):
            return run
        shown = forms.copy_of(run)
        shown.message = why
        return shown


def _located(run: m.Run, output: m.RunOutput, status: cp.ClusterStatus | None) -> cp.OutputsResponse.Located:
    nodes = status.nodes if status is not None else ()
    addresses = [node.data_address for node in nodes if node.name == output.node and node.data_address]
    identity = Identity(Role.NODE, f"{output.cluster}/{output.node}")
    until = forms.kept_until(run, output)
    return cp.OutputsResponse.Located(
        output=output,
        addresses=addresses,
        server_name=server_name(identity),
        kept_until=until,
        expired=0.0 < until <= time.time(),
    )
