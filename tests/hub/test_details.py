"""What only agents know is asked of all of them at once; one that can't be asked is named and holds up nobody."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import ALL
from tests.hub.test_runs import submit, until
from wire.errors import problems_from_error


def knows(agent: FakeAgent) -> None:
    """Let the agent answer every question with two parts."""

    def answer(query: f.Query) -> list[f.QueryReply]:
        name = agent.cluster
        match query.WhichOneof("kind"):
            case "describe":
                tasks = [cp.TaskInfo(step="count", state=state, cluster=name) for state in ("done", "failed")]
                return [f.QueryReply(tasks=f.TaskList(tasks=tasks)), f.QueryReply(end=True)]
            case "logs":
                part = cp.LogsResponse(node="n1", step="count", data=f"{name} says".encode())
                return [f.QueryReply(logs=part), f.QueryReply(end=True)]
            case "list_cache" | "clear_cache":
                asked = query.list_cache if query.HasField("list_cache") else query.clear_cache
                steps = [
                    cp.CachedStep(cluster=name, step=f"{asked.step}@{number}", results=number) for number in (2, 1)
                ]
                return [
                    f.QueryReply(cached=f.CachedSteps(steps=steps[:1])),
                    f.QueryReply(cached=f.CachedSteps(steps=steps[1:]), end=True),
                ]
            case _:
                events = [m.Event(type=f"io.bdw-fed.{number}", cluster=name) for number in range(2)]
                replies = [f.QueryReply(events=cp.EventsResponse(event=event)) for event in events]
                return [*replies, f.QueryReply(end=not query.events.follow)] if not query.events.follow else replies

    agent.answer = answer


async def test_answers_are_merged_and_absent_agents_named(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "cloud") as cloud:
        async with FakeAgent(hub, "edge") as edge:
            knows(edge)
            knows(cloud)
            run = (await submit(person)).run.name
            described = await person.DescribeRun(cp.DescribeRunRequest(run=run))
            assert [task.state for task in described.tasks] == ["failed", "failed", "done", "done"]
            assert described.plan.run == run
            logs = [part async for part in person.Logs(cp.LogsRequest(run=run))]
            assert sorted((part.cluster, part.data) for part in logs) == [
                ("cloud", b"cloud says"),
                ("edge", b"edge says"),
            ]
            only = [part async for part in person.Logs(cp.LogsRequest(run=run, cluster="edge"))]
            assert [part.cluster for part in only] == ["edge"]
            events = [part.event.cluster async for part in person.Events(cp.EventsRequest(run=run))]
            assert sorted(events) == ["cloud", "cloud", "edge", "edge"]
        described = await person.DescribeRun(cp.DescribeRunRequest(run=run))
        assert list(described.unreachable) == ["edge"]
        assert len(described.tasks) == 2
        logs = [part async for part in person.Logs(cp.LogsRequest(run=run))]
        absent = next(part for part in logs if part.stream == "unreachable")
        assert (absent.cluster, absent.data) == ("edge", b"edge is not connected")
        events = [part.event.type async for part in person.Events(cp.EventsRequest(run=run))]
        assert "io.bdw-fed.agent.unreachable" in events


async def test_caches_are_listed_and_cleared_on_all_clusters_or_one(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "cloud") as cloud:
        async with FakeAgent(hub, "edge") as edge:
            knows(edge)
            knows(cloud)
            expected = [("s@1", "cloud"), ("s@1", "edge"), ("s@2", "cloud"), ("s@2", "edge")]
            for answer in (
                await person.ListCache(cp.ListCacheRequest(step="s")),
                await person.ClearCache(cp.ClearCacheRequest(step="s", age=60.0)),
            ):
                assert [(line.step, line.cluster) for line in answer.steps] == expected
                assert not answer.unreachable
            asked = [frame.query for frame in edge.frames if frame.HasField("query")]
            assert [query.namespace for query in asked] == ["default", "default"]
            assert asked[1].clear_cache.age == 60.0
            only = await person.ListCache(cp.ListCacheRequest(step="s", cluster="edge"))
            assert {line.cluster for line in only.steps} == {"edge"}
        away = await person.ClearCache(cp.ClearCacheRequest(step="s"))
        assert {line.cluster for line in away.steps} == {"cloud"}
        assert list(away.unreachable) == ["edge"], "who is away has not given anything up"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await person.ListCache(cp.ListCacheRequest(cluster="nowhere"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_who_stops_listening_stops_the_asking(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with FakeAgent(hub, "edge") as edge:
        knows(edge)
        stream = person.Events(cp.EventsRequest(follow=True))
        await asyncio.wait_for(stream.read(), SECONDS)
        stream.cancel()
        await edge.until(lambda: any(frame.HasField("query_cancel") for frame in edge.frames), "for the end")


async def test_an_agent_that_goes_away_while_it_answers_is_named(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge:
        knows(edge)
        stream = person.Events(cp.EventsRequest(follow=True))
        for _ in range(2):
            await asyncio.wait_for(stream.read(), SECONDS)
    last = await asyncio.wait_for(stream.read(), SECONDS)
    assert last.event.type == "io.bdw-fed.agent.unreachable"


async def test_submitting_with_the_same_key_gives_the_same_run(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        several = await asyncio.gather(*(submit(person, idempotency_key="once") for _ in range(5)))
        assert len({each.run.name for each in several}) == 1
        assert (await submit(person, idempotency_key="twice")).run.name != several[0].run.name
        listed = await person.List(cp.ListRequest(kind="Run"))
        assert len(listed.objects) == 2


async def test_a_dry_run_plans_and_stores_nothing(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        planned = await submit(person, dry_run=True)
        assert [step.step for step in planned.plan.steps if step.filtered] == ["count", "total"]
        explained = await person.Explain(cp.ExplainRequest(workflow="counting"))
        assert {step.step for step in explained.plan.steps} == {step.step for step in planned.plan.steps}
        assert not (await person.List(cp.ListRequest(kind="Run"))).objects


async def test_what_is_wrong_with_a_submission_is_told(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async def fails(code: grpc.StatusCode, **more: object) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await submit(person, **more)
        assert caught.value.code() is code, caught.value.details()
        return caught.value

    await fails(grpc.StatusCode.NOT_FOUND)
    await apply(person, ALL)
    error = await fails(grpc.StatusCode.INVALID_ARGUMENT)
    assert "edge has never been seen" in (error.details() or "")
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        error = await fails(grpc.StatusCode.INVALID_ARGUMENT, parameters_json='{"limit": "x", "limits": 3}')
        assert {problem.field for problem in problems_from_error(error)} == {"parameters.limit", "parameters.limits"}
        await fails(grpc.StatusCode.INVALID_ARGUMENT, parameters_json="[1]")
        await fails(grpc.StatusCode.ABORTED, expected_workflow_revision=7)
        await fails(grpc.StatusCode.INVALID_ARGUMENT, run="../up")
        await fails(grpc.StatusCode.NOT_FOUND, topology="other")
        await submit(person, run="mine")
        await fails(grpc.StatusCode.ALREADY_EXISTS, run="mine")
        await fails(grpc.StatusCode.ALREADY_EXISTS, run="mine", idempotency_key="other")


async def test_suspend_resume_and_cancel_reach_the_agents(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        run = (await submit(person)).run.name
        await person.SuspendRun(cp.SuspendRunRequest(run=run))
        await edge.assigned(run, m.DESIRED_STATE_SUSPENDED)
        await person.ResumeRun(cp.ResumeRunRequest(run=run))
        await edge.assigned(run, m.DESIRED_STATE_RUNNING)
        await person.CancelRun(cp.CancelRunRequest(run=run))
        for agent in (edge, cloud):
            fragment = await agent.assigned(run, m.DESIRED_STATE_CANCELLED)
            await agent.end(fragment, m.FRAGMENT_STATE_CANCELLED)
        assert (await until(person, run, m.RUN_STATE_CANCELLED)).message == "cancelled by ada"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await person.ResumeRun(cp.ResumeRunRequest(run=run))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await until(person, "nobody", m.RUN_STATE_RUNNING)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_ended_runs_teach_the_planner(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        before = (await submit(person)).plan
        assert any("upper bounds" in warning for warning in before.warnings)
        fragment = await edge.assigned(before.run)
        counters = [
            m.StepProgress(step="inputs.rows", done=1, bytes_out=1000),
            m.StepProgress(step="count.rows.split", done=1, bytes_in=1000, bytes_out=1000),
            m.StepProgress(step="count", done=3, bytes_in=1000, bytes_out=10, busy_seconds=6.0),
        ]
        await edge.end(fragment, steps=counters)
        total = [m.StepProgress(step="total", done=1, bytes_in=10, bytes_out=10, busy_seconds=2.0)]
        await cloud.end(await cloud.assigned(before.run), steps=total)
        await until(person, before.run, m.RUN_STATE_SUCCEEDED)
        async with asyncio.timeout(SECONDS):
            after = before
            while "upper bounds" in str(after.warnings):
                after = (await submit(person, dry_run=True)).plan
        assert sum(transfer.bytes for transfer in after.transfers) == pytest.approx(1000 * 20 / 1010)
        step = next(step for step in after.steps if step.step == "count")
        assert step.expected_seconds == pytest.approx(2.0 * 2)  # 3 tasks of 2 s in 2 slots
