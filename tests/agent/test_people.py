"""People ask the agent itself, hub or no hub: by the roles that the hub told last, and what they cancel stays so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.message_factory import GetMessageClass

from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from cluster_agent.agent import AgentConfig, serve
from cluster_agent.people.door import PeopleDoor
from tests.agent.federation import DEADLINE, FakeHub, FakeNode, Members, served_hub, within
from tests.coordinator.workflows import EACH, Use, fragments, output, source
from wire.identity import Identity, Role, channel_options, grpc_channel_credentials

CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})
STEPS = [source("flights", ["edge1"]), CLEAN, output(CLEAN)]
ASSIGNMENT = m.Assignment(
    fragment=m.Fragment.FromString(fragments(STEPS, {"inputs.flights": {"edge1": 1}}, ["edge1"])["edge1"]),
    desired=m.DESIRED_STATE_RUNNING,
)
PEOPLE = [
    access_pb2.RoleBinding(subject="ada", role=access_pb2.ROLE_EXPERT),
    access_pb2.RoleBinding(subject="eve", namespace="default", role=access_pb2.ROLE_VIEWER),
]
RUN = "run-1"


class Cluster:
    """An agent of edge1 that is started again and again from the same state."""

    def __init__(self, members: Members, state: Path, hub: str) -> None:
        self._members = members
        self._state = state
        self._hub = hub
        self.credentials = members.issue(Role.AGENT, "edge1")
        self.addresses: dict[str, str] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        config = AgentConfig(
            cluster="edge1",
            state=self._state,
            hub=[self._hub],
            credentials=self.credentials,
            listen_nodes="127.0.0.1:0",
            listen_peers="127.0.0.1:0",
            data_root=self._state,
        )
        serving = asyncio.create_task(serve(config, ready.set_result, stop))
        await asyncio.wait([serving, ready], timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        self.addresses = ready.result()
        try:
            yield
        finally:
            stop.set()
            await within(serving)

    @asynccontextmanager
    async def asked_by(self, role: Role, name: str) -> AsyncIterator[ControlPlaneServiceStub]:
        credentials = grpc_channel_credentials(self._members.issue(role, name))
        options = channel_options(Identity(Role.AGENT, "edge1"))
        async with grpc.aio.secure_channel(self.addresses["peers"], credentials, options=options) as channel:
            yield ControlPlaneServiceStub(channel)


@pytest.fixture
def hub() -> FakeHub:
    made = FakeHub()
    made.directories["edge1"] = f.PeerDirectory(people=PEOPLE)
    return made


@pytest.fixture
async def cluster(members: Members, hub: FakeHub, tmp_path: Path) -> AsyncIterator[Cluster]:
    """It has a run in the middle of things and has lost its hub."""
    server = served_hub(members, hub)
    async with server:
        made = Cluster(members, tmp_path / "state", server.address)
        async with made.running():
            session = await within(hub.sessions.get())
            session.say(seq=1, assign=ASSIGNMENT)
            await session.wait_kind("accepted")
    yield made


async def refused(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    return error.value.code(), error.value.details() or ""


async def test_what_is_here_is_shown_without_a_hub(cluster: Cluster) -> None:
    async with cluster.running(), cluster.asked_by(Role.USER, "eve") as eve:
        described = await eve.DescribeRun(cp.DescribeRunRequest(run=RUN))
        assert described.run.state == m.RUN_STATE_RUNNING
        assert [step.step for step in described.run.fragments["edge1"].steps] == [step.name for step in STEPS]
        assert "only the part of edge1" in described.run.message
        listed = await eve.List(cp.ListRequest(kind="Run"))
        assert [each.name for each in listed.objects] == [RUN]
        shown = await eve.Get(cp.GetRequest(kind="Run", name=RUN))
        assert '"workflow": "test"' in shown.object.spec_json
        events = [each.event.type async for each in eve.Events(cp.EventsRequest(run=RUN))]
        assert all(kind.startswith("io.bdw-fed.") for kind in events)
        assert [piece async for piece in eve.Logs(cp.LogsRequest(run=RUN))] == []


async def test_what_is_cancelled_here_stays_so_and_the_hub_hears_of_it_when_it_is_back(
    cluster: Cluster, members: Members, hub: FakeHub
) -> None:
    async with cluster.running(), cluster.asked_by(Role.USER, "ada") as ada:
        watching = ada.WatchRun(cp.WatchRunRequest(run=RUN))
        assert (await within(watching.read())).run.state == m.RUN_STATE_RUNNING
        cancelled = await within(ada.CancelRun(cp.CancelRunRequest(run=RUN)))
        assert cancelled.run.state == m.RUN_STATE_CANCELLED
        assert cancelled.run.message == "cancelled by ada at edge1"
        assert (await within(watching.read())).run.state == m.RUN_STATE_CANCELLED
        code, words = await refused(ada.CancelRun(cp.CancelRunRequest(run=RUN)))
        assert (code, "has ended" in words) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    async with served_hub(members, hub) as server:
        again = Cluster(members, cluster._state, server.address)
        async with again.running(), again.asked_by(Role.USER, "ada") as ada:
            described = await ada.DescribeRun(cp.DescribeRunRequest(run=RUN))
            assert described.run.state == m.RUN_STATE_CANCELLED, "a restart has forgotten it"
            session = await within(hub.sessions.get())
            ended = (await session.wait_kind("ended")).ended
            assert ended.state == m.FRAGMENT_STATE_CANCELLED
            assert ended.failures[-1].message == "cancelled by ada at edge1"


async def test_the_cache_is_shown_to_whoever_sees_runs_and_cleared_by_who_may_run(cluster: Cluster) -> None:
    async with cluster.running(), cluster.asked_by(Role.USER, "eve") as eve, cluster.asked_by(Role.USER, "ada") as ada:
        assert not (await eve.ListCache(cp.ListCacheRequest(cluster="edge1"))).steps
        assert not (await within(ada.ClearCache(cp.ClearCacheRequest()))).steps
        code, words = await refused(eve.ClearCache(cp.ClearCacheRequest()))
        assert (code, "ClearCache needs expert" in words) == (grpc.StatusCode.PERMISSION_DENIED, True)
        for call in (
            ada.ListCache(cp.ListCacheRequest(cluster="edge2")),
            ada.ClearCache(cp.ClearCacheRequest(cluster="edge2")),
        ):
            assert await refused(call) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "this is the agent of edge1, not of edge2",
            )


async def test_a_role_too_low_is_refused_with_what_it_needs(cluster: Cluster) -> None:
    async with cluster.running():
        async with cluster.asked_by(Role.USER, "eve") as eve:
            code, words = await refused(eve.CancelRun(cp.CancelRunRequest(run=RUN)))
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert "you are eve, with viewer in namespace default" in words
            assert "CancelRun needs expert" in words
            code, _ = await refused(eve.List(cp.ListRequest(kind="Run", namespace="other")))
            assert code is grpc.StatusCode.PERMISSION_DENIED
        async with cluster.asked_by(Role.USER, "nobody") as nobody:
            for call in (
                nobody.Get(cp.GetRequest(kind="Run", name=RUN)),
                nobody.DescribeRun(cp.DescribeRunRequest(run=RUN)),
                nobody.WatchRun(cp.WatchRunRequest(run=RUN)).read(),
                nobody.Logs(cp.LogsRequest(run=RUN)).read(),
                nobody.Events(cp.EventsRequest()).read(),
            ):
                assert (await refused(call))[0] is grpc.StatusCode.PERMISSION_DENIED
        for member in (Role.AGENT, Role.NODE):
            async with cluster.asked_by(member, "edge2" if member is Role.AGENT else "edge1/n1") as other:
                code, _ = await refused(other.CancelRun(cp.CancelRunRequest(run=RUN)))
                assert code is grpc.StatusCode.PERMISSION_DENIED
        async with cluster.asked_by(Role.USER, "eve") as eve:
            assert (await eve.DescribeRun(cp.DescribeRunRequest(run=RUN))).run.state == m.RUN_STATE_RUNNING


async def test_what_only_the_hub_knows_is_said_to_be_its_business(cluster: Cluster) -> None:
    async with cluster.running(), cluster.asked_by(Role.USER, "ada") as ada:
        for call in (
            ada.Get(cp.GetRequest(kind="Workflow", name="w")),
            ada.List(cp.ListRequest(kind="Step")),
        ):
            assert (await refused(call))[0] is grpc.StatusCode.UNIMPLEMENTED
        code, words = await refused(ada.DescribeRun(cp.DescribeRunRequest(run="other")))
        assert (code, words) == (grpc.StatusCode.NOT_FOUND, "run other has no part on edge1 in namespace default")


async def test_each_call_that_only_the_hub_answers_is_declined_in_words_and_leaves_nothing_in_the_log(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster.running(), cluster.asked_by(Role.USER, "ada") as ada:
        for method in cp.DESCRIPTOR.services_by_name["ControlPlaneService"].methods:
            if method.name in vars(PeopleDoor):
                continue
            request = GetMessageClass(method.input_type)()
            call = getattr(ada, method.name)(iter([request]) if method.client_streaming else request)
            code, words = await refused(call.read() if method.server_streaming else call)
            assert code is grpc.StatusCode.UNIMPLEMENTED, method.name
            assert method.name in words
            assert "ask the hub" in words
    assert not [record.message for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_its_nodes_do_is_told_without_a_hub(cluster: Cluster, members: Members) -> None:
    credentials = members.issue(Role.NODE, "edge1/n1")
    async with cluster.running(), FakeNode(cluster.addresses["nodes"], "edge1", "n1", credentials) as node:
        await node.command("open")
        async with cluster.asked_by(Role.USER, "ada") as ada:
            await within(ada.CancelRun(cp.CancelRunRequest(run=RUN, reason="enough")))
            await node.command("end_run")
