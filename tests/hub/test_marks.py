"""What operators want of a cluster holds for plans and for what goes on, over hubs, and is told with who wants it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import grpc
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, asked_until
from tests.hub.test_replacing import Agents, agents, begun, begun_again, told_to_forget
from tests.hub.test_runs import submit, until
from wire.identity import Role

__all__ = ["agents"]
DRAINED = [cp.ClusterTaint(key="cordoned", effect="NoSchedule"), cp.ClusterTaint(key="draining", effect="NoExecute")]


async def mark(
    person: ControlPlaneServiceStub,
    cluster: str,
    put: Sequence[cp.ClusterTaint] = (),
    take: Sequence[str] = (),
    empty_by: float = 0.0,
) -> cp.MarkClusterResponse:
    request = cp.MarkClusterRequest(cluster=cluster, put=put, take=take, empty_by=empty_by)
    response: cp.MarkClusterResponse = await person.MarkCluster(request, timeout=SECONDS)
    return response


async def counting(person: ControlPlaneServiceStub) -> set[str]:
    """The clusters that a plan would give the step that several may execute."""
    plan = (await submit(person, dry_run=True)).plan
    return {share.cluster for step in plan.steps if step.step == "count" for share in step.shares}


async def until_counting(person: ControlPlaneServiceStub, *clusters: str) -> None:
    await asked_until(lambda: counting(person), lambda found: found == set(clusters))


async def test_nothing_new_is_planned_to_a_cordoned_cluster_until_it_is_not(
    hub: RunningHub, person: ControlPlaneServiceStub, agents: Agents
) -> None:
    await until_counting(person, "fog1", "fog2")
    marked = await mark(person, "fog1", DRAINED[:1])
    assert [(taint.key, taint.by) for taint in marked.marks.taints] == [("cordoned", "ada")]
    await until_counting(person, "fog2")
    shown = {each.name: each for each in (await person.Status(cp.StatusRequest())).clusters}
    assert [taint.key for taint in shown["fog1"].taints] == ["cordoned"]
    await hub.stop()
    await hub.start()
    for agent in agents.values():
        await agent.disconnect()
        await agent.connect()
    await until_counting(person, "fog2")
    await mark(person, "fog1", take=["cordoned"])
    await until_counting(person, "fog1", "fog2")


async def test_a_drained_cluster_hears_of_it_and_its_runs_are_named(
    person: ControlPlaneServiceStub, agents: Agents
) -> None:
    run, old = await begun(person, agents)
    marked = await mark(person, "fog1", DRAINED)
    assert list(marked.runs) == [f"default/{run}"]
    fog = agents["fog1"]
    await fog.until(lambda: fog.peers is not None and list(fog.peers.no_execute) == ["draining="], "for the taint")
    await mark(person, "fog1", take=["draining"])
    await fog.until(lambda: fog.peers is not None and not fog.peers.no_execute, "for its end")
    await fog.end(old["fog1"])
    await fog.acked()
    await asked_until(lambda: mark(person, "fog1"), lambda marked: not marked.runs)


async def test_a_run_begins_again_without_a_cluster_that_should_be_empty(
    person: ControlPlaneServiceStub, agents: Agents
) -> None:
    run, old = await begun(person, agents)
    await mark(person, "fog1", DRAINED, empty_by=time.time())
    new = await begun_again(agents, run, {cluster: old[cluster] for cluster in ("edge", "fog2", "cloud")})
    await told_to_forget(agents["fog1"], run)
    assert not (await mark(person, "fog1")).runs
    for cluster, fragment in new.items():
        await agents[cluster].end(fragment)
    assert list((await until(person, run, m.RUN_STATE_SUCCEEDED)).replaced) == ["fog1"]


async def test_a_cluster_whose_data_lies_nowhere_else_works_on_though_it_should_be_empty(
    person: ControlPlaneServiceStub, agents: Agents
) -> None:
    run, old = await begun(person, agents)
    await mark(person, "edge", DRAINED, empty_by=time.time())
    for cluster, fragment in old.items():
        await agents[cluster].end(fragment)
    ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
    assert ended.plan_revision == 1


@pytest.mark.parametrize(
    ("cluster", "taint", "code", "words"),
    [
        ("nowhere", cp.ClusterTaint(key="a", effect="NoSchedule"), grpc.StatusCode.NOT_FOUND, "known are: cloud, edge"),
        ("edge", cp.ClusterTaint(key="a", effect="Never"), grpc.StatusCode.INVALID_ARGUMENT, "NoExecute"),
        ("edge", cp.ClusterTaint(effect="NoSchedule"), grpc.StatusCode.INVALID_ARGUMENT, "expected a key"),
    ],
)
async def test_what_can_not_be_marked_is_refused_with_the_reason(
    person: ControlPlaneServiceStub,
    agents: Agents,
    cluster: str,
    taint: cp.ClusterTaint,
    code: grpc.StatusCode,
    words: str,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await mark(person, cluster, [taint])
    assert refused.value.code() is code
    assert words in (refused.value.details() or "")


async def test_only_people_mark_clusters(hub: RunningHub, agents: Agents) -> None:
    async with hub.members.channel(hub.address, Role.AGENT, "edge") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await mark(ControlPlaneServiceStub(channel), "fog1", DRAINED)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert isinstance(agents["edge"], FakeAgent)
