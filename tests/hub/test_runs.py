"""A run from its submission to its end, over real etcd and real gRPC, with scripted agents."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import ALL


async def submit(person: ControlPlaneServiceStub, **more: object) -> cp.SubmitResponse:
    request = cp.SubmitRequest(namespace="default", workflow="counting", **more)  # type: ignore[arg-type]
    response: cp.SubmitResponse = await person.Submit(request, timeout=SECONDS)
    return response


async def until(person: ControlPlaneServiceStub, run: str, *states: m.RunState.ValueType) -> m.Run:
    """Watch the run until it is in one of the states."""
    async with asyncio.timeout(SECONDS):
        async for change in person.WatchRun(cp.WatchRunRequest(namespace="default", run=run)):
            if change.run.state in states:
                return change.run
    raise AssertionError("the watch ended")


def output(unit: int, name: str = "result") -> m.RunOutput:
    return m.RunOutput(
        name=name, file="total.txt", unit=m.Unit(id=bytes([unit] * 16), size=5), cluster="cloud", node="n1"
    )


async def test_a_run_is_handed_out_executed_and_published(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        for agent in (edge, cloud):
            await agent.beat(cp.NodeStatus(name="n1", ready=True, cpus=2, data_address="127.0.0.1:99"))
        await apply(person, ALL)
        submitted = await submit(person)
        run = submitted.run.name
        assert run.startswith("counting-")
        assert submitted.run.state == m.RUN_STATE_RUNNING
        assert submitted.run.submitted_by == "ada"
        fragments = [await agent.assigned(run) for agent in (edge, cloud)]
        assert [fragment.cluster for fragment in fragments] == ["edge", "cloud"]
        assert [part.path for part in fragments[0].sources] == ["rows.csv"]
        for agent, fragment in zip((edge, cloud), fragments, strict=True):
            await agent.say(accepted={"namespace": "default", "run": run, "epoch": fragment.epoch, "revision": 1})
        await cloud.say(output=cloud.status(fragments[1], m.FRAGMENT_STATE_RUNNING, outputs=[output(1)]))
        await edge.end(fragments[0])
        made = output(1)
        made.retain = 3600.0
        await cloud.end(fragments[1], outputs=[made])
        ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
        assert [made.unit.id[0] for made in ended.outputs] == [1]
        for agent in (edge, cloud):
            await agent.acked()
            await agent.assigned(run, m.DESIRED_STATE_FINISHED)
        located = await person.Outputs(cp.OutputsRequest(namespace="default", run=run))
        assert [list(each.addresses) for each in located.outputs] == [["127.0.0.1:99"]]
        assert located.outputs[0].server_name == "n1.cloud.node.bdw-fed.internal"
        assert (located.outputs[0].kept_until, located.outputs[0].expired) == (ended.ended_at + 3600.0, False)


async def test_one_failure_stops_the_run_everywhere(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await edge.beat()
        await cloud.beat()
        await apply(person, ALL)
        run = (await submit(person)).run.name
        fragment = await edge.assigned(run)
        failure = m.Failure(step="count", cluster="edge", node="n1", attempt=3, kind="exit", message="code 1")
        await edge.end(fragment, m.FRAGMENT_STATE_FAILED, failures=[failure])
        await cloud.assigned(run, m.DESIRED_STATE_CANCELLED)
        stopping = await until(person, run, m.RUN_STATE_STOPPING)
        assert stopping.message == "step count failed on edge/n1, attempt 3 (exit): code 1"
        await cloud.end(cloud.held["default", run].fragment, m.FRAGMENT_STATE_CANCELLED)
        ended = await until(person, run, m.RUN_STATE_FAILED)
        assert not ended.outputs
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await person.Outputs(cp.OutputsRequest(namespace="default", run=run))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
