"""Gives the parts of lost clusters to others, where the run's policy wants that.

    liveness ─ silence ─▶ `runs.replacing.verdict` ─ lost ─▶ planner, without them ─▶ Replaced, or Irreplaceable: why

The plan is stored together with the run, on the condition that the run is as it was, so that of two hubs one decides.
What can't be replaced just now is tried again after a while: a cluster that stands in the way may be back, or lost too.

Where the policy may come back to what was there, the replacement is a line beside it. Once the clusters of the original
are back it is said which of the two counts; one that waits for a cluster that is to be empty does not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from bdw_fed.v1 import model_pb2 as m
from control_plane.federation.agents import Agents
from control_plane.federation.liveness import Attention
from control_plane.federation.marks import Marks
from control_plane.patience import persistently
from control_plane.runs import messages
from control_plane.runs.board import Board
from control_plane.runs.driver import Runs
from control_plane.runs.errors import RunError
from control_plane.runs.lines import back, waits_for
from control_plane.runs.replacing import line_of_next, objection, verdict, waits
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError
from control_plane.store.transaction import Operation
from wire.errors import ProblemError

if TYPE_CHECKING:
    from control_plane.planner.core import Planned

_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 10.0
_SOON_SECONDS = 0.05

_log = structlog.get_logger(__name__)


class Planner(Protocol):
    """Makes a plan of a run without clusters that are lost: the plan, its digest, the writes that store it."""

    def __call__(
        self, run: m.Run, denied: dict[str, str], *, lost: Sequence[str], revision: int
    ) -> Awaitable[tuple[Planned, bytes, Sequence[Operation]]]: ...


class Signer(Protocol):
    """Signs which fragments of a run count, so that peers can show it: see wire.epochs."""

    def __call__(self, namespace: str, run: str, revision: int, epochs: Mapping[str, int]) -> m.SignedEpochs: ...


class Replacements:
    """`keep` is run by the hub as long as it lives."""

    def __init__(self, board: Board, runs: Runs, agents: Agents, marks: Marks, plan: Planner, sign: Signer) -> None:
        self._board = board
        self._runs = runs
        self._agents = agents
        self._marks = marks
        self._plan = plan
        self._sign = sign
        self._again: dict[tuple[str, str], float] = {}  # run that can't be helped just now -> when to look again

    async def keep(self) -> None:
        """Look at the runs whenever a silence may have become a loss."""
        attention = Attention(time.monotonic())
        while True:
            wait = _LOOK_SECONDS
            listened = attention.listened(time.monotonic())
            silence = {cluster: min(seconds, listened) for cluster, seconds in self._agents.known.silence().items()}
            gone = self._gone(silence)
            for cluster in silence:
                if self._agents.known.out_of_touch(cluster):
                    self._board.away(cluster)
            for run in self._board.live():
                found = verdict(run, silence, gone)
                if found.next_in is not None:
                    wait = min(wait, found.next_in)
                if run.HasField("original") and gone.intersection(waits_for(run)):
                    await self._happened(run, messages.Kept(run.plan_revision, original=False))
                elif run.HasField("original") and self._is_back(run):
                    _log.info("a run has its clusters back", run=run.name, clusters=list(run.original.lost))
                    await self._happened(run, back(run))
                elif found.lost or found.stopped:
                    await self._replace(run, found.lost, gone)
                elif waits(run):
                    await self._happened(run, messages.Irreplaceable(""))
            self._again = {name: at for name, at in self._again.items() if at > time.monotonic()}
            wait = max(wait, _SOON_SECONDS)
            attention.next_at(time.monotonic() + wait)
            await asyncio.sleep(wait)

    def _gone(self, seen: Collection[str]) -> set[str]:
        """Clusters of those `seen` that don't come back to what they have, however soon they are heard again."""
        return self._marks.overdue() | {cluster for cluster in seen if self._agents.known.is_revoked(cluster)}

    def _is_back(self, run: m.Run) -> bool:
        """Whether all clusters that the run had before it began again are there, and have told how far they are."""
        return not any(self._agents.known.out_of_touch(each) or self._board.is_silent(each) for each in waits_for(run))

    async def _replace(self, run: m.Run, lost: tuple[str, ...], gone: Collection[str]) -> None:
        name = (run.namespace, run.name)
        if name in self._again:
            return
        self._again[name] = time.monotonic() + _AGAIN_SECONDS
        try:
            line = line_of_next(run, lost, gone)
            reason = await persistently(lambda: self._begin_again(run, lost, line))
        except ProblemError as error:
            reason = "; ".join(problem.message for problem in error.problems)
        except RunError:
            return  # it has changed meanwhile, and is looked at again as it is
        except Exception as error:  # what a plan stands on may be gone; the others must not wait for this one
            _log.warning("a run can't be planned without a lost cluster", run=run.name, error=str(error))
            reason = str(error)
        if reason and set(lost) <= self._marks.overdue() and not run.stopped:
            _log.info("a drained cluster works on", run=run.name, reason=reason)
        elif reason:
            await self._happened(run, messages.Irreplaceable(reason))
        else:
            _log.warning("a run began again", run=run.name, without=list(lost))
            self._again.pop(name, None)

    async def _begin_again(self, run: m.Run, lost: tuple[str, ...], line: str) -> str:
        """Store the run's new beginning, in the line of this name; returns why that is not possible."""
        planned, digest, also = await self._plan(run, {}, lost=lost, revision=run.plan_revision + 1)
        absent = {cluster for cluster in planned.fragments if self._agents.known.out_of_touch(cluster)}
        if why := objection(lost, planned.fragments, absent):
            return why
        fragments = tuple(planned.fragments.values())
        table = self._sign(run.namespace, line, planned.plan.revision, fragments[0].epochs)
        for fragment in fragments:
            fragment.run = line
            fragment.table.CopyFrom(table)
        event = messages.Replaced(lost, planned.plan.revision, digest, fragments, time.time())

        async def same(_: m.Run) -> messages.Event:
            return event

        await self._runs.happen(run.namespace, run.name, same, also)
        return ""

    async def _happened(self, run: m.Run, event: messages.Event) -> None:
        try:
            await self._runs.happened(run.namespace, run.name, event)
        except (RunError, EtcdError, StoreError) as error:
            _log.info("a run was not changed", run=run.name, error=str(error))
