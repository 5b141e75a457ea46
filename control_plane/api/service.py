"""The people's gRPC service: each call finds its way to what does the work. The gate has let the caller in."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceServicer
from control_plane.access.caller import CALLER, Caller
from control_plane.access.users import Users
from control_plane.api.calls import answers, streams
from control_plane.api.clusters import Clusters
from control_plane.api.details import Details
from control_plane.api.errors import EXPECTED, Wrong, abort
from control_plane.api.objects import Objects, shown_run
from control_plane.api.planning import Planning
from control_plane.api.showing import ShownRuns
from control_plane.api.submitting import Submissions
from control_plane.blobs.base import BlobStore
from control_plane.federation.agents import Agents
from control_plane.hubs.audits import Audits
from control_plane.membership.joining import Joining
from control_plane.runs import lines, messages
from control_plane.runs.board import Board
from control_plane.runs.driver import Runs
from control_plane.runs.expiry import delete_run
from wire import epochs, permits
from wire.identity import Credentials

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]


class ControlPlaneService(ControlPlaneServiceServicer):
    """Objects, blobs, runs and the clusters' status."""

    def __init__(
        self,
        *,
        version: str,
        objects: Objects,
        submissions: Submissions,
        planning: Planning,
        runs: Runs,
        board: Board,
        agents: Agents,
        clusters: Clusters,
        blobs: BlobStore,
        users: Users,
        joining: Joining,
        audits: Audits,
        credentials: Credentials,
    ) -> None:
        self._version = version
        self._objects = objects
        self._submissions = submissions
        self._planning = planning
        self._runs = runs
        self._board = board
        self._agents = agents
        self._clusters = clusters
        self._details = Details(agents)
        self._shown = ShownRuns(runs, board, agents)
        self._blobs = blobs
        self._users = users
        self._joining = joining
        self._audits = audits
        self._credentials = credentials

    # ------------------------------------------------------------------------------------- objects

    @answers
    async def Apply(self, request: cp.ApplyRequest, caller: Caller) -> cp.ApplyResponse:
        """Store documents."""
        return cp.ApplyResponse(applied=await self._objects.apply(request, caller.name, self._board.live()))

    @answers
    async def Diff(self, request: cp.DiffRequest, _: Caller) -> cp.DiffResponse:
        """Say what applying documents would change."""
        return cp.DiffResponse(entries=await self._objects.diff(request))

    @answers
    async def Get(self, request: cp.GetRequest, _: Caller) -> cp.GetResponse:
        """One object."""
        if request.kind == "Run":
            return cp.GetResponse(object=shown_run(await self._shown.get(request.namespace, request.name)))
        found = await self._objects.get(request.namespace, request.kind, request.name, request.revision)
        return cp.GetResponse(object=found)

    @answers
    async def List(self, request: cp.ListRequest, _: Caller) -> cp.ListResponse:
        """Objects of a kind."""
        return await self._objects.page(request)

    @streams
    async def Watch(self, request: cp.WatchRequest, _: Caller) -> AsyncGenerator[cp.WatchResponse]:
        """What happens to objects."""
        async for change in self._objects.watch(request):
            yield change

    @answers
    async def Delete(self, request: cp.DeleteRequest, _: Caller) -> cp.DeleteResponse:
        """Delete an object that nothing needs."""
        if request.kind == "Run":
            await delete_run(self._runs, self._blobs, request.namespace or "default", request.name)
        elif request.kind == "Agent":
            await self._agents.forget(request.name)
        else:
            await self._objects.delete(request, self._board.live())
        return cp.DeleteResponse()

    # ------------------------------------------------------------------------------------- blobs

    async def PutBlob(self, request_iterator: AsyncIterator[cp.PutBlobRequest], context: Context) -> cp.PutBlobResponse:
        """Take a blob in pieces."""
        CALLER.get()
        try:
            first = await anext(aiter(request_iterator))

            async def chunks() -> AsyncIterator[bytes]:
                yield first.chunk
                async for more in request_iterator:
                    yield more.chunk

            return cp.PutBlobResponse(digest=first.digest, size=await self._blobs.put(first.digest, chunks()))
        except ValueError as error:
            await abort(context, Wrong(str(error)))
        except EXPECTED as error:
            await abort(context, error)

    @answers
    async def HasBlobs(self, request: cp.HasBlobsRequest, _: Caller) -> cp.HasBlobsResponse:
        """Which of these blobs are missing."""
        missing = [digest for digest in request.digests if not await self._blobs.touch(digest)]
        return cp.HasBlobsResponse(missing=missing)

    @streams
    async def GetBlob(self, request: cp.GetBlobRequest, _: Caller) -> AsyncGenerator[cp.GetBlobResponse]:
        """A blob in pieces."""
        try:
            async with self._blobs.get(request.digest) as chunks:
                async for chunk in chunks:
                    yield cp.GetBlobResponse(chunk=chunk)
        except ValueError as error:
            raise Wrong(str(error)) from error

    # ------------------------------------------------------------------------------------- runs

    @answers
    async def Submit(self, request: cp.SubmitRequest, caller: Caller) -> cp.SubmitResponse:
        """Plan a workflow, and unless it is a dry run begin it."""
        return await self._submissions.submit(request, caller.name)

    @streams
    async def WatchRun(self, request: cp.WatchRunRequest, _: Caller) -> AsyncGenerator[cp.WatchRunResponse]:
        """A run now, and whenever it changes, until it has ended."""
        async with aclosing(self._shown.watch(request.namespace, request.run)) as runs:
            async for run in runs:
                yield cp.WatchRunResponse(run=run)

    @answers
    async def CancelRun(self, request: cp.CancelRunRequest, caller: Caller) -> cp.CancelRunResponse:
        """Stop a run for good."""
        reason = request.reason or f"cancelled by {caller.name}"
        event = messages.CancelRequested(reason, time.time())
        return cp.CancelRunResponse(run=await self._happened(request.namespace, request.run, event))

    @answers
    async def RetryRun(self, request: cp.RetryRunRequest, _: Caller) -> cp.RetryRunResponse:
        """Try a run again that has failed or was cancelled."""
        run = await self._submissions.retry(
            request.namespace or "default", request.run, partial(epochs.issue, self._credentials)
        )
        return cp.RetryRunResponse(run=self._board.shown(run))

    @answers
    async def SuspendRun(self, request: cp.SuspendRunRequest, _: Caller) -> cp.SuspendRunResponse:
        """Start no further task of a run."""
        run = await self._happened(request.namespace, request.run, messages.SuspendRequested())
        return cp.SuspendRunResponse(run=run)

    @answers
    async def ResumeRun(self, request: cp.ResumeRunRequest, _: Caller) -> cp.ResumeRunResponse:
        """Let a suspended run go on."""
        run = await self._happened(request.namespace, request.run, messages.ResumeRequested())
        return cp.ResumeRunResponse(run=run)

    @answers
    async def Explain(self, request: cp.ExplainRequest, _: Caller) -> cp.ExplainResponse:
        """The plan that a run was made with, or that a workflow would have now."""
        if bool(request.run) == bool(request.workflow):
            raise Wrong("what is to be explained is either a run or a workflow")
        if request.run:
            run = await self._shown.get(request.namespace, request.run)
            return cp.ExplainResponse(plan=await self._planning.of(run))
        plan = await self._planning.now(request.namespace, request.workflow, request.parameters_json)
        return cp.ExplainResponse(plan=plan)

    @streams
    async def Logs(self, request: cp.LogsRequest, _: Caller) -> AsyncGenerator[cp.LogsResponse]:
        """What a run's tasks have printed."""
        run = await self._shown.get(request.namespace, request.run)
        request.namespace = run.namespace
        async for piece in self._details.logs(run, request):
            yield piece

    @streams
    async def Events(self, request: cp.EventsRequest, _: Caller) -> AsyncGenerator[cp.EventsResponse]:
        """What has happened in a run, or in the whole namespace."""
        request.namespace = request.namespace or "default"
        if request.run:
            clusters = lines.clusters(await self._shown.get(request.namespace, request.run))
        else:
            clusters = self._agents.connected_anywhere()
        async for event in self._details.events(clusters, request):
            yield event

    @answers
    async def DescribeRun(self, request: cp.DescribeRunRequest, _: Caller) -> cp.DescribeRunResponse:
        """A run with its plan, and the tasks that matter most just now."""
        run = await self._shown.get(request.namespace, request.run)
        tasks, unreachable = await self._details.tasks(run)
        plan = await self._planning.of(run) if run.plan else None
        return cp.DescribeRunResponse(run=run, plan=plan, tasks=tasks, unreachable=unreachable)

    @answers
    async def Outputs(self, request: cp.OutputsRequest, caller: Caller) -> cp.OutputsResponse:
        """A run's results, where their bytes lie, and what to show there."""
        run = await self._shown.get(request.namespace, request.run)
        outputs = await self._shown.outputs(run)
        permit = permits.issue(self._credentials, caller.name, run.namespace, run.name, now=time.time())
        return cp.OutputsResponse(outputs=outputs, permit=permit)

    # ------------------------------------------------------------------------------------- caches

    @answers
    async def ListCache(self, request: cp.ListCacheRequest, _: Caller) -> cp.ListCacheResponse:
        """What clusters keep of tasks' results."""
        query = f.Query(namespace=request.namespace or "default", list_cache=request)
        steps, unreachable = await self._details.cached(self._clusters.with_caches(request.cluster), query)
        return cp.ListCacheResponse(steps=steps, unreachable=unreachable)

    @answers
    async def ClearCache(self, request: cp.ClearCacheRequest, _: Caller) -> cp.ClearCacheResponse:
        """Have results given up that clusters keep."""
        query = f.Query(namespace=request.namespace or "default", clear_cache=request)
        steps, unreachable = await self._details.cached(self._clusters.with_caches(request.cluster), query)
        return cp.ClearCacheResponse(steps=steps, unreachable=unreachable)

    # ------------------------------------------------------------------------------------- clusters

    @answers
    async def Status(self, request: cp.StatusRequest, _: Caller) -> cp.StatusResponse:
        """The hub, and all clusters that are declared or were seen."""
        clusters = self._clusters.all(request.namespace)
        return cp.StatusResponse(version=self._version, clusters=clusters, pid=os.getpid())

    @answers
    async def MarkCluster(self, request: cp.MarkClusterRequest, caller: Caller) -> cp.MarkClusterResponse:
        """Put taints on a cluster, or take them from it; which runs still have a part there."""
        return await self._clusters.mark(request, caller.name)

    # ------------------------------------------------------------------------------------- users

    @answers
    async def GrantRole(self, request: cp.GrantRoleRequest, caller: Caller) -> cp.GrantRoleResponse:
        """Give somebody a role."""
        if not request.role:
            raise Wrong("which role is to be granted must be said")
        granted = await self._users.grant(request.subject, request.namespace, request.role, caller.name)
        return cp.GrantRoleResponse(binding=granted)

    @answers
    async def RevokeRole(self, request: cp.RevokeRoleRequest, _: Caller) -> cp.RevokeRoleResponse:
        """Take somebody's role away."""
        await self._users.revoke(request.subject, request.namespace)
        return cp.RevokeRoleResponse()

    @answers
    async def ListRoles(self, request: cp.ListRolesRequest, _: Caller) -> cp.ListRolesResponse:
        """Who has which role."""
        return cp.ListRolesResponse(bindings=self._users.bindings(request.namespace))

    @answers
    async def RenewCertificate(
        self, request: pb.RenewCertificateRequest, caller: Caller
    ) -> pb.RenewCertificateResponse:
        """The caller's own next certificate."""
        return self._joining.renew(caller, request)

    @answers
    async def ReadAudit(self, request: cp.ReadAuditRequest, _: Caller) -> cp.ReadAuditResponse:
        """Who wanted to change what, by all hubs' audit logs."""
        return await self._audits.read(request)

    # ------------------------------------------------------------------------------------- members

    @answers
    async def CreateToken(self, request: pb.CreateTokenRequest, caller: Caller) -> pb.CreateTokenResponse:
        """A token with which a cluster can join."""
        return await self._joining.create(request, caller.name)

    @answers
    async def ListTokens(self, _request: pb.ListTokensRequest, _: Caller) -> pb.ListTokensResponse:
        """All tokens, without their secrets."""
        return pb.ListTokensResponse(tokens=await self._joining.all())

    @answers
    async def DeleteToken(self, request: pb.DeleteTokenRequest, _: Caller) -> pb.DeleteTokenResponse:
        """Nobody joins with this token any more."""
        await self._joining.delete(request.id)
        return pb.DeleteTokenResponse()

    @answers
    async def AcceptCluster(self, request: pb.AcceptClusterRequest, caller: Caller) -> pb.AcceptClusterResponse:
        """Let in a cluster whose token asks for that."""
        token = await self._joining.accept(request.cluster, request.key, caller.name)
        return pb.AcceptClusterResponse(token=token)

    @answers
    async def RevokeCluster(self, request: pb.RevokeClusterRequest, caller: Caller) -> pb.RevokeClusterResponse:
        """Cut a cluster off, with its nodes and tokens."""
        return pb.RevokeClusterResponse(generation=await self._clusters.revoke(request.cluster, caller.name))

    @answers
    async def RevokeNode(self, request: pb.RevokeNodeRequest, caller: Caller) -> pb.RevokeNodeResponse:
        """Cut one node off."""
        generation, is_known = await self._clusters.revoke_node(request.cluster, request.node, caller.name)
        return pb.RevokeNodeResponse(generation=generation, is_known=is_known)

    async def _happened(self, namespace: str, name: str, event: messages.Event) -> m.Run:
        return self._board.shown(await self._runs.happened(namespace or "default", name, event))
