"""A namespace has no more runs open than its quota says, whichever hub is asked; agents are told what it may store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from control_plane.quotas.limits import Limits, limits_of
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import ALL
from tests.hub.test_runs import submit, until

QUOTA = "kind: Quota\nmetadata: {name: small}\nspec: {storage: 10MiB, runs: 2}\n"


async def told(agent: FakeAgent, wanted: Callable[[list[f.StorageQuota]], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while agent.peers is None or not wanted(list(agent.peers.quotas)):  # noqa: ASYNC110 - a directory is pushed
            await asyncio.sleep(0.02)


async def refused(person: ControlPlaneServiceStub, **more: object) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await submit(person, **more)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    return caught.value.details() or ""


async def test_agents_are_told_the_least_of_a_namespace_s_quotas_and_when_it_is_another(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge:
        await apply(person, ALL + "\n---\n" + QUOTA)
        await told(edge, lambda quotas: [(each.namespace, each.storage) for each in quotas] == [("default", 10 << 20)])
        await apply(person, QUOTA.replace("small", "smaller").replace("10MiB", "1MiB").replace(", runs: 2", ""))
        await told(edge, lambda quotas: [each.storage for each in quotas] == [1 << 20])
        for name in ("small", "smaller"):
            await person.Delete(cp.DeleteRequest(kind="Quota", name=name))
        await told(edge, lambda quotas: quotas == [])


async def test_a_run_too_many_is_refused_until_another_one_has_ended(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        for agent in (edge, cloud):
            await agent.beat(cp.NodeStatus(name="n1", ready=True, cpus=2))
        await apply(person, ALL)
        before = (await submit(person)).run.name
        await apply(person, QUOTA)
        await told(edge, lambda quotas: bool(quotas))
        second = (await submit(person, idempotency_key="once")).run.name
        words = await refused(person)
        names = ", ".join(sorted((before, second)))
        assert words.startswith(f"namespace default may have 2 runs open at once, and has 2 ({names}): wait")
        assert "cancel one, or have an operator raise the quota" in words
        assert (await submit(person, idempotency_key="once")).run.name == second, "it was let in already"
        assert (await submit(person, dry_run=True)).plan.steps, "a dry run opens none"
        await person.CancelRun(cp.CancelRunRequest(namespace="default", run=before))
        for agent in (edge, cloud):
            fragment = await agent.assigned(before, m.DESIRED_STATE_CANCELLED)
            await agent.end(fragment, m.FRAGMENT_STATE_CANCELLED)
        await until(person, before, m.RUN_STATE_CANCELLED)
        third = (await submit(person)).run.name
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await person.RetryRun(cp.RetryRunRequest(namespace="default", run=before))
        assert third in (caught.value.details() or ""), "a run that is tried again is open, too"


async def test_of_submissions_at_the_same_time_no_more_get_in_than_may(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud"):
        await apply(person, ALL + "\n---\n" + QUOTA)
        await told(edge, lambda quotas: bool(quotas))
        outcomes = await asyncio.gather(*(submit(person) for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(outcome, cp.SubmitResponse) for outcome in outcomes) == 2
        codes = {outcome.code() for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)}
        assert codes == {grpc.StatusCode.FAILED_PRECONDITION}


def test_what_a_stored_quota_says_is_read_without_its_model() -> None:
    stored = cp.Object(kind="Quota", spec_json='{"kind":"Quota","metadata":{"name":"q"},"spec":{"runs":0}}')
    assert limits_of(stored) == Limits(None, 0)
    assert limits_of(cp.Object(spec_json='{"spec":{"storage":"10Gi"}}')) == Limits(10 << 30, None)
