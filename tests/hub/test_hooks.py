"""Hooks: a step that is executed once a run has ended, as a run of its own."""

from __future__ import annotations

import asyncio
import json

import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from control_plane.store.etcd.errors import EtcdError
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import ALL
from tests.hub.test_runs import submit, until

NOTIFY = """
kind: Step
metadata: {name: notify, version: "1"}
spec:
  run: {command: [echo, "{param.text}"]}
  parameters: {text: {type: string}, limit: {type: integer, default: 0}}
"""
HOOKS = """
  hooks:
    exit: {use: notify@1, parameters: {text: "{run.name} is {run.state}: {run.message} {{}}", limit: "{param.limit}"}}
    success: {use: notify@1, parameters: {text: good}}
    failure: {use: notify@1, parameters: {text: bad}}
"""
WITH_HOOKS = ALL.rstrip() + HOOKS + "---" + NOTIFY
FAILURE = m.Failure(step="count", cluster="edge", node="n1", attempt=3, kind="exit", message="code {1}")


async def described(person: ControlPlaneServiceStub, run: str) -> m.Run:
    """A run that will be there in a moment."""
    async with asyncio.timeout(SECONDS):
        while True:
            runs = await person.List(cp.ListRequest(kind="Run"))
            if run in {each.name for each in runs.objects}:
                async for change in person.WatchRun(cp.WatchRunRequest(run=run)):
                    found: m.Run = change.run
                    return found
            await asyncio.sleep(0.01)


async def parameters(agents: tuple[FakeAgent, ...], run: str) -> dict[str, object]:
    """What the one step of a hook's run is told."""
    for agent in agents:
        held = agent.held.get(("default", run))
        if held is not None:
            (step,) = held.fragment.steps
            found: dict[str, object] = json.loads(step.parameters_json)
            return found
    raise AssertionError(f"nobody has {run}")


async def some(agents: tuple[FakeAgent, ...], run: str) -> FakeAgent:
    """The agent that has got the hook."""
    waits = {agent: asyncio.create_task(agent.assigned(run)) for agent in agents}
    done, rest = await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
    for each in rest:
        each.cancel()
    return next(agent for agent, wait in waits.items() if wait in done)


async def test_the_hooks_of_how_a_run_has_ended_are_executed_and_told_of_it(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        agents = (edge, cloud)
        await apply(person, WITH_HOOKS)
        run = (await submit(person)).run
        assert list(run.hooks) == ["exit", "failure", "success"]
        await edge.end(await edge.assigned(run.name), m.FRAGMENT_STATE_FAILED, failures=[FAILURE])
        await cloud.assigned(run.name, m.DESIRED_STATE_CANCELLED)
        await cloud.end(cloud.held["default", run.name].fragment, m.FRAGMENT_STATE_CANCELLED)
        await until(person, run.name, m.RUN_STATE_FAILED)
        for hook in ("exit", "failure"):
            made = await described(person, f"{run.name}-{hook}")
            assert (made.hook_of, made.hook, list(made.hooks)) == (run.name, hook, [])
            await some(agents, made.name)
        told = await parameters(agents, f"{run.name}-exit")
        assert told == {
            "text": f"{run.name} is failed: step count failed on edge/n1, attempt 3 (exit): code {{1}} {{}}",
            "limit": 3,
        }
        assert await parameters(agents, f"{run.name}-failure") == {"text": "bad", "limit": 0}
        runs = await person.List(cp.ListRequest(kind="Run"))
        assert {each.name for each in runs.objects} == {run.name, f"{run.name}-exit", f"{run.name}-failure"}


async def test_a_hook_is_one_run_however_often_the_end_is_heard(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await apply(person, WITH_HOOKS)
        run = (await submit(person)).run.name
        for agent in (edge, cloud):
            await agent.end(await agent.assigned(run), m.FRAGMENT_STATE_SUCCEEDED)
        ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
        assert set(ended.hooks_due) <= {"exit", "success"}
        for hook in ("exit", "success"):
            await described(person, f"{run}-{hook}")
        runs = await person.List(cp.ListRequest(kind="Run"))
        assert len(runs.objects) == 3


async def test_a_hook_is_not_forgotten_by_a_hub_that_is_killed(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is due stands in the run: the next hub finds it."""

    async def killed(*_: object) -> None:
        raise EtcdError("the hub is about to be killed")

    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await apply(person, WITH_HOOKS)
        with monkeypatch.context() as patched:
            patched.setattr("control_plane.api.submitting.Submissions.submit_hook", killed)
            run = (await submit(person)).run.name
            for agent in (edge, cloud):
                await agent.end(await agent.assigned(run), m.FRAGMENT_STATE_SUCCEEDED)
            assert set((await until(person, run, m.RUN_STATE_SUCCEEDED)).hooks_due) == {"exit", "success"}
            await hub.crash()
        await hub.start()
        for hook in ("exit", "success"):
            assert (await described(person, f"{run}-{hook}")).hook_of == run
