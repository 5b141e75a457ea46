"""A run that has not succeeded is tried again, or submitted again."""

from __future__ import annotations

import grpc.aio
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import ALL, WORKFLOW
from tests.hub.test_runs import submit, until

RETAINING = ALL.replace(
    "metadata: {name: counting}\nspec:", "metadata: {name: counting}\nspec:\n  policy: {retain: 1h}"
)
FAILURE = m.Failure(step="count", cluster="edge", node="n1", attempt=3, kind="exit", message="code 1")


async def failed(person: ControlPlaneServiceStub, edge: FakeAgent, cloud: FakeAgent) -> str:
    """A run that has failed on the edge."""
    run: str = (await submit(person)).run.name
    await edge.end(await edge.assigned(run), m.FRAGMENT_STATE_FAILED, failures=[FAILURE])
    await cloud.assigned(run, m.DESIRED_STATE_CANCELLED)
    await cloud.end(cloud.held["default", run].fragment, m.FRAGMENT_STATE_CANCELLED)
    await until(person, run, m.RUN_STATE_FAILED)
    return run


async def retry(person: ControlPlaneServiceStub, run: str) -> m.Run:
    answer: cp.RetryRunResponse = await person.RetryRun(cp.RetryRunRequest(run=run), timeout=SECONDS)
    return answer.run


async def test_a_run_that_is_tried_again_gets_new_fragments_and_can_succeed(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await apply(person, RETAINING)
        run = await failed(person, edge, cloud)
        await edge.assigned(run, m.DESIRED_STATE_RETAINED)
        await cloud.assigned(run, m.DESIRED_STATE_RETAINED)
        before = edge.held["default", run].fragment
        again = await retry(person, run)
        assert (again.state, again.plan_revision, again.tries, again.message) == (m.RUN_STATE_RUNNING, 2, 1, "")
        for agent in (edge, cloud):
            fragment = await agent.assigned(run, m.DESIRED_STATE_RUNNING)
            assert (fragment.revision, fragment.policy.retain) == (2, 3600.0)
            assert fragment.epoch > before.epoch
            await agent.end(fragment, m.FRAGMENT_STATE_SUCCEEDED)
        ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
        assert ended.ended_at > 0
        await edge.assigned(run, m.DESIRED_STATE_FINISHED)


async def test_only_what_has_not_succeeded_is_tried_again(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await apply(person, ALL)
        run = (await submit(person)).run.name
        with pytest.raises(grpc.aio.AioRpcError, match="is running: only one that has failed or was cancelled"):
            await retry(person, run)
        for agent in (edge, cloud):
            await agent.end(await agent.assigned(run), m.FRAGMENT_STATE_SUCCEEDED)
        await until(person, run, m.RUN_STATE_SUCCEEDED)
        with pytest.raises(grpc.aio.AioRpcError, match=r"is succeeded: only .* resubmit"):
            await retry(person, run)


async def test_without_retaining_the_data_goes_and_the_run_can_be_tried_from_its_beginning(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await apply(person, ALL)
        run = await failed(person, edge, cloud)
        await edge.assigned(run, m.DESIRED_STATE_FINISHED)
        assert (await retry(person, run)).state == m.RUN_STATE_RUNNING
        await edge.assigned(run, m.DESIRED_STATE_RUNNING)


async def test_a_run_that_is_submitted_again_has_the_words_and_parameters_of_then(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        await apply(person, ALL)
        first = (await submit(person)).run
        await apply(
            person,
            WORKFLOW.replace("default: 3", "default: 9")
            .replace("total, use", "sum, use")
            .replace("total.total", "sum.total"),
        )
        request = cp.SubmitRequest(again_of=first.name, parameters_json="{}", idempotency_key="once")
        again: cp.SubmitResponse = await person.Submit(request, timeout=SECONDS)
        assert again.run.name != first.name
        assert (again.run.again_of, again.run.workflow_revision) == (first.name, 1)
        assert again.run.parameters_json == first.parameters_json
        assert "total" in {step.step for step in again.plan.steps}
        repeated: cp.SubmitResponse = await person.Submit(request, timeout=SECONDS)
        assert repeated.run.name == again.run.name
        other = cp.SubmitRequest(again_of=first.name, parameters_json='{"limit": 7}')
        assert '"limit": 7' in (await person.Submit(other, timeout=SECONDS)).run.parameters_json
        with pytest.raises(grpc.aio.AioRpcError, match="no run nowhere"):
            await person.Submit(cp.SubmitRequest(again_of="nowhere"), timeout=SECONDS)
