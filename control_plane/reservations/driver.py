"""Drives the queue: feeds it with runs and with the agents' words, plans the runs that it wants tried.

board ─ runs as they change ─┐
intake ─ roomier clusters ───┼▶ queue ─▶ Try: plan, store the attempt ─▶ feed ─▶ agents ─▶ intake: their answers
timer ───────────────────────┘      └──▶ GiveUp: store that the attempt is over
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from bdw_fed.v1 import model_pb2 as m
from control_plane.patience import persistently
from control_plane.reservations import core
from control_plane.runs import messages
from control_plane.runs.driver import Runs
from control_plane.runs.errors import Refused, RunError
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError
from control_plane.store.transaction import Operation
from wire.errors import ProblemError

if TYPE_CHECKING:
    from control_plane.planner.core import Planned

    Planner = Callable[[m.Run, Mapping[str, str]], Awaitable[tuple[Planned, bytes, Sequence[Operation]]]]

_log = structlog.get_logger(__name__)


class Reservations:
    """Reserves slots for queued runs. `keep` is run by the hub as long as it lives.

    `plan` makes a new plan of a run without some clusters: the plan, its digest, and the writes that store it.
    `time_to_live`: seconds that clusters hold slots for an attempt; they must answer in half of that.
    """

    def __init__(self, runs: Runs, plan: Planner, time_to_live: float) -> None:
        self._runs = runs
        self._plan = plan
        self._time_to_live = time_to_live
        self._queue = core.Queue(time_to_live / 2)
        self._queued: set[core.Name] = set()  # runs that are, or were until they began to run
        self._events: deque[core.Event] = deque()
        self._something = asyncio.Event()
        self._wake_at = float("inf")

    def run_seen(self, run: m.Run) -> None:
        """A run is like this now."""
        name = (run.namespace, run.name)
        if run.state == m.RUN_STATE_QUEUED:
            self._queued.add(name)
        elif name not in self._queued:
            return
        self._put(core.RunSeen(run))

    def run_gone(self, name: core.Name) -> None:
        """A run lives no more."""
        if name in self._queued:
            self._queued.remove(name)
            self._put(core.RunGone(name))

    def roomier(self, cluster: str) -> None:
        """There may be more room on a cluster."""
        self._put(core.Roomier(cluster))

    def _put(self, event: core.Event) -> None:
        self._events.append(event)
        self._something.set()

    async def keep(self) -> None:
        """Handle one event after the other."""
        clock = asyncio.get_running_loop().time
        while True:
            if not self._events:
                await self._wait(clock())
                if not self._events:
                    self._events.append(core.Tick())
            actions = self._queue.handle(self._events.popleft(), clock())
            self._wake_at = float("inf")
            for action in actions:
                match action:
                    case core.Try():
                        await self._try(action)
                    case core.GiveUp(name, epoch, silent):
                        await self._happened(name, messages.Unanswered(epoch, silent))
                    case core.WakeAt(at):
                        self._wake_at = at

    async def _wait(self, now: float) -> None:
        self._something.clear()
        left = self._wake_at - now
        try:
            async with asyncio.timeout(max(0.0, left) if left != float("inf") else None):
                await self._something.wait()
        except TimeoutError:
            return

    async def _try(self, order: core.Try) -> None:
        """Store an attempt, however long the store is away."""

        async def attempt() -> None:
            run = await self._runs.get(*order.name)
            if run.state != m.RUN_STATE_QUEUED or run.reservation.epoch:
                return
            planned, digest, also = await self._plan(run, order.denied)
            fragments = tuple(planned.fragments.values())
            event = messages.Reserving(
                attempt=run.reservation.attempts + 1,
                epoch=fragments[0].epoch,
                revision=planned.plan.revision,
                plan=digest,
                fragments=fragments,
                denied=dict(order.denied),
                time_to_live=self._time_to_live,
            )

            async def same(_: m.Run) -> messages.Event:
                return event

            await self._runs.happen(*order.name, same, also)

        try:
            await persistently(attempt, None)
        except Refused as error:  # another hub was first; what came of it is seen as the run changes
            _log.info("a queued run was not tried", run=order.name[1], reason=str(error))
        except RunError:
            self.run_gone(order.name)
        except ProblemError as error:
            await self._no_plan(order, "; ".join(problem.message for problem in error.problems))
        except Exception as error:  # what a plan stands on may be gone; the queue must go on for the others
            _log.warning("a queued run can't be planned", run=order.name[1], error=str(error))
            await self._no_plan(order, str(error))

    async def _no_plan(self, order: core.Try, reason: str) -> None:
        if not order.denied:
            await self._happened(order.name, messages.Unplannable(reason))
        self._put(core.NoOtherPlan(order.name))

    async def _happened(self, name: core.Name, event: messages.Event) -> None:
        try:
            await self._runs.happened(*name, event, seconds=None)
        except (RunError, EtcdError, StoreError) as error:
            _log.info("a queued run was not changed", run=name[1], error=str(error))
