"""A lost cluster's part goes to others by one conditional write, and what it says later counts no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import STEP
from tests.hub.test_runs import output, submit, until
from wire.lines import line_name

OBJECTS = (
    """
kind: Topology
metadata: {name: four}
spec:
  zones: [{name: here, tier: edge}, {name: between, tier: fog}, {name: there, tier: cloud}]
  clusters:
    - {name: edge, zone: here, nodes: [{name: n1, cpus: 2}]}
    - {name: fog1, zone: between, nodes: [{name: n1, cpus: 2}]}
    - {name: fog2, zone: between, nodes: [{name: n1, cpus: 1}]}
    - {name: cloud, zone: there, nodes: [{name: n1, cpus: 2}]}
  links:
    - {between: [here, between], bandwidth: 10Mbit, latency: 1ms}
    - {between: [between, there], bandwidth: 10Mbit, latency: 5ms}
    - {between: [here, there], bandwidth: 10Mbit, latency: 5ms}
  datasets: [{name: rows, parts: [{at: edge, path: rows.csv, size: 1000}]}]
---
"""
    + STEP
    + """
---
kind: Workflow
metadata: {name: counting}
spec:
  inputs: {rows: {dataset: rows}}
  steps:
    - {name: count, use: count@1, in: {rows: {from: inputs.rows, split: {count: 3}}}, place: {tier: fog}}
    - {name: total, use: count@1, in: {rows: {from: count.total, gather: all}}, place: {tier: cloud}}
  outputs: {result: {from: total.total, file: total.txt}}
  policy: {disconnect: {lost_after: 1s, replace: true}}
"""
)
KEPT = OBJECTS[OBJECTS.rindex("kind: Workflow") :].replace("name: counting", "name: as-it-was")
OBJECTS += "---\n" + KEPT.replace("replace: true", "replace: true, keep: original")
RUNNING = m.RUN_STATE_RUNNING
Agents = dict[str, FakeAgent]


@pytest.fixture
async def agents(hub: RunningHub, person: ControlPlaneServiceStub) -> AsyncIterator[Agents]:
    """All four are connected, and know their topology."""
    found = {name: FakeAgent(hub, name) for name in ("edge", "fog1", "fog2", "cloud")}
    await apply(person, OBJECTS)
    try:
        for agent in found.values():
            await agent.connect()
            await agent.beat(cp.NodeStatus(name="n1", ready=True, cpus=2))
        yield found
    finally:
        for agent in found.values():
            await agent.disconnect()


async def begun(person: ControlPlaneServiceStub, agents: Agents) -> tuple[str, dict[str, m.Fragment]]:
    run = (await submit(person)).run.name
    fragments = {name: await agents[name].assigned(run) for name in agents}
    return run, fragments


async def begun_again(agents: Agents, run: str, older: dict[str, m.Fragment]) -> dict[str, m.Fragment]:
    """The newer fragments of these clusters."""
    name = ("default", run)
    for cluster, fragment in older.items():
        agent = agents[cluster]
        await agent.until(lambda agent=agent, old=fragment.epoch: agent.held[name].fragment.epoch > old, "for a newer")  # type: ignore[misc]
    return {cluster: agents[cluster].held[name].fragment for cluster in older}


async def told_to_forget(agent: FakeAgent, run: str) -> None:
    """Wait until the hub has said so; once that is acked it says no more of the run."""

    def told() -> bool:
        frames = [frame for frame in agent.frames if frame.WhichOneof("kind") in ("assign", "assignments")]
        wanted = [each for frame in frames for each in (frame.assign, *frame.assignments.assignments)]
        return any(each.fragment.run == run and each.desired == m.DESIRED_STATE_FORGOTTEN for each in wanted)

    await agent.until(told, f"to be told to forget {run}")


async def message_of(person: ControlPlaneServiceStub, run: str, *parts: str) -> None:
    """Wait until the run says this."""
    async with asyncio.timeout(SECONDS):
        async for change in person.WatchRun(cp.WatchRunRequest(namespace="default", run=run)):
            if all(part in change.run.message for part in parts) and (parts or not change.run.message):
                return
    raise AssertionError("the watch ended")


async def test_the_part_of_a_lost_cluster_goes_to_another(
    hub: RunningHub, person: ControlPlaneServiceStub, agents: Agents
) -> None:
    run, old = await begun(person, agents)
    await agents["cloud"].say(
        output=agents["cloud"].status(old["cloud"], m.FRAGMENT_STATE_RUNNING, outputs=[output(1)])
    )
    await agents["cloud"].acked()
    await agents["fog1"].disconnect()
    left = {cluster: old[cluster] for cluster in ("edge", "fog2", "cloud")}
    new = await begun_again(agents, run, left)
    assert {fragment.revision for fragment in new.values()} == {2}
    for fragment in new.values():
        assert set(fragment.epochs) == {"edge", "fog2", "cloud"}
        assert {share.cluster for step in fragment.steps if step.name == "count" for share in step.executors} == {
            "fog2"
        }
    await agents["fog1"].end(old["fog1"], m.FRAGMENT_STATE_FAILED)
    await agents["fog1"].connect()
    await agents["fog1"].acked()
    await told_to_forget(agents["fog1"], run)
    await agents["edge"].end(old["edge"])  # a late word of the older epoch
    for cluster in ("edge", "fog2"):
        await agents[cluster].end(new[cluster])
    await agents["cloud"].end(new["cloud"], outputs=[output(2)])
    ended = await until(person, run, m.RUN_STATE_SUCCEEDED, m.RUN_STATE_FAILED)
    assert ended.state == m.RUN_STATE_SUCCEEDED
    assert [made.unit.id[0] for made in ended.outputs] == [2], "an output of the older revision is seen"
    assert list(ended.replaced) == ["fog1"]


async def test_who_is_lost_with_its_last_words_is_replaced_though_its_part_has_ended(
    person: ControlPlaneServiceStub, agents: Agents
) -> None:
    run, old = await begun(person, agents)
    for cluster in ("edge", "fog1"):
        await agents[cluster].end(old[cluster], unheard=["cloud"])
    await agents["edge"].say(heard=f.FragmentHeard(namespace="default", run=run, epoch=old["edge"].epoch))
    for cluster in ("edge", "fog1"):
        await agents[cluster].acked()
    async with asyncio.timeout(SECONDS):
        async for change in person.WatchRun(cp.WatchRunRequest(namespace="default", run=run)):
            parts = change.run.fragments
            if (list(parts["edge"].unheard), list(parts["fog1"].unheard)) == ([], ["cloud"]):
                break
    await agents["fog1"].disconnect()
    new = await begun_again(agents, run, {cluster: old[cluster] for cluster in ("edge", "fog2", "cloud")})
    for cluster, fragment in new.items():
        await agents[cluster].end(fragment)
    assert list((await until(person, run, m.RUN_STATE_SUCCEEDED)).replaced) == ["fog1"]


async def test_a_cluster_that_is_back_in_time_is_not_replaced(person: ControlPlaneServiceStub, agents: Agents) -> None:
    run, old = await begun(person, agents)
    await agents["fog1"].disconnect()
    await agents["fog1"].connect()
    for cluster in old:
        await agents[cluster].end(old[cluster])
    ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
    assert ended.plan_revision == 1


async def test_a_run_waits_for_a_cluster_whose_data_lies_nowhere_else_and_says_so(
    person: ControlPlaneServiceStub, agents: Agents
) -> None:
    run, old = await begun(person, agents)
    await agents["edge"].disconnect()
    await message_of(person, run, "edge can't be replaced", "inputs.rows")
    await agents["edge"].connect()
    await message_of(person, run)
    for cluster in old:
        await agents[cluster].end(old[cluster])
    assert (await until(person, run, m.RUN_STATE_SUCCEEDED)).plan_revision == 1


async def test_what_can_not_be_replaced_is_said_at_submission(person: ControlPlaneServiceStub, agents: Agents) -> None:
    submitted = await submit(person, dry_run=True)
    [warning] = [each for each in submitted.plan.warnings if "replaced" in each]
    assert warning.startswith("edge can't be replaced if it is lost: inputs.rows")


async def test_a_cancellation_reaches_the_newer_fragments(person: ControlPlaneServiceStub, agents: Agents) -> None:
    run, old = await begun(person, agents)
    await agents["fog1"].disconnect()
    new = await begun_again(agents, run, {cluster: old[cluster] for cluster in ("edge", "fog2", "cloud")})
    await person.CancelRun(cp.CancelRunRequest(namespace="default", run=run))
    for cluster, fragment in new.items():
        assert (await agents[cluster].assigned(run, m.DESIRED_STATE_CANCELLED)).epoch == fragment.epoch
        await agents[cluster].end(fragment, m.FRAGMENT_STATE_CANCELLED)
    assert (await until(person, run, m.RUN_STATE_CANCELLED)).state == m.RUN_STATE_CANCELLED


async def test_a_run_begins_again_with_a_cluster_whose_log_is_gone(
    hub: RunningHub, person: ControlPlaneServiceStub, agents: Agents
) -> None:
    """Also where the cluster's part had ended: what others still need of it is lost with its log."""
    run, old = await begun(person, agents)
    await agents["edge"].end(old["edge"])
    await agents["edge"].acked()
    await agents["edge"].disconnect()
    async with FakeAgent(hub, "edge", log_id=b"another log") as edge:
        await edge.beat(cp.NodeStatus(name="n1", ready=True, cpus=2))
        others = {cluster: fragment for cluster, fragment in old.items() if cluster != "edge"}
        new = await begun_again(agents, run, others)
        new["edge"] = await edge.assigned(run)
        assert {fragment.revision for fragment in new.values()} == {2}
        assert new["edge"].epoch > old["edge"].epoch
        await message_of(person, run, "began again", "edge: its coordinator has lost its log")
        await edge.end(new["edge"])
        for cluster in others:
            await agents[cluster].end(new[cluster])
        assert (await until(person, run, m.RUN_STATE_SUCCEEDED, m.RUN_STATE_FAILED)).state == m.RUN_STATE_SUCCEEDED


async def beside(person: ControlPlaneServiceStub, agents: Agents) -> tuple[str, dict[str, m.Fragment], Agents]:
    """A run whose policy comes back to the original, after fog1 was lost; the original's fragments, and who is left."""
    submitted = await person.Submit(cp.SubmitRequest(namespace="default", workflow="as-it-was"))
    run = submitted.run.name
    old = {name: await agents[name].assigned(run) for name in agents}
    await agents["fog1"].disconnect()
    left = {name: agent for name, agent in agents.items() if name != "fog1"}
    for agent in left.values():
        assert (await agent.assigned(line_name(run, 2))).revision == 2
        assert agent.held["default", run].desired == m.DESIRED_STATE_RUNNING, "the original was stopped"
    return run, old, left


async def test_the_original_counts_once_its_clusters_are_back(person: ControlPlaneServiceStub, agents: Agents) -> None:
    run, old, left = await beside(person, agents)
    line = line_name(run, 2)
    second = left["cloud"].held["default", line].fragment
    await left["cloud"].say(output=left["cloud"].status(second, m.FRAGMENT_STATE_RUNNING, outputs=[output(2)]))
    await left["cloud"].acked()
    await agents["fog1"].connect()
    await agents["fog1"].say_soft(progress=agents["fog1"].status(old["fog1"], m.FRAGMENT_STATE_RUNNING))
    for agent in left.values():
        await told_to_forget(agent, line)
    await message_of(person, run, "goes on as it was", "fog1 is back")
    for name in ("edge", "fog1", "fog2"):
        await agents[name].end(old[name])
    await agents["cloud"].end(old["cloud"], outputs=[output(1)])
    ended = await until(person, run, m.RUN_STATE_SUCCEEDED, m.RUN_STATE_FAILED)
    assert (ended.state, ended.line, list(ended.replaced)) == (m.RUN_STATE_SUCCEEDED, "", [])
    assert [made.unit.id[0] for made in ended.outputs] == [1], "an output of the other line is seen"


async def test_a_line_that_ends_before_is_the_result_and_the_late_are_told(
    person: ControlPlaneServiceStub, agents: Agents
) -> None:
    run, old, left = await beside(person, agents)
    line = line_name(run, 2)
    new = {name: left[name].held["default", line].fragment for name in left}
    await left["cloud"].end(old["cloud"], outputs=[output(1)])
    for name in ("edge", "fog2"):
        await left[name].end(new[name])
    await left["cloud"].end(new["cloud"], outputs=[output(2)])
    ended = await until(person, run, m.RUN_STATE_SUCCEEDED, m.RUN_STATE_FAILED)
    assert (ended.state, ended.line, list(ended.replaced)) == (m.RUN_STATE_SUCCEEDED, line, ["fog1"])
    assert [made.unit.id[0] for made in ended.outputs] == [2], "an output of the other line is seen"
    for agent in left.values():
        await told_to_forget(agent, run)
    await agents["fog1"].end(old["fog1"], outputs=[output(3)])
    await agents["fog1"].connect()
    await agents["fog1"].acked()
    await told_to_forget(agents["fog1"], run)
    assert await until(person, run, m.RUN_STATE_SUCCEEDED) == ended


async def test_no_run_has_a_name_of_a_line(person: ControlPlaneServiceStub, agents: Agents) -> None:
    for name in (line_name("counting", 2), "r" * 59):
        with pytest.raises(grpc.aio.AioRpcError, match="can't name a run") as refused:
            await submit(person, run=name)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
