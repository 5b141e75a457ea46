"""An agent's session is that of its certificate, and what was heard once is not heard again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import peer_pb2 as p
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from control_plane.federation.errors import AgentUnreachable
from control_plane.federation.feed import Change, Subscription
from control_plane.federation.session import AgentSession, Office
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
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


async def test_an_agent_that_never_listens_is_left_and_comes_back(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives and beats, so no keepalive finds it out."""
    monkeypatch.setattr("control_plane.federation.session._STALLED_SECONDS", 0.5)
    large = f.PeerRelay(from_cluster="cloud", to_cluster="edge", frame=p.PeerFrame(log_id=b"x" * (1 << 20)))
    with capture_logs() as logs:
        async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
            edge.listens.clear()
            async with asyncio.timeout(SECONDS):
                while not any(log["event"] == "an agent's session was ended: it is not read" for log in logs):
                    await cloud.say_soft(relay=large)
            await cloud.say(freed=f.SlotsFreed())
            await cloud.acked()
    async with FakeAgent(hub, "edge") as again:
        await again.say(freed=f.SlotsFreed())
        await again.acked()
    assert [log["cluster"] for log in logs if "is not read" in log["event"]] == ["edge"]


class Deaf:
    """The hub's end of a stream whose agent says nothing and takes nothing after the welcome."""

    def __init__(self) -> None:
        self.welcomed = False
        self.stuck = asyncio.Event()

    async def read(self) -> object:
        return await asyncio.Event().wait()

    async def write(self, message: f.SessionResponse) -> None:
        if message.HasField("welcome"):
            return
        self.stuck.set()
        await asyncio.Event().wait()


async def nothing_wanted() -> AsyncIterator[Change]:
    await asyncio.Event().wait()
    yield Change()


async def test_questions_to_an_agent_that_does_not_listen_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.federation.session._SOFT_WAITING", 5)
    hello = f.AgentHello(cluster="edge")
    wanted = cast(Subscription, nothing_wanted())
    office = cast(Office, SimpleNamespace(delivered=None))  # nothing is said to it
    session = AgentSession(hello, 0, hub_id=b"h", received=0, office=office, assignments=wanted)

    async def ask() -> None:
        with pytest.raises(AgentUnreachable):
            async for _ in session.queries.ask(f.Query()):
                pass

    deaf = Deaf()
    with capture_logs() as logs:
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as asking:
            serving = asking.create_task(session.run(deaf, f.HubWelcome()))
            asking.create_task(ask())
            await deaf.stuck.wait()
            for _ in range(20):
                asking.create_task(ask())
            await serving
    assert [log["event"] for log in logs] == ["an agent's session was ended: it is not read"]
    assert len(session._soft) == 5
