"""A stand-in for the hub: the real service over mutual TLS, with answers that are written here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as pb
from bdw_fed.v1 import control_plane_pb2_grpc as services
from bdw_fed.v1 import membership_pb2 as membership
from bdw_fed.v1 import model_pb2 as model
from wire.digests import bytes_digest
from wire.errors import problems_to_metadata
from wire.identity import Identity, Role, grpc_server_credentials, server_options
from wire.identity.authority import Authority

SUBMITTED = 1_700_000_000.0
RUN = "delays-x7k2p"


def a_run(state: int = model.RUN_STATE_SUCCEEDED, done: int = 12) -> model.Run:
    """A run over two clusters."""
    ended = state in (model.RUN_STATE_SUCCEEDED, model.RUN_STATE_FAILED, model.RUN_STATE_CANCELLED)
    edge = model.FragmentStatus(
        run=RUN,
        cluster="edge-jfk",
        state=model.FRAGMENT_STATE_RUNNING,
        steps=[
            model.StepProgress(step="inputs.flights", done=1, closed=True),
            model.StepProgress(
                step="clean",
                waiting=0 if ended else 3,
                running=0 if ended else 2,
                done=done,
                closed=ended,
                busy_seconds=6.5,
                bytes_out=3 << 20,
                workers=2,
            ),
        ],
    )
    cloud = model.FragmentStatus(
        run=RUN,
        cluster="cloud",
        steps=[model.StepProgress(step="merge", done=1 if ended else 0, closed=ended, busy_seconds=0.2)],
        traffic=[model.LinkTraffic(from_cluster="edge-jfk", to_cluster="cloud", units=12, bytes=4096, seconds=0.3)],
    )
    if state == model.RUN_STATE_FAILED:
        edge.failures.append(
            model.Failure(
                step="clean",
                task=bytes(16),
                cluster="edge-jfk",
                node="n1",
                attempt=3,
                kind="exception",
                message="KeyError: 'dep_delay'",
                detail="Traceback (most recent call last):\n  File clean.py, line 12\nKeyError: 'dep_delay'\n",
            )
        )
    run = model.Run(
        namespace="default",
        name=RUN,
        workflow="delays",
        workflow_revision=2,
        parameters_json='{"late_minutes": 15}',
        state=state,  # type: ignore[arg-type]
        submitted_at=SUBMITTED,
        started_at=SUBMITTED + 1,
        ended_at=SUBMITTED + 61 if ended else 0,
        submitted_by="user local",
        fragments={"edge-jfk": edge, "cloud": cloud},
    )
    if state == model.RUN_STATE_FAILED:
        for fragment, stored in ((edge, 7 << 20), (cloud, 0)):
            run.fragments[fragment.cluster].quota, run.fragments[fragment.cluster].stored = 10 << 20, stored
        run.message = "step clean failed on edge-jfk after 3 attempts: KeyError: 'dep_delay'"
    if state == model.RUN_STATE_SUCCEEDED:
        unit = model.Unit(id=b"u" * 16, digest=bytes_digest(b"a,b\n1,2\n"), size=8, name="table.csv")
        run.outputs.append(
            model.RunOutput(name="report", file="report.csv", unit=unit, cluster="cloud", node="n1", retain=30 * 86400)
        )
    return run


def a_reserving_run(state: int) -> model.Run:
    """A run that holds slots, or waits for them."""
    run = a_run(state, 3)
    run.name = "queued" if state == model.RUN_STATE_QUEUED else "holding"
    run.reservation.mode = "lend"
    run.reservation.clusters.extend(["cloud", "edge-jfk"])
    if state == model.RUN_STATE_QUEUED:
        reason = "edge-jfk lacks slots for 1 of clean: run holding holds 3 of clean"
        run.message = f"waits for slots: {reason}"
        run.reservation.denied["edge-jfk"] = reason
        run.reservation.attempts = 2
        run.fragments.clear()
        run.started_at = 0
    else:
        progress = run.fragments["edge-jfk"].steps[1]
        progress.held, progress.used, progress.lent = 3, 2, 1
    return run


def a_plan() -> model.Plan:
    """A plan with everything that a plan can say."""
    return model.Plan(
        workflow="delays",
        run=RUN,
        revision=1,
        expected_seconds=42.5,
        expected_cost=0.0009,
        steps=[
            model.StepPlan(
                step="clean",
                shares=[model.Share(cluster="edge-jfk", share=0.6), model.Share(cluster="edge-lga", share=0.4)],
                filtered=[
                    model.FilterVerdict(clusters=["cloud"], filter="tier", reason="tier is cloud, the step wants edge")
                ],
                scores=[
                    model.Score(cluster="edge-jfk", name="transfer", value=100, weight=2, reason="its input lies there")
                ],
                expected_units=12,
                expected_bytes_in=12 << 20,
                expected_seconds=30.0,
                counter="edge-jfk",
            ),
            model.StepPlan(
                step="merge",
                shares=[model.Share(cluster="cloud", share=1)],
                expected_units=1,
                expected_bytes_in=4096,
                expected_seconds=1.0,
                counter="cloud",
            ),
        ],
        transfers=[
            model.PlannedTransfer(
                from_cluster="edge-jfk", to_cluster="cloud", edge="merge.parts", bytes=4096, seconds=0.1, cost=0.0
            )
        ],
        alternatives=[
            model.Alternative(
                name="ship all raw data to cloud",
                bytes=33 << 20,
                seconds=60,
                cost=0.003,
                transfers=[
                    model.PlannedTransfer(from_cluster="edge-jfk", to_cluster="cloud", edge="x", bytes=33 << 20)
                ],
            )
        ],
        warnings=["step merge can run on one cluster only"],
    )


TOKENS = [
    membership.Token(
        id="0f3c9a51d2",
        cluster="edge-jfk",
        state="unused",
        created_at=1_699_999_800.0,
        created_by="ada",
        expires_at=1_700_003_400.0,
    ),
    membership.Token(
        id="77aa10c4e9",
        cluster="edge-lga",
        state="waiting",
        created_at=1_699_999_000.0,
        created_by="ada",
        expires_at=1_700_000_000.0,
        needs_acceptance=True,
        key="sha256:aa11",
        presented_at=1_699_999_100.0,
        presented_from="ipv4:192.0.2.7:41000",
    ),
]


class FakeHub(services.ControlPlaneServiceServicer):
    """Serves at `address`; `user` holds credentials for it. What it was asked is in `asked`."""

    def __init__(self, directory: Path) -> None:
        authority = Authority.create(directory / "ca")
        self.credentials = authority.issue(Identity(Role.HUB, "hub"), directory / "hub")
        self.user = directory / "user"
        self.authority = authority
        authority.issue(Identity(Role.USER, "local"), self.user)
        self.address = ""
        self.reset()
        self.start()

    def reset(self) -> None:
        """Forget what was asked, and answer as at first."""
        self.asked: list[Any] = []
        self.blobs: dict[bytes, bytes] = {}
        self.states = [a_run(model.RUN_STATE_RUNNING, 4), a_run(model.RUN_STATE_SUCCEEDED)]
        self.located: list[pb.OutputsResponse.Located] = []
        self.warnings: list[pb.Problem] = []
        self.watchers = 0
        self.break_watch_after = 0
        self.stalled = threading.Event()

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = grpc.server(ThreadPoolExecutor(4), options=server_options())
        services.add_ControlPlaneServiceServicer_to_server(self, self._server)
        port = self._server.add_secure_port(self.address or "127.0.0.1:0", grpc_server_credentials(self.credentials))
        self._server.start()
        self.address = f"127.0.0.1:{port}"

    def stop(self) -> None:
        """Hang up."""
        self.stalled.set()
        self._server.stop(None).wait()

    def __enter__(self) -> FakeHub:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # The service.

    def Apply(self, request: pb.ApplyRequest, context: Any) -> pb.ApplyResponse:
        self.asked.append(request)
        wrong = [document for document in request.documents if "frobnicate" in document.yaml]
        if wrong:
            problems = [
                pb.Problem(
                    file=document.file,
                    line=document.line + 2,
                    field="spec.steps[0].use",
                    message="there is no step frobnicate@1",
                    remedy="apply it first, or use one of: clean-flights@1",
                )
                for document in wrong
            ]
            context.set_trailing_metadata(problems_to_metadata(problems))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the workflow is not valid")
        applied = [
            pb.Applied(object=pb.Object(kind="Workflow", name=f"w{number}", revision=1), change=pb.CHANGE_CREATED)
            for number, _ in enumerate(request.documents)
        ]
        for each in applied:
            each.warnings.extend(self.warnings)
        return pb.ApplyResponse(applied=applied)

    def CreateToken(self, request: membership.CreateTokenRequest, context: Any) -> membership.CreateTokenResponse:
        self.asked.append(request)
        return membership.CreateTokenResponse(
            token="0f3c9a51d2.secret", authority_hash="sha256:5d0c", join_address=":7442", info=TOKENS[0]
        )

    def ListTokens(self, request: membership.ListTokensRequest, context: Any) -> membership.ListTokensResponse:
        return membership.ListTokensResponse(tokens=TOKENS)

    def DeleteToken(self, request: membership.DeleteTokenRequest, context: Any) -> membership.DeleteTokenResponse:
        self.asked.append(request)
        if request.id != TOKENS[0].id:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no token {request.id}")
        return membership.DeleteTokenResponse()

    def AcceptCluster(self, request: membership.AcceptClusterRequest, context: Any) -> membership.AcceptClusterResponse:
        self.asked.append(request)
        if request.cluster != TOKENS[1].cluster:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"nobody waits to be accepted as {request.cluster}")
        return membership.AcceptClusterResponse(token=TOKENS[1])

    def RevokeCluster(self, request: membership.RevokeClusterRequest, context: Any) -> membership.RevokeClusterResponse:
        self.asked.append(request)
        return membership.RevokeClusterResponse(generation=1)

    def RevokeNode(self, request: membership.RevokeNodeRequest, context: Any) -> membership.RevokeNodeResponse:
        self.asked.append(request)
        return membership.RevokeNodeResponse(generation=1, is_known=request.node == "n1")

    def Diff(self, request: pb.DiffRequest, context: Any) -> pb.DiffResponse:
        unified = "--- stored\n+++ applied\n@@ -1 +1 @@\n-a: 1\n+a: 2\n"
        change = pb.CHANGE_CONFIGURED if "changed" in request.documents[0].yaml else pb.CHANGE_UNCHANGED
        return pb.DiffResponse(
            entries=[pb.DiffResponse.Entry(kind="Workflow", name="delays", change=change, unified=unified)]
        )

    def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:
        if request.name == "nothing":
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no workflow nothing")
        if request.name == "busy":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it is in use")
        return pb.GetResponse(object=self._objects(request.kind)[0])

    def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        self.asked.append(request)
        objects = self._objects(request.kind)
        start = int(request.page_token or 0)
        end = start + min(request.limit, 2)
        page = objects[start:end]
        token = str(end) if end < len(objects) else ""
        return pb.ListResponse(objects=page, next_page_token=token)

    def _objects(self, kind: str) -> list[pb.Object]:
        if kind == "Run":
            from google.protobuf.json_format import MessageToJson

            runs = [a_run(), a_run(model.RUN_STATE_RUNNING, 4), a_run(model.RUN_STATE_FAILED, 3)]
            for number, run in enumerate(runs):
                run.name = f"delays-{number}"
                run.submitted_at -= number * 3600
            return [pb.Object(kind="Run", name=run.name, spec_json=MessageToJson(run)) for run in runs]
        if kind == "Quota":
            return [
                pb.Object(
                    namespace="default",
                    kind=kind,
                    name=name,
                    revision=1,
                    spec_json=json.dumps({"kind": "Quota", "metadata": {"name": name}, "spec": spec}),
                    applied_at=SUBMITTED,
                    applied_by="user operator",
                )
                for name, spec in (("both", {"runs": 20, "storage": "10Gi"}), ("few", {"runs": 5}))
            ]
        return [
            pb.Object(
                namespace="default",
                kind=kind,
                name=name,
                revision=revision,
                digest=bytes_digest(name.encode()),
                spec_json='{"kind": "Workflow", "metadata": {"name": "delays"}}',
                applied_at=SUBMITTED,
                applied_by="user local",
            )
            for name, revision in (("counts", 1), ("delays", 3), ("other", 2))
        ]

    def Watch(self, request: pb.WatchRequest, context: Any) -> Iterator[pb.WatchResponse]:
        yield pb.WatchResponse(object=self._objects(request.kind)[0], deleted=True)

    def Delete(self, request: pb.DeleteRequest, context: Any) -> pb.DeleteResponse:
        if request.name == "busy":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "run busy has not ended")
        self.asked.append(request)
        return pb.DeleteResponse()

    def HasBlobs(self, request: pb.HasBlobsRequest, context: Any) -> pb.HasBlobsResponse:
        return pb.HasBlobsResponse(missing=[digest for digest in request.digests if digest not in self.blobs])

    def PutBlob(self, requests: Iterator[pb.PutBlobRequest], context: Any) -> pb.PutBlobResponse:
        first = next(requests)
        content = first.chunk + b"".join(request.chunk for request in requests)
        if bytes_digest(content) != first.digest:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the digest is another one")
        self.blobs[first.digest] = content
        return pb.PutBlobResponse(digest=first.digest, size=len(content))

    def Submit(self, request: pb.SubmitRequest, context: Any) -> pb.SubmitResponse:
        self.asked.append(request)
        if request.workflow == "nothing":
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no workflow nothing")
        return pb.SubmitResponse(run=a_run(model.RUN_STATE_PENDING, 0), plan=a_plan())

    def WatchRun(self, request: pb.WatchRunRequest, context: Any) -> Iterator[pb.WatchRunResponse]:
        if request.run == "nothing":
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no run nothing")
        self.watchers += 1
        if request.run == "endless":
            yield pb.WatchRunResponse(run=self.states[0])
            self.stalled.wait(30)
            return
        for number, state in enumerate(self.states):
            if self.watchers == 1 and 0 < self.break_watch_after <= number:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the hub is going away")
            yield pb.WatchRunResponse(run=state)

    def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.CancelRunResponse:
        self.asked.append(request)
        return pb.CancelRunResponse(run=a_run(model.RUN_STATE_STOPPING))

    def RetryRun(self, request: pb.RetryRunRequest, context: Any) -> pb.RetryRunResponse:
        return pb.RetryRunResponse(run=a_run(model.RUN_STATE_RUNNING))

    def SuspendRun(self, request: pb.SuspendRunRequest, context: Any) -> pb.SuspendRunResponse:
        return pb.SuspendRunResponse(run=a_run(model.RUN_STATE_SUSPENDED))

    def ResumeRun(self, request: pb.ResumeRunRequest, context: Any) -> pb.ResumeRunResponse:
        return pb.ResumeRunResponse(run=a_run(model.RUN_STATE_RUNNING))

    def MarkCluster(self, request: pb.MarkClusterRequest, context: Any) -> pb.MarkClusterResponse:
        self.asked.append(request)
        if request.cluster == "nowhere":
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no cluster nowhere; known are: cloud, edge-jfk")
        marks = pb.ClusterMarks(cluster=request.cluster, taints=request.put)
        return pb.MarkClusterResponse(marks=marks, runs=["default/delays-x7k2p"])

    def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        self.asked.append(request)
        if request.run and request.run not in (RUN, "endless"):
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no run {request.run}")
        if request.workflow == "nothing":
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no workflow nothing")
        plan = a_plan()
        if request.workflow:
            plan.run = ""
        if request.workflow == "reserving":
            plan.steps[0].shares[0].slots = 3
            plan.steps[0].shares[1].slots = 1
        return pb.ExplainResponse(plan=plan)

    def Logs(self, request: pb.LogsRequest, context: Any) -> Iterator[pb.LogsResponse]:
        self.asked.append(request)
        where = {"cluster": "edge-jfk", "node": "n1", "step": "clean", "task": b"\x5f" * 16, "attempt": 1}
        yield pb.LogsResponse(**where, stream="stdout", data=b"cleaning\n12 rows\n")
        yield pb.LogsResponse(**where, stream="stderr", data=b"warning: odd row\n", left_out=100)

    def Events(self, request: pb.EventsRequest, context: Any) -> Iterator[pb.EventsResponse]:
        event = model.Event(
            id="1",
            type="io.bdw-fed.task.done",
            subject=f"runs/{RUN}/steps/clean/tasks/5f",
            time=SUBMITTED,
            data_json='{"seconds": 1.5}',
        )
        yield pb.EventsResponse(event=event)

    def DescribeRun(self, request: pb.DescribeRunRequest, context: Any) -> pb.DescribeRunResponse:
        failed = request.run == "failed"
        run = a_run(model.RUN_STATE_FAILED, 3) if failed else a_run()
        if request.run in ("queued", "holding"):
            run = a_reserving_run(
                model.RUN_STATE_QUEUED if request.run == "queued" else model.RUN_STATE_RUNNING,
            )
        task = pb.TaskInfo(
            step="clean",
            task=b"\x5f" * 16,
            cluster="edge-jfk",
            node="n1",
            state="retrying",
            attempt=2,
            seconds=3.5,
            inputs=["flights.csv#3"],
        )
        return pb.DescribeRunResponse(
            run=run, plan=a_plan(), tasks=[task] if failed else [], unreachable=["cloud"] if failed else []
        )

    def Outputs(self, request: pb.OutputsRequest, context: Any) -> pb.OutputsResponse:
        located = self.located or [
            pb.OutputsResponse.Located(
                output=output, addresses=["127.0.0.1:1"], server_name="x", kept_until=SUBMITTED + output.retain
            )
            for output in a_run().outputs
        ]
        return pb.OutputsResponse(outputs=located)

    def GrantRole(self, request: pb.GrantRoleRequest, context: Any) -> pb.GrantRoleResponse:
        self.asked.append(request)
        binding = access_pb2.RoleBinding(subject=request.subject, namespace=request.namespace, role=request.role)
        return pb.GrantRoleResponse(binding=binding)

    def RevokeRole(self, request: pb.RevokeRoleRequest, context: Any) -> pb.RevokeRoleResponse:
        self.asked.append(request)
        if request.subject == "nobody":
            context.abort(grpc.StatusCode.NOT_FOUND, "nobody has no role that was granted in all namespaces")
        return pb.RevokeRoleResponse()

    def ListRoles(self, request: pb.ListRolesRequest, context: Any) -> pb.ListRolesResponse:
        self.asked.append(request)
        roles = (("eve", "flights", access_pb2.ROLE_EXPERT), ("group:data-team", "", access_pb2.ROLE_ENGINEER))
        bindings = [
            access_pb2.RoleBinding(
                subject=subject, namespace=where, role=role, granted_at=SUBMITTED, granted_by="local"
            )
            for subject, where, role in roles
        ]
        return pb.ListRolesResponse(bindings=bindings)

    def ReadAudit(self, request: pb.ReadAuditRequest, context: Any) -> pb.ReadAuditResponse:
        self.asked.append(request)
        eve = pb.AuditLine(
            hub="hub1",
            at=SUBMITTED,
            by="eve",
            address="ipv4:10.1.2.3:41022",
            call="CancelRun",
            namespace="flights",
            about={"run": "delays-x7k2p", "reason": "wrong input"},
        )
        bob = pb.AuditLine(hub="hub2", at=SUBMITTED + 60, by="oidc:bob", address="ipv4:10.1.2.4:50111", namespace="all")
        bob.call, bob.refused, bob.reason_refused = "RevokeCluster", True, "you are oidc:bob, with no role"
        bob.about["cluster"] = "edge-jfk"
        lines = [line for line in (eve, bob) if line.refused or not request.refused]
        return pb.ReadAuditResponse(lines=lines, more=request.limit == 2, unreachable=["hub3"] * (request.limit == 2))

    def ListCache(self, request: pb.ListCacheRequest, context: Any) -> pb.ListCacheResponse:
        self.asked.append(request)
        return pb.ListCacheResponse(steps=_cached(request.step, request.cluster))

    def ClearCache(self, request: pb.ClearCacheRequest, context: Any) -> pb.ClearCacheResponse:
        self.asked.append(request)
        away = [] if request.cluster else ["edge-lga"]
        return pb.ClearCacheResponse(steps=_cached(request.step, request.cluster), unreachable=away)

    def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:
        def node(name: str, ready: bool = True) -> pb.NodeStatus:
            tiers = [
                pb.StorageTier(name="memory", used=48 << 20, budget=128 << 20),
                pb.StorageTier(name="disk", used=3 << 30, budget=40 << 30),
                pb.StorageTier(name="objects", used=5 << 30, place="s3://federation/bdw-fed@s3.example.org:443"),
                pb.StorageTier(name="shared", place="redis://redis.example.org:6379/0/bdw-fed"),
            ]
            told = pb.NodeStatus(name=name, ready=ready, cpus=2, memory=2 << 30, running=1, pid=4711, workers=2)
            told.tiers.extend(tiers)
            if name == "n2":
                told.scrub.ended, told.scrub.damaged = SUBMITTED - 86400, 3
            return told

        edge = pb.ClusterStatus(
            name="edge-jfk",
            zone="jfk",
            tier="edge",
            state="ready",
            version="0.1.0",
            nodes=[node("n1"), node("n2")],
            last_seen=SUBMITTED + 99,
            runs=1,
            gateway_address="127.0.0.1:7445",
            clock_ahead=-7265.0,
            peers=[
                pb.PeerPath(cluster="cloud", path="direct"),
                pb.PeerPath(cluster="edge-lga", path="relay", relay="r1"),
            ],
            held=[
                pb.HeldSlots(run="holding", step="clean", held=3, used=2, lent=1),
                pb.HeldSlots(run="queued", step="clean", held=1, half=True),
            ],
            pools=[
                pb.PoolStatus(
                    definition="clean-flights@1",
                    desired=3,
                    starting=1,
                    busy=2,
                    queued=5,
                    service_seconds=0.25,
                    start_seconds=0.09,
                    reason="1 more: 5 queued",
                )
            ],
            stored=[pb.NamespaceStored(namespace="default", bytes=3 << 30)],
            links=[
                model.MeasuredLink(
                    from_cluster="cloud",
                    to_cluster="edge-jfk",
                    fixed_seconds=0.012,
                    bandwidth=20e6,
                    weight=7.25,
                    age=3.5,
                    declared_latency=0.02,
                    declared_bandwidth=12.5e6,
                ),
                model.MeasuredLink(
                    from_cluster="edge-lga", to_cluster="edge-jfk", declared_latency=0.005, declared_bandwidth=125e6
                ),
            ],
            steps=[
                model.MeasuredStep(
                    definition="clean-flights@1",
                    cluster="edge-jfk",
                    fixed_seconds=0.05,
                    seconds_per_byte=2e-7,
                    mean_seconds=0.25,
                    weight=31.5,
                    age=0.5,
                    start_seconds=0.09,
                )
            ],
        )
        cloud = pb.ClusterStatus(name="cloud", zone="cloud", tier="cloud", state="unknown", nodes=[node("n1", False)])
        return pb.StatusResponse(version="0.1.0", clusters=[edge, cloud])


def _cached(step: str, cluster: str) -> list[pb.CachedStep]:
    kept = [
        ("clean-flights@1", "cloud", 1, 900, 0),
        ("clean-flights@1", "edge-jfk", 12, 3 << 20, 24),
        ("score@2.1", "edge-jfk", 3, 2 << 30, 1),
    ]
    return [
        pb.CachedStep(
            cluster=at, step=name, results=results, bytes=size, taken=taken, oldest=SUBMITTED - 86_400, newest=SUBMITTED
        )
        for name, at, results, size, taken in kept
        if step in ("", name, name.partition("@")[0]) and cluster in ("", at)
    ]
