"""Hub and agents are upgraded one after the other, in any order: with one release between them they work together."""

from __future__ import annotations

import grpc
import pytest
from structlog.testing import capture_logs

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import RunningHub, apply
from tests.hub.objects import ALL
from tests.hub.test_runs import submit, until
from wire.versions import SESSION, Versions

NOW = SESSION.newest
NEXT = Versions(NOW, NOW + 1)
AFTER_NEXT = Versions(NOW + 1, NOW + 2)


def upgrade(monkeypatch: pytest.MonkeyPatch, to: Versions) -> None:
    """The hub is of a later release from now on."""
    monkeypatch.setattr("control_plane.federation.service.SESSION", to)


@pytest.mark.parametrize(
    ("hub_speaks", "edge_speaks", "spoken"),
    [
        pytest.param(NEXT, SESSION, NOW, id="the hub is upgraded first"),
        pytest.param(SESSION, NEXT, NOW, id="an agent is upgraded first"),
        pytest.param(NEXT, NEXT, NOW + 1, id="both are upgraded"),
    ],
)
async def test_a_run_goes_through_with_one_release_between_hub_and_agent(
    hub: RunningHub,
    person: ControlPlaneServiceStub,
    monkeypatch: pytest.MonkeyPatch,
    hub_speaks: Versions,
    edge_speaks: Versions,
    spoken: int,
) -> None:
    upgrade(monkeypatch, hub_speaks)
    await apply(person, ALL)
    async with FakeAgent(hub, "edge", speaks=edge_speaks) as edge, FakeAgent(hub, "cloud") as cloud:
        assert edge.welcome is not None
        assert edge.welcome.protocol == spoken
        run = (await submit(person)).run.name
        for agent in (edge, cloud):
            await agent.end(await agent.assigned(run))
        await until(person, run, m.RUN_STATE_SUCCEEDED)


async def test_a_hub_is_upgraded_under_a_run(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(person, ALL)
    edge = FakeAgent(hub, "edge")
    async with FakeAgent(hub, "cloud") as cloud, edge:
        run = (await submit(person)).run.name
        await edge.assigned(run)
        await cloud.end(await cloud.assigned(run))
        await cloud.acked()
    await hub.stop()
    upgrade(monkeypatch, NEXT)
    await hub.start()
    async with edge, hub.person() as again:
        await edge.end(edge.held["default", run].fragment)
        await until(again, run, m.RUN_STATE_SUCCEEDED)


@pytest.mark.parametrize(
    ("hub_speaks", "agent_speaks"),
    [
        pytest.param(AFTER_NEXT, SESSION, id="an agent that is too old"),
        pytest.param(SESSION, AFTER_NEXT, id="an agent that is too new"),
        pytest.param(SESSION, Versions(0, 0), id="an agent that names none"),
        pytest.param(SESSION, Versions(NOW + 1, NOW), id="an agent that names what can't be"),
    ],
)
async def test_an_agent_with_which_nothing_is_in_common_is_refused_and_both_are_told(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, hub_speaks: Versions, agent_speaks: Versions
) -> None:
    upgrade(monkeypatch, hub_speaks)
    with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError, match="upgrade the older of the two") as caught:
        await FakeAgent(hub, "edge", speaks=agent_speaks).connect()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    (refused,) = [log for log in logs if log["event"] == "a caller was refused"]
    assert refused["sender"].startswith("ipv4:127.0.0.1:")
    assert f"speaks version {hub_speaks} of sessions, the agent of edge {agent_speaks}" in refused["reason"]


async def test_what_the_hub_does_not_understand_is_not_acked(hub: RunningHub) -> None:
    async with FakeAgent(hub, "edge") as edge:
        with capture_logs() as logs:
            await edge.say_soft(seq=1)  # a kind of frame that comes later than this hub
            await edge.until(lambda: edge.ended is not None, "for the end")
    assert any("does not understand" in log["event"] and log["cluster"] == "edge" for log in logs)
    async with edge:
        assert edge.welcome is not None
        assert edge.welcome.received == 0
        await edge.say(freed=f.SlotsFreed())
        await edge.acked()
