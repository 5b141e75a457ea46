"""The agents that load a hub speak to it as true ones do: what they are given they end, over cuts and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bdw_fed.load.agent import FakeAgent, Work
from bdw_fed.load.objects import clusters, documents, topology_of, workflows
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.test_runs import until
from wire.identity import Role

QUICK = Work(tasks=100, seconds=0.0)
LONG = Work(tasks=100, seconds=600.0)


class Given:
    """The runs that fake agents were given, each as often as it was."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self._more = asyncio.Event()

    def __call__(self, run: str, _at: float) -> None:
        self.runs.append(run)
        self._more.set()

    async def until(self, count: int) -> None:
        """Wait until there were so many."""
        async with asyncio.timeout(SECONDS):
            while len(self.runs) < count:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def running(hub: RunningHub, names: list[str], work: Work, given: Given) -> AsyncIterator[None]:
    agents = [FakeAgent(name, hub.address, hub.members.credentials(Role.AGENT, name), work, given) for name in names]
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    try:
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(agent.connected.wait() for agent in agents))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def submit(person: ControlPlaneServiceStub, names: list[str], workflow: str) -> str:
    request = cp.SubmitRequest(namespace="default", workflow=workflow, topology=topology_of(names, workflow))
    return str((await person.Submit(request, timeout=SECONDS)).run.name)


@pytest.mark.parametrize("count", [3, 30])
async def test_each_run_is_given_to_its_cluster_and_ends(
    hub: RunningHub, person: ControlPlaneServiceStub, count: int
) -> None:
    names, given = clusters(count), Given()
    for document in documents(names, QUICK.tasks):
        await apply(person, document)
    async with running(hub, names, QUICK, given):
        runs = [await submit(person, names, workflow) for workflow in workflows(names)[:20]]
        for run in runs:
            ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
            (fragment,) = ended.fragments.values()
            assert {step.step: step.done for step in fragment.steps}["work"] == QUICK.tasks
    assert sorted(given.runs) == sorted(runs)


async def test_they_take_up_after_a_restart_of_the_hub_where_they_stopped(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    names, given = clusters(2), Given()
    for document in documents(names, LONG.tasks):
        await apply(person, document)
    async with running(hub, names, LONG, given):
        run = await submit(person, names, names[0])
        await until(person, run, m.RUN_STATE_RUNNING)
        await given.until(1)
        await hub.crash()
        await hub.start()
        another = await submit(person, names, names[0])
        await given.until(2)
        assert given.runs == [run, another], "what it had, it was not given again"
        await person.CancelRun(cp.CancelRunRequest(namespace="default", run=run))
        await until(person, run, m.RUN_STATE_CANCELLED)
