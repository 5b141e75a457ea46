"""An agent's session is that of its certificate, and what was heard once is not heard again."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import RunningHub, apply
from tests.hub.objects import ALL
from tests.hub.test_runs import output, submit, until
from wire.identity import Role


async def test_a_session_that_is_played_again_changes_nothing(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    """All frames of a session, by somebody with the agent's certificate and log, after it has ended."""
    await apply(person, ALL)
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        run = (await submit(person)).run.name
        await edge.end(await edge.assigned(run))
        fragment = await cloud.assigned(run)
        spoken = [{"output": cloud.status(fragment, m.FRAGMENT_STATE_RUNNING, outputs=[output(1)])}]
        spoken.append({"ended": cloud.status(fragment, m.FRAGMENT_STATE_SUCCEEDED, outputs=[output(1)])})
        for frame in spoken:
            await cloud.say(**frame)
        await cloud.acked()
        ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
    async with FakeAgent(hub, "cloud") as again:
        assert again.welcome is not None
        assert again.welcome.received == len(spoken)
        for seq, frame in enumerate(spoken, 1):
            await again.say_soft(seq=seq, **frame)
        await again.say_soft(seq=len(spoken) + 1, freed=f.SlotsFreed())
        await again.until(lambda: any(frame.ack == len(spoken) + 1 for frame in again.frames), "for the ack")
        assert await until(person, run, m.RUN_STATE_SUCCEEDED) == ended


async def test_another_cluster_s_certificate_opens_no_session(hub: RunningHub) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="not of cluster cloud") as caught:
        await FakeAgent(hub, "edge").connect(as_cluster="cloud")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(("role", "name"), [(Role.USER, "ada"), (Role.NODE, "edge/n1"), (Role.HUB, "hub")])
async def test_nor_does_that_of_another_kind_of_member(hub: RunningHub, role: Role, name: str) -> None:
    async with hub.members.channel(hub.address, role, name) as channel:
        session = FederationServiceStub(channel).Session()
        await session.write(f.SessionRequest(hello=f.AgentHello(cluster="edge", protocol=1, protocol_min=1)))
        assert await session.code() is grpc.StatusCode.PERMISSION_DENIED
