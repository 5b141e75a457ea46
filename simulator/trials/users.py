"""The people of a trial: who submits runs and changes his mind, and the operators who mark, revoke and clean up.

They call hubs as a client does: whichever answers, again and again until one has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from control_plane.federation.marks import CORDONED, DRAINING
from control_plane.runs import forms, messages
from control_plane.runs.errors import RunError
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError
from simulator.trials.faults import Fault
from simulator.trials.hub import SimulatedHub
from simulator.trials.loop import Process
from simulator.trials.scenario import Submission
from wire.errors import ProblemError

if TYPE_CHECKING:
    from simulator.trials.world import World

NAMESPACE = "default"
_PATIENCE_SECONDS = 20.0  # for one answer
_AGAIN_SECONDS = 0.5
_REFUSED_SECONDS = 60.0  # after the last fault, within which all clusters are there again
_CLEAN_UP_SECONDS = 60.0
_TAINT = "trouble"


class Users:
    """All of them, as one process."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._calls = 0
        self.refused: dict[str, str] = {}  # runs that can't be submitted, and why
        for submission in world.scenario.submissions:
            process.run_part(self._submitter(submission))

    async def _submitter(self, submission: Submission) -> None:
        """One person, who does one thing after the other."""
        await asyncio.sleep(submission.at)
        await self._submit(submission.run, submission.workflow)
        for action, at in submission.then:
            await asyncio.sleep(max(0.0, at - self._world.loop.time()))
            await self._act(action, submission.run)

    async def _submit(self, run: str, workflow: str) -> None:
        request = cp.SubmitRequest(namespace=NAMESPACE, workflow=workflow, run=run, idempotency_key=run)

        async def attempt(hub: SimulatedHub) -> None:
            await hub.hub._submissions.submit(request, "user")

        while True:
            try:
                await self._persistently(attempt)
            except ProblemError as error:
                if self._world.scenario.revoked:
                    self.refused[run] = str(error)
                    return
                if self._world.loop.time() > self._world.scenario.quiet_from + _REFUSED_SECONDS:
                    self._world.failed.append(f"{run} was refused: {error}")
                    return
                await asyncio.sleep(_AGAIN_SECONDS)  # a cluster that it needs is cordoned, or out of touch
            else:
                return

    async def _act(self, action: str, run: str) -> None:
        def event() -> messages.Event:
            match action:
                case "cancel":
                    return messages.CancelRequested("cancelled by the user", time.time())
                case "suspend":
                    return messages.SuspendRequested()
                case "resume":
                    return messages.ResumeRequested()
            raise AssertionError(action)

        await self._persistently(lambda hub: hub.hub._runs.happened(NAMESPACE, run, event()))

    # ------------------------------------------------------------------------------------------------ operators

    def mark(self, fault: Fault) -> None:
        """Cordon, drain or taint a cluster for a while."""
        self._process.run_part(self._marker(fault))

    def revoke(self, cluster: str) -> None:
        """Cut a cluster off, for good; and cancel what then waits for it."""
        self._process.run_part(self._revoker(cluster))

    async def _marker(self, fault: Fault) -> None:
        cluster = fault.on.partition("/")[2]
        put, empty_by = [], 0.0
        match fault.kind:
            case "cordon":
                put = [cp.ClusterTaint(key=CORDONED, effect="NoSchedule")]
            case "drain":
                put = [
                    cp.ClusterTaint(key=CORDONED, effect="NoSchedule"),
                    cp.ClusterTaint(key=DRAINING, effect="NoExecute"),
                ]
                empty_by = time.time() + fault.amount if fault.amount else 0.0
            case "taint":
                put = [cp.ClusterTaint(key=_TAINT, effect=fault.how)]
        began = self._world.loop.time()
        await self._mark(cp.MarkClusterRequest(cluster=cluster, put=put, empty_by=empty_by))
        await asyncio.sleep(max(0.0, began + fault.seconds - self._world.loop.time()))
        await self._mark(cp.MarkClusterRequest(cluster=cluster, take=[each.key for each in put]))

    async def _mark(self, request: cp.MarkClusterRequest) -> None:
        clusters = list(self._world.scenario.clusters)
        await self._persistently(lambda hub: hub.hub._marks.mark(request, "operator", clusters))

    async def _revoker(self, cluster: str) -> None:
        await self._persistently(lambda hub: hub.hub._members.revoke(cluster, "operator"))
        self._world.ledger.revoked(cluster)
        while True:
            await asyncio.sleep(_CLEAN_UP_SECONDS)
            for run in self._world.runs().values():
                if run.state not in forms.ENDED and self._waits_for(run, cluster):
                    await self._act("cancel", run.name)

    @staticmethod
    def _waits_for(run: m.Run, cluster: str) -> bool:
        if run.state == m.RUN_STATE_QUEUED or cluster in run.stopped:
            return True
        return bool(forms.absence(run, [cluster] if cluster in run.fragments else []))

    # ------------------------------------------------------------------------------------------------ calls

    async def _persistently(self, attempt: Callable[[SimulatedHub], Coroutine[Any, Any, object]]) -> None:
        """As a client that repeats its call until a hub has answered."""
        names = self._world.scenario.hub_names
        while True:
            self._calls += 1
            name = names[self._calls % len(names)]
            hub, process = self._world.hubs.get(name), self._world.processes[name]
            if hub is not None and hub.ready and process.alive:
                answered = asyncio.Event()
                calling = asyncio.ensure_future(self._call(attempt(hub), answered))
                process.owns(calling)
                with_answer = asyncio.ensure_future(answered.wait())
                await asyncio.wait(
                    [calling, with_answer], timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                with_answer.cancel()
                calling.cancel()
                if answered.is_set():
                    return
                if calling.done() and not calling.cancelled() and (error := calling.exception()) is not None:
                    raise error
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _call(self, work: Coroutine[Any, Any, object], answered: asyncio.Event) -> None:
        try:
            await work
        except (EtcdError, StoreError):
            return
        except RunError:
            pass  # it says no, and that is an answer
        answered.set()
