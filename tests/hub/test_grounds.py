"""A submission stands on what is stored at that moment, however much of it was remembered from one before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import store_pb2 as s
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from control_plane.api.grounds import Grounds, GroundsReader
from control_plane.kinds import Kinds
from control_plane.mirror import Mirror
from control_plane.store.etcd.client import Client, Config
from control_plane.store.repository import Store
from tests.fixtures.etcd import EtcdServer
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import ALL, STEP, TOPOLOGY, WORKFLOW


async def submit(person: ControlPlaneServiceStub, **more: object) -> cp.SubmitResponse:
    request = cp.SubmitRequest(workflow="counting", **more)  # type: ignore[arg-type]
    response: cp.SubmitResponse = await person.Submit(request, timeout=SECONDS)
    return response


async def definitions(agent: FakeAgent, run: str) -> dict[str, str]:
    return {step.name: step.definition for step in (await agent.assigned(run)).steps if step.definition}


async def test_a_changed_workflow_is_run_with_the_steps_that_it_uses_now(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.api.grounds._STEPS_AT_ONCE", 1)
    second, third = (STEP.replace('version: "1"', f'version: "{version}"') for version in "23")
    await apply(person, "\n---\n".join([ALL, second, third]))
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud"):
        run = (await submit(person)).run
        assert await definitions(edge, run.name) == {"count": "count@1", "total": "count@1"}
        await apply(
            person,
            WORKFLOW.replace("count, use: count@1", "count, use: count@2").replace("use: count@1", "use: count@3"),
        )
        for _ in range(2):  # read afterwards, then along with the workflow
            run = (await submit(person)).run
            assert run.workflow_revision == 2
            assert await definitions(edge, run.name) == {"count": "count@2", "total": "count@3"}


async def test_submissions_beside_changes_of_their_workflow_all_come_to_be(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):

        async def change() -> None:
            for default in range(4, 10):
                await apply(person, WORKFLOW.replace("default: 3", f"default: {default}"))

        _, *answers = await asyncio.gather(change(), *(submit(person) for _ in range(10)))
        assert all(f'"limit": {answer.run.workflow_revision + 2}' in answer.run.parameters_json for answer in answers)


async def test_what_was_read_before_is_not_read_again_and_what_was_measured_since_is_heard(
    hub: RunningHub, person: ControlPlaneServiceStub, empty_server: EtcdServer
) -> None:
    await apply(person, ALL)
    async with Client(Config((empty_server.etcd.config.endpoint,), empty_server.tls)) as client:
        kinds = Kinds(Store(client))
        reader = GroundsReader(kinds)
        changed = asyncio.Event()
        reader._generations.changed = reader._measured.changed = changed.set
        keeping = asyncio.create_task(reader.keep(await reader.load()))

        async def read() -> tuple[Grounds, int]:
            look = await reader.look("default", "counting", "pair")
            return await reader.grounds("default", "counting", "pair", look), len(look.items)

        async def remembered(matches: Callable[[Grounds | None], bool]) -> Grounds | None:
            async with asyncio.timeout(SECONDS):
                while not matches(found := reader.remembered("default", "counting", "pair")):
                    await changed.wait()
                    changed.clear()
            return found

        assert reader.remembered("default", "counting", "pair") is None
        first, _ = await read()
        assert (reader.remembered("default", "counting", "pair") or first).workflow == first.workflow
        key = kinds.measured.key("default", "count", "1")
        await kinds.commit([kinds.measured.creating(key, s.StepMeasured(tasks=7))])
        second = await remembered(lambda found: found is not None and bool(found.measured))
        assert second is not None
        assert (second.workflow, second.topology, second.steps) == (first.workflow, first.topology, first.steps)
        assert (dict(first.measured), second.measured["count@1"].tasks) == ({}, 7)
        again, looked_at = await read()
        assert looked_at == 1, "the generation"
        assert again.measured == second.measured
        await apply(person, WORKFLOW.replace("default: 3", "default: 4"))
        await remembered(lambda found: found is None)
        third, _ = await read()
        assert third.workflow.value.revision == 2
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_what_was_remembered_of_a_workflow_that_has_changed_since_is_not_submitted(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the hub has yet to hear of the change."""
    await apply(person, ALL)
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        await submit(person)
        deaf = Mirror.get
        then = {}

        def get(self: Mirror[Any], *names: str) -> Any:
            return then.setdefault((self, names), deaf(self, *names))

        monkeypatch.setattr(Mirror, "get", get)
        assert (await submit(person)).run.workflow_revision == 1
        await apply(person, WORKFLOW.replace("default: 3", "default: 4"))
        assert (await submit(person)).run.workflow_revision == 2


async def test_a_repeated_key_is_answered_with_the_run_and_the_plan_that_it_has_made(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        first = await submit(person, idempotency_key="once")
        assert await submit(person, idempotency_key="once") == first
    assert (await submit(person, idempotency_key="once")).run.name == first.run.name, "whatever a plan would say now"
    await apply(person, TOPOLOGY.replace("name: pair", "name: again"))
    assert (await submit(person, idempotency_key="once")).run.name == first.run.name


async def test_of_several_topologies_one_has_to_be_named(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        await apply(person, ALL)
        await submit(person)
        await apply(person, TOPOLOGY.replace("name: pair", "name: again"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await submit(person)
        assert "there are several: again, pair" in (caught.value.details() or "")
        assert (await submit(person, topology="again")).run.topology == "again"


@pytest.mark.parametrize("small", [0, 1 << 20])
async def test_a_plan_can_be_explained_as_long_as_its_run_is_there(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr("control_plane.api.planning._SMALL_PLAN", small)
    await apply(person, ALL)
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        for _ in range(2):  # the second time under the same name
            answer = await submit(person, run="mine")
            explained = await person.Explain(cp.ExplainRequest(run="mine"))
            assert explained.plan == answer.plan
            for agent in (edge, cloud):
                await agent.end(await agent.assigned("mine"))
            await ended(person, "mine")
            await person.Delete(cp.DeleteRequest(kind="Run", name="mine"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await person.Explain(cp.ExplainRequest(run="mine"))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def ended(person: ControlPlaneServiceStub, run: str) -> None:
    async for _ in person.WatchRun(cp.WatchRunRequest(run=run), timeout=SECONDS):
        pass
