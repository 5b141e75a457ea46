"""Neither etcd's death nor the hub's own loses a word or an agent's work."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import grpc
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.fixtures.etcd import EtcdServer
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import ALL, TOPOLOGY
from tests.hub.test_runs import output, submit, until


@pytest.fixture
def empty_server(own_server: EtcdServer) -> EtcdServer:
    """One that can be broken."""
    return own_server


@pytest.fixture
async def begun(hub: RunningHub, person: ControlPlaneServiceStub) -> AsyncIterator[tuple[FakeAgent, FakeAgent, str]]:
    """A run that both agents have accepted."""
    await apply(person, ALL)
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        run = (await submit(person)).run.name
        for agent in (edge, cloud):
            fragment = await agent.assigned(run)
            await agent.say(accepted={"namespace": "default", "run": run, "epoch": fragment.epoch})
            await agent.acked()
        yield edge, cloud, run


async def test_while_etcd_is_away_sessions_stay_and_acks_wait(
    own_server: EtcdServer, person: ControlPlaneServiceStub, begun: tuple[FakeAgent, FakeAgent, str]
) -> None:
    edge, cloud, run = begun
    watch = person.WatchRun(cp.WatchRunRequest(run=run))
    await asyncio.wait_for(watch.read(), SECONDS)
    await own_server.etcd.stop(signal.SIGKILL)
    fragment = edge.held["default", run].fragment
    done = edge.status(fragment, m.FRAGMENT_STATE_RUNNING, steps=[m.StepProgress(step="count", done=3)])
    await edge.say_soft(progress=done)
    async with asyncio.timeout(SECONDS):  # what is of the moment goes on
        while not (change := await watch.read()).run.fragments["edge"].steps:
            pass
    assert change.run.fragments["edge"].steps[0].done == 3
    await edge.end(fragment)
    await cloud.end(cloud.held["default", run].fragment, outputs=[output(1)])
    assert (edge.unacked, cloud.unacked) == (1, 1)
    await own_server.etcd.start()
    ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
    assert len(ended.outputs) == 1
    for agent in (edge, cloud):
        await agent.acked()
        await agent.assigned(run, m.DESIRED_STATE_FINISHED)
        assert agent.ended is None
    watch.cancel()


async def test_a_write_of_a_person_waits_for_etcd(own_server: EtcdServer, person: ControlPlaneServiceStub) -> None:
    await apply(person, TOPOLOGY)
    await own_server.etcd.stop(signal.SIGKILL)
    applying = asyncio.create_task(apply(person, TOPOLOGY.replace("10Mbit", "20Mbit")))
    await own_server.etcd.start()
    assert (await applying).applied[0].object.revision == 2


async def test_a_hub_that_starts_anew_goes_on_where_it_was(
    hub: RunningHub, begun: tuple[FakeAgent, FakeAgent, str]
) -> None:
    edge, cloud, run = begun
    hub_id = edge.welcome.hub_id if edge.welcome else b""
    await hub.crash()
    for agent in (edge, cloud):
        await agent.until(lambda agent=agent: agent.ended is not None, "for the end of the stream")
        await agent.disconnect()
    fragment = cloud.held["default", run].fragment
    await cloud.say(output=cloud.status(fragment, m.FRAGMENT_STATE_RUNNING, outputs=[output(1)]))
    await cloud.end(fragment, outputs=[output(1)])
    await edge.end(edge.held["default", run].fragment)
    await hub.start()
    async with hub.person() as person:
        states = {c.name: c.state for c in (await person.Status(cp.StatusRequest())).clusters}
        assert states == {"edge": "not-ready", "cloud": "not-ready"}
        await edge.connect()
        await cloud.connect()
        assert edge.welcome is not None
        assert edge.welcome.hub_id != hub_id
        assert edge.welcome.received == 1
        ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
        assert len(ended.outputs) == 1
        located = await person.Outputs(cp.OutputsRequest(run=run))
        assert len(located.outputs) == 1
        await edge.assigned(run, m.DESIRED_STATE_FINISHED)


async def test_a_word_whose_ack_was_lost_is_not_taken_twice(
    hub: RunningHub, person: ControlPlaneServiceStub, begun: tuple[FakeAgent, FakeAgent, str]
) -> None:
    edge, _, run = begun
    await edge.end(edge.held["default", run].fragment)
    await edge.acked()
    fragment = edge.held["default", run].fragment
    await edge.disconnect()
    edge.forget_acks(1)  # as if the acks had been lost with the connection, and said the word otherwise
    await edge.end(fragment, m.FRAGMENT_STATE_FAILED)
    await edge.connect()
    shown = await until(person, run, m.RUN_STATE_RUNNING)
    assert shown.fragments["edge"].state == m.FRAGMENT_STATE_SUCCEEDED


async def test_a_crash_while_a_run_is_handed_out_ends_it(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit into one transaction is handed out in turn; half of it is no run."""
    await apply(person, ALL)
    monkeypatch.setattr("control_plane.kinds.MOST_OPERATIONS", 3)
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        whole = (await submit(person)).run
        assert whole.state == m.RUN_STATE_RUNNING
        await edge.assigned(whole.name)
        await cloud.assigned(whole.name)

        async def broken(*_: object) -> None:
            raise grpc.aio.UsageError("the hub dies here")

        monkeypatch.setattr("control_plane.runs.driver.hand_out", broken)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await submit(person, run="half")
    monkeypatch.undo()
    await hub.crash()
    hub.lease = 1.0  # after which the next one takes the first for dead
    await hub.start()
    async with hub.person() as again:
        ended = await until(again, "half", m.RUN_STATE_FAILED)
        assert "submit it again" in ended.message
        assert (await until(again, whole.name, m.RUN_STATE_RUNNING)).name == whole.name
