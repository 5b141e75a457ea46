"""Hubs that share an etcd: it does not matter to which of them an agent or a person is connected, and any may die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import hub_pb2 as h
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import peer_pb2 as p
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from bdw_fed.v1.hub_pb2_grpc import HubServiceStub
from control_plane.federation.elsewhere import Elsewhere
from control_plane.kinds import Kinds
from control_plane.store.etcd.client import Client
from control_plane.store.repository import Store
from tests.fixtures.etcd import EtcdServer
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, Members, RunningHub, apply, asked_until
from tests.hub.objects import ALL
from tests.hub.test_details import knows
from tests.hub.test_runs import submit, until
from wire.identity import Role

Hubs = tuple[RunningHub, RunningHub]
READY = cp.NodeStatus(name="n1", ready=True, cpus=2, data_address="127.0.0.1:99")


class Together:
    """Two hubs; the edge is connected to the first, the cloud to the second."""

    def __init__(self, one: RunningHub, two: RunningHub, edge: FakeAgent, cloud: FakeAgent) -> None:
        self.one, self.two = one, two
        self.edge, self.cloud = edge, cloud


@pytest.fixture
async def hubs(
    empty_server: EtcdServer, members: Members, tmp_path: Path
) -> AsyncIterator[tuple[RunningHub, RunningHub]]:
    endpoint = empty_server.etcd.config.endpoint
    one, two = (RunningHub(members, endpoint, empty_server.tls, tmp_path / name, 0.3) for name in ("one", "two"))
    async with one, two:
        yield one, two


@pytest.fixture
async def together(hubs: Hubs) -> AsyncIterator[Together]:
    one, two = hubs
    async with FakeAgent(one, "edge") as edge, FakeAgent(two, "cloud") as cloud:
        for agent in (edge, cloud):
            await agent.beat(READY)
        async with one.person() as person:
            await apply(person, ALL)
        for hub in (one, two):
            async with hub.person() as person:
                await until_status(person, lambda of: {of.get("edge"), of.get("cloud")} == {("ready", 1)})
        yield Together(one, two, edge, cloud)


async def until_status(person: ControlPlaneServiceStub, true: Callable[[dict[str, tuple[str, int]]], bool]) -> None:
    """Wait until a hub says so of its clusters: state, and number of nodes."""
    await asked_until(
        lambda: person.Status(cp.StatusRequest()),
        lambda status: true({each.name: (each.state, len(each.nodes)) for each in status.clusters}),
    )


async def test_a_run_is_planned_handed_out_and_ended_over_agents_of_both_hubs(together: Together) -> None:
    edge, cloud = together.edge, together.cloud
    async with together.one.person() as person, together.two.person() as other:
        run = (await submit(person)).run.name
        fragments = [await agent.assigned(run) for agent in (edge, cloud)]
        for agent, fragment in zip((edge, cloud), fragments, strict=True):
            await agent.say(accepted={"namespace": "default", "run": run, "epoch": fragment.epoch, "revision": 1})
            await agent.end(fragment)
        for each in (person, other):
            assert (await until(each, run, m.RUN_STATE_SUCCEEDED)).name == run
        for agent in (edge, cloud):
            await agent.acked()
            await agent.assigned(run, m.DESIRED_STATE_FINISHED)


async def test_what_runs_have_shown_is_noted_once_though_both_hubs_hear_of_their_end(
    together: Together, empty_server: EtcdServer
) -> None:
    edge, cloud = together.edge, together.cloud
    async with Client(empty_server.config()) as client, together.one.person() as person:
        measured = Kinds(Store(client)).measured
        for number in (1, 2):
            run = (await submit(person)).run.name
            fragments = [await agent.assigned(run) for agent in (edge, cloud)]
            steps = [m.StepProgress(step="count", done=5, bytes_out=10, busy_seconds=1.0)]
            await edge.end(fragments[0], steps=steps)
            await cloud.end(fragments[1])
            await until(person, run, m.RUN_STATE_SUCCEEDED)
            async with asyncio.timeout(SECONDS):
                while True:
                    sums = [stored.value.tasks for stored in (await measured.list("default")).items]
                    if sums and sums[0] >= 5 * number:
                        break
                    await asyncio.sleep(0.02)
            assert sums == [5 * number]


async def test_questions_to_an_agent_go_by_way_of_its_hub(together: Together) -> None:
    for agent in (together.edge, together.cloud):
        knows(agent)
    async with together.one.person() as person, together.two.person() as other:
        run = (await submit(person)).run.name
        for each in (person, other):
            described = await each.DescribeRun(cp.DescribeRunRequest(run=run))
            assert sorted(task.cluster for task in described.tasks) == ["cloud", "cloud", "edge", "edge"]
            assert not described.unreachable
            logs = [part async for part in each.Logs(cp.LogsRequest(run=run))]
            assert sorted(part.data for part in logs) == [b"cloud says", b"edge says"]
            events = [part.event.cluster async for part in each.Events(cp.EventsRequest())]
            assert sorted(events) == ["cloud", "cloud", "edge", "edge"], "all that are connected anywhere are asked"


async def test_who_stops_listening_stops_the_asking_at_the_other_hub_too(together: Together) -> None:
    knows(together.cloud)
    async with together.one.person() as person:
        run = (await submit(person)).run.name
        call = person.Events(cp.EventsRequest(run=run, follow=True))
        async with asyncio.timeout(SECONDS):
            async for part in call:
                if part.event.cluster == "cloud":
                    break
        call.cancel()
        await together.cloud.until(
            lambda: any(frame.HasField("query_cancel") for frame in together.cloud.frames),
            "for its end",
        )


async def test_progress_is_seen_by_who_watches_at_the_other_hub(together: Together) -> None:
    async with together.one.person() as person:
        run = (await submit(person)).run.name
        fragment = await together.cloud.assigned(run)
        watch = person.WatchRun(cp.WatchRunRequest(run=run))
        steps = [m.StepProgress(step="total", done=7)]
        async with asyncio.timeout(SECONDS):
            await watch.read()
            status = together.cloud.status(fragment, m.FRAGMENT_STATE_RUNNING, steps=steps)
            await together.cloud.say_soft(progress=status)
            while True:
                seen = (await watch.read()).run.fragments["cloud"]
                if [step.done for step in seen.steps] == [7]:
                    break
        watch.cancel()


async def test_frames_of_peers_cross_from_hub_to_hub(together: Together) -> None:
    frames = [p.PeerFrame(cluster="edge", seq=number) for number in range(50)]
    for frame in frames:
        await together.edge.say_soft(relay=f.PeerRelay(from_cluster="edge", to_cluster="cloud", frame=frame))
    await together.cloud.until(lambda: len(together.cloud.relayed) == len(frames), "for frames")
    assert [each.frame.seq for each in together.cloud.relayed] == list(range(50))
    back = p.PeerFrame(cluster="cloud")
    await together.cloud.say_soft(relay=f.PeerRelay(from_cluster="cloud", to_cluster="edge", frame=back))
    await together.edge.until(lambda: bool(together.edge.relayed), "for a frame")


async def test_a_hub_dies_its_agent_goes_to_the_other_and_the_run_notices_nothing(together: Together) -> None:
    edge, cloud = together.edge, together.cloud
    async with together.one.person() as person:
        run = (await submit(person)).run.name
        fragments = [await agent.assigned(run) for agent in (edge, cloud)]
        await cloud.say(accepted=accepted(fragments[1]))
        await cloud.acked()
        await cloud.disconnect()
        await together.two.crash()
        await cloud.end(fragments[1])  # said to nobody yet
        moved = cloud
        moved._hub = together.one
        async with moved:
            await moved.beat(READY)
            await moved.acked()
            await edge.say(accepted=accepted(fragments[0]))
            await edge.end(fragments[0])
            ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
            assert not ended.message
            await until_status(person, lambda of: of["cloud"] == ("ready", 1))


async def test_agents_of_a_hub_that_died_are_waited_for_from_then_on(together: Together) -> None:
    async with together.one.person() as person:
        await together.two.crash()
        await until_status(person, lambda of: of["cloud"][0] == "not-ready")
        await until_status(person, lambda of: of["cloud"][0] == "unknown")
        await together.two.start()
        async with FakeAgent(together.two, "cloud") as again:
            await again.beat(READY)
            await until_status(person, lambda of: of["cloud"] == ("ready", 1))


async def test_an_agent_that_goes_to_another_hub_has_no_session_with_the_first_any_more(together: Together) -> None:
    async with FakeAgent(together.two, "edge", log_id=together.edge.log_id) as moved:
        await moved.beat(READY)
        await together.edge.until(lambda: together.edge.ended is not None, "for the end of its former session")
        async with together.one.person() as person, together.two.person() as other:
            run = (await submit(person)).run.name
            await moved.assigned(run)
            for each in (person, other):
                await until_status(each, lambda of: of["edge"] == ("ready", 1))


async def test_a_silent_agent_is_not_ready_for_both(together: Together) -> None:
    await together.cloud.stop_beating()
    async with together.one.person() as person, together.two.person() as other:
        for each in (other, person):
            await until_status(each, lambda of: of["cloud"][0] != "ready")
        await together.cloud.beat()
        for each in (other, person):
            await until_status(each, lambda of: of["cloud"][0] == "ready")


async def test_a_run_that_is_stopped_at_one_hub_waits_for_the_cluster_of_the_other(together: Together) -> None:
    async with together.one.person() as person:
        run = (await submit(person)).run.name
        fragments = [await agent.assigned(run) for agent in (together.edge, together.cloud)]
        await person.CancelRun(cp.CancelRunRequest(run=run))
        await together.edge.end(fragments[0], m.FRAGMENT_STATE_CANCELLED)
        stopping = await until(person, run, m.RUN_STATE_STOPPING)
        assert stopping.fragments["cloud"].state != m.FRAGMENT_STATE_CANCELLED, "it will say so itself"
        await together.cloud.assigned(run, m.DESIRED_STATE_CANCELLED)
        await together.cloud.end(fragments[1], m.FRAGMENT_STATE_CANCELLED)
        await until(person, run, m.RUN_STATE_CANCELLED)


async def test_an_agent_is_not_forgotten_while_it_is_connected_to_the_other_hub(together: Together) -> None:
    async with together.one.person() as person:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await person.Delete(cp.DeleteRequest(kind="Agent", name="cloud"))
        assert "is connected" in (caught.value.details() or "")
        await together.cloud.disconnect()
        await until_status(person, lambda of: of["cloud"][0] != "ready")
        await person.Delete(cp.DeleteRequest(kind="Agent", name="cloud"))
    async with together.two.person() as other:
        await until_status(other, lambda of: of["cloud"][0] == "never-seen")


async def test_heartbeats_are_told_from_hub_to_hub_and_not_written(
    together: Together, empty_server: EtcdServer
) -> None:
    async with Client(empty_server.config()) as client, together.one.person() as person:
        kinds = Kinds(Store(client))
        before = await kinds.revision()
        for workers in range(1, 20):
            busy = cp.NodeStatus()
            busy.CopyFrom(READY)
            busy.workers = workers
            await together.cloud.beat(busy)
        async with asyncio.timeout(SECONDS):
            while True:
                status = await person.Status(cp.StatusRequest())
                cloud = next(each for each in status.clusters if each.name == "cloud")
                if cloud.nodes[0].workers == 19:
                    break
                await asyncio.sleep(0.02)
        assert await kinds.revision() == before


@pytest.mark.parametrize(("role", "name"), [(Role.AGENT, "edge"), (Role.USER, "ada"), (Role.NODE, "edge/n1")])
async def test_nobody_but_a_hub_is_heard_as_one(together: Together, role: Role, name: str) -> None:
    async with together.one.members.channel(together.one.address, role, name) as channel:
        stub = HubServiceStub(channel)
        told = h.TellRequest(status=cp.ClusterStatus(name="cloud", state="unknown"))

        async def tell() -> AsyncIterator[h.TellRequest]:
            yield told

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Tell(tell())
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Ask(h.AskRequest(cluster="edge")):
                pass
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_what_a_hub_says_counts_as_long_as_it_has_the_agent_and_lives() -> None:
    elsewhere = Elsewhere(b"own")
    assert elsewhere.state("edge") is None
    assert not elsewhere.recorded("edge", b"two")
    assert elsewhere.hub("edge") == b"", "it is not known to live"
    assert elsewhere.living({b"own", b"two"}) == set()
    assert (elsewhere.hub("edge"), elsewhere.state("edge")) == (b"two", "ready")
    assert not elsewhere.told(b"three", "edge", "unknown")
    assert elsewhere.told(b"two", "edge", "not-ready")
    assert elsewhere.state("edge") == "not-ready"
    assert not elsewhere.told(b"", "other", "ready")
    elsewhere.living({b"own", b"two", b"three"})
    assert not elsewhere.recorded("edge", b"three"), "it went from one that lives to another"
    assert elsewhere.state("edge") == "ready", "the new one has said nothing yet"
    assert elsewhere.living({b"own", b"two"}) == {"edge"}
    assert elsewhere.state("edge") is None
    elsewhere.living({b"own", b"two", b"three"})
    assert elsewhere.recorded("edge", b""), "it has left"
    assert not elsewhere.recorded("edge", b"own"), "and come here"
    assert elsewhere.clusters() == set()


def accepted(fragment: m.Fragment) -> dict[str, object]:
    return {"namespace": fragment.namespace, "run": fragment.run, "epoch": fragment.epoch, "revision": 1}
