"""The hub's part of reserving over real etcd and real gRPC: orders, answers, the commit, and taking back."""

from __future__ import annotations

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import RunningHub, apply
from tests.hub.objects import ALL
from tests.hub.test_runs import submit, until

RESERVED = m.DESIRED_STATE_RESERVED
HOLDING = ALL.replace("  outputs: {result", "  policy: {reserve: hold}\n  outputs: {result")


async def answer(agent: FakeAgent, fragment: m.Fragment, reason: str = "") -> None:
    told = f.ReservationAnswer(
        namespace=fragment.namespace, run=fragment.run, epoch=fragment.epoch, reserved=not reason, reason=reason
    )
    await agent.say(reservation=told)


async def ready(person: ControlPlaneServiceStub, *agents: FakeAgent) -> None:
    for agent in agents:
        await agent.beat(cp.NodeStatus(name="n1", ready=True, cpus=2, data_address="127.0.0.1:99"))
    await apply(person, HOLDING)


def slots(fragment: m.Fragment) -> dict[str, int]:
    return {
        step.name: share.slots
        for step in fragment.steps
        for share in step.executors
        if share.cluster == fragment.cluster and share.slots
    }


async def test_a_run_starts_once_all_of_its_clusters_hold_its_slots(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await ready(person, edge, cloud)
        submitted = (await submit(person)).run
        assert submitted.state == m.RUN_STATE_QUEUED
        orders = [await agent.assigned(submitted.name, RESERVED) for agent in (edge, cloud)]
        assert [slots(order) for order in orders] == [{"count": 2}, {"total": 1}]
        assert edge.held["default", submitted.name].time_to_live == 10.0
        await answer(edge, orders[0])
        await edge.acked()
        assert cloud.held["default", submitted.name].desired == RESERVED, "half is nothing"
        await answer(cloud, orders[1])
        committed = [await agent.assigned(submitted.name) for agent in (edge, cloud)]
        assert [each.epoch for each in committed] == [order.epoch for order in orders]
        assert (await until(person, submitted.name, m.RUN_STATE_RUNNING)).started_at


async def test_a_denial_takes_all_orders_back_and_is_tried_again_when_there_is_room(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await ready(person, edge, cloud)
        run = (await submit(person)).run.name
        first = [await agent.assigned(run, RESERVED) for agent in (edge, cloud)]
        await answer(edge, first[0])
        await answer(cloud, first[1], "cloud lacks slots for 1 of total: run other holds 2 of work")
        for agent in (edge, cloud):
            await agent.until(lambda agent=agent: ("default", run) not in agent.held, "for the order to be taken back")  # type: ignore[misc]
        waiting = await until(person, run, m.RUN_STATE_QUEUED)
        assert "run other holds 2 of work" in waiting.message
        await answer(edge, first[0])  # late, of an attempt that is over
        await cloud.say(freed=f.SlotsFreed())
        again = [await agent.assigned(run, RESERVED) for agent in (edge, cloud)]
        assert all(order.epoch > first[0].epoch for order in again)
        for agent, order in zip((edge, cloud), again, strict=True):
            await answer(agent, order)
        await until(person, run, m.RUN_STATE_RUNNING)


async def test_a_hub_that_starts_anew_goes_on_with_what_is_queued(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await ready(person, edge, cloud)
        run = (await submit(person)).run.name
        order = await edge.assigned(run, RESERVED)
        await answer(edge, order)
        await edge.acked()
    await hub.crash()
    await hub.start()
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud, hub.person() as somebody:
        for agent in (edge, cloud):
            await agent.beat(cp.NodeStatus(name="n1", ready=True, cpus=2))
            await answer(agent, await agent.assigned(run, RESERVED))
        await until(somebody, run, m.RUN_STATE_RUNNING)


async def test_cancelling_a_queued_run_takes_its_orders_back(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await ready(person, edge, cloud)
        run = (await submit(person)).run.name
        await answer(edge, await edge.assigned(run, RESERVED))
        cancelled = await person.CancelRun(cp.CancelRunRequest(namespace="default", run=run))
        assert cancelled.run.state == m.RUN_STATE_CANCELLED
        for agent in (edge, cloud):
            await agent.until(lambda agent=agent: ("default", run) not in agent.held, "for the order to be taken back")  # type: ignore[misc]
