"""The door for people, beside that for peers: reads of what is here, `cancel` and `cache clear`, hub or no hub.

It answers a part of the service that the hub has, so that the same client asks either. What is cancelled here is in our
log before the answer, and the hub hears of it with all else that has happened here, when it is back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.json_format import MessageToJson

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator.cache.asking import clear
from cluster_agent.coordinator.intake import Intake
from cluster_agent.coordinator.messages import DesiredChanged, RunKey
from cluster_agent.coordinator.ports import Core
from cluster_agent.events import EventBus
from cluster_agent.nodes.logs import LogReaders
from cluster_agent.people.foreign import Foreign
from cluster_agent.people.roles import Roles
from wire.identity import Role, require

_Code = grpc.StatusCode
_GOING = (m.RUN_STATE_RUNNING, m.RUN_STATE_SUSPENDED)
_ENDED = "io.bdw-fed.fragment.ended"
_DEFAULT = "default"
Context = grpc.aio.ServicerContext[Any, Any]


class PeopleDoor(Foreign):
    """See the module."""

    def __init__(self, cluster: str, core: Core, intake: Intake, bus: EventBus, logs: LogReaders, roles: Roles) -> None:
        self._cluster = cluster
        self._core = core
        self._intake = intake
        self._bus = bus
        self._logs = logs
        self._roles = roles

    async def Get(self, request: cp.GetRequest, context: Context) -> cp.GetResponse:
        """A run."""
        await self._admit("Get", request.namespace, context)
        if request.kind != "Run":
            await self._only_runs(request.kind, context)
        return cp.GetResponse(object=_shown(await self._run(request.namespace, request.name, context)))

    async def List(self, request: cp.ListRequest, context: Context) -> cp.ListResponse:
        """The runs that have, or had, a part here."""
        await self._admit("List", request.namespace, context)
        if request.kind != "Run":
            await self._only_runs(request.kind, context)
        namespace = request.namespace or _DEFAULT
        keys = [RunKey(where, run) for where, run, _, desired in self._core.inventory() if where == namespace]
        return cp.ListResponse(objects=[_shown(run) for key in keys if (run := self._found(key)) is not None])

    async def WatchRun(self, request: cp.WatchRunRequest, context: Context) -> AsyncIterator[cp.WatchRunResponse]:
        """A run now, and whenever something happens in it, until its part here has ended."""
        await self._admit("WatchRun", request.namespace, context)
        key = RunKey(request.namespace or _DEFAULT, request.run)
        subscription = self._bus.subscribe(key.namespace, key.run)
        try:
            run = await self._run(key.namespace, key.run, context)
            yield cp.WatchRunResponse(run=run)
            async for _ in subscription:
                if run.state not in _GOING:
                    return
                subscription.waiting()
                newest = self._found(key)
                if newest is None:
                    return
                if newest != run:
                    run = newest
                    yield cp.WatchRunResponse(run=run)
        finally:
            subscription.close()

    async def DescribeRun(self, request: cp.DescribeRunRequest, context: Context) -> cp.DescribeRunResponse:
        """A run, and the tasks of it here that matter most."""
        await self._admit("DescribeRun", request.namespace, context)
        run = await self._run(request.namespace, request.run, context)
        return cp.DescribeRunResponse(run=run, tasks=self._core.tasks(RunKey(run.namespace, run.name)))

    async def Logs(self, request: cp.LogsRequest, context: Context) -> AsyncIterator[cp.LogsResponse]:
        """What a run's tasks have printed here."""
        await self._admit("Logs", request.namespace, context)
        run = await self._run(request.namespace, request.run, context)
        request.namespace = run.namespace
        request.follow = request.follow and run.state in _GOING
        async with aclosing(self._logs.read(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def Events(self, request: cp.EventsRequest, context: Context) -> AsyncIterator[cp.EventsResponse]:
        """What has happened here, in a run or in the whole namespace."""
        await self._admit("Events", request.namespace, context)
        subscription = self._bus.subscribe(request.namespace or _DEFAULT, request.run)
        try:
            for event in subscription.waiting():
                yield cp.EventsResponse(event=event)
            if request.follow:
                async for event in subscription:
                    yield cp.EventsResponse(event=event)
        finally:
            subscription.close()

    async def ListCache(self, request: cp.ListCacheRequest, context: Context) -> cp.ListCacheResponse:
        """What is kept here of tasks' results."""
        await self._admit("ListCache", request.namespace, context)
        await self._only_here(request.cluster, context)
        return cp.ListCacheResponse(steps=self._core.cached(request.namespace or _DEFAULT, request.step))

    async def ClearCache(self, request: cp.ClearCacheRequest, context: Context) -> cp.ClearCacheResponse:
        """Give up results that are kept here; what is told is in the log."""
        await self._admit("ClearCache", request.namespace, context)
        await self._only_here(request.cluster, context)
        cleared = await clear(self._intake, request.namespace or _DEFAULT, request)
        return cp.ClearCacheResponse(steps=cleared.steps)

    async def CancelRun(self, request: cp.CancelRunRequest, context: Context) -> cp.CancelRunResponse:
        """Stop our part of a run for good; the others' stops as soon as the hub hears of it."""
        caller = await self._admit("CancelRun", request.namespace, context)
        run = await self._run(request.namespace, request.run, context)
        if run.state not in _GOING:
            await context.abort(
                _Code.FAILED_PRECONDITION,
                f"the part of {self._cluster} in run {run.name} has ended: there is nothing to cancel here",
            )
        key = RunKey(run.namespace, run.name)
        reason = request.reason or f"cancelled by {caller} at {self._cluster}"
        subscription = self._bus.subscribe(key.namespace, key.run)
        try:
            subscription.waiting()
            self._intake.submit(DesiredChanged(key, m.DESIRED_STATE_CANCELLED, reason))
            async for event in subscription:  # it is told after its commit
                if event.type == _ENDED:
                    break
        finally:
            subscription.close()
        return cp.CancelRunResponse(run=await self._run(key.namespace, key.run, context))

    # ------------------------------------------------------------------------------------------------------ how

    async def _admit(self, method: str, namespace: str, context: Context) -> str:
        """The caller's name, if they may make the call."""
        caller = (await require(context, Role.USER)).name
        if why := self._roles.objection(caller, method, namespace or _DEFAULT):
            await context.abort(_Code.PERMISSION_DENIED, why)
        return caller

    def _found(self, key: RunKey) -> m.Run | None:
        try:
            return self._core.run(key)
        except KeyError:
            return None

    async def _run(self, namespace: str, name: str, context: Context) -> m.Run:
        run = self._found(RunKey(namespace or _DEFAULT, name))
        if run is None:
            await context.abort(
                _Code.NOT_FOUND, f"run {name} has no part on {self._cluster} in namespace {namespace or _DEFAULT}"
            )
        return run

    async def _only_here(self, cluster: str, context: Context) -> None:
        if cluster not in ("", self._cluster):
            await context.abort(_Code.FAILED_PRECONDITION, f"this is the agent of {self._cluster}, not of {cluster}")

    async def _only_runs(self, kind: str, context: Context) -> NoReturn:
        await context.abort(_Code.UNIMPLEMENTED, f"an agent knows runs, and no {kind or 'such things'}: ask the hub")


def _shown(run: m.Run) -> cp.Object:
    """A run in the form of an object, as the hub shows it."""
    spec = MessageToJson(run, preserving_proto_field_name=True, indent=None)
    return cp.Object(namespace=run.namespace, kind="Run", name=run.name, revision=run.plan_revision, spec_json=spec)
