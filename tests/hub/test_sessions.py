"""What an agent says is stored once, then acked; what is wanted of it reaches it however often it comes back."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import peer_pb2 as p
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from control_plane.federation import service
from control_plane.kinds import Kinds
from control_plane.store.base import Deleted
from control_plane.store.etcd.client import Client, Config
from control_plane.store.repository import Store
from tests.fixtures.etcd import EtcdServer
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply, asked_until
from tests.hub.objects import ALL, TOPOLOGY
from tests.hub.test_runs import output, submit, until
from wire.identity import Role


async def cluster_states(person: ControlPlaneServiceStub) -> dict[str, str]:
    status = await person.Status(cp.StatusRequest())
    return {cluster.name: cluster.state for cluster in status.clusters}


async def test_an_agent_that_was_away_gets_all_that_is_wanted(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    edge = FakeAgent(hub, "edge")
    async with edge:
        pass
    async with FakeAgent(hub, "cloud") as cloud:
        run = (await submit(person)).run.name
        await cloud.assigned(run)
    async with edge:
        await edge.assigned(run)
        assert any(frame.HasField("assignments") for frame in edge.frames)
    edge.frames.clear()
    async with edge:  # nothing has changed, so nothing is sent but the directory
        await edge.until(lambda: edge.peers is not None and len(edge.frames) > 0)
        assert not any(frame.seq for frame in edge.frames)


async def test_frames_that_come_again_are_acked_and_have_no_effect(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        run = (await submit(person)).run.name
        fragment = await cloud.assigned(run)
        await edge.end(await edge.assigned(run))
        made = cloud.status(fragment, m.FRAGMENT_STATE_RUNNING, outputs=[output(1)])
        await cloud.say(output=made)
        await cloud.acked()
        acks = len(cloud.frames)
        await cloud.say_soft(seq=1, output=made)
        await cloud.until(lambda: any(frame.ack == 1 for frame in cloud.frames[acks:]), "for the ack again")
        await cloud.end(fragment, outputs=[output(1)])
        ended = await until(person, run, m.RUN_STATE_SUCCEEDED)
        assert len(ended.outputs) == 1


async def test_a_gap_ends_the_session(hub: RunningHub) -> None:
    async with FakeAgent(hub, "edge") as edge:
        await edge.say_soft(seq=5, accepted=f.FragmentAccepted(namespace="default", run="r"))
        await edge.until(lambda: edge.ended is not None, "for the end")


async def test_who_opens_a_session_and_says_nothing_is_turned_away(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_HELLO_SECONDS", 0.05)
    async with hub.members.channel(hub.address, Role.AGENT, "edge1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(FederationServiceStub(channel).Session(wait_for_ready=True).read(), SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_newer_session_takes_the_place_of_the_one_before(hub: RunningHub) -> None:
    async with FakeAgent(hub, "edge") as first:
        async with FakeAgent(hub, "edge", log_id=first.log_id) as second:
            await first.until(lambda: first.ended is not None, "for the end")
            await second.say(accepted=f.FragmentAccepted(namespace="default", run="r"))
            await second.acked()
        async with FakeAgent(hub, "edge", log_id=first.log_id) as third:
            assert third.welcome is not None
            assert third.welcome.received == 1


async def test_credits_come_back_with_what_is_stored(hub: RunningHub) -> None:
    async with FakeAgent(hub, "edge") as edge:
        full = edge.credits
        for _ in range(300):
            await edge.say(accepted=f.FragmentAccepted(namespace="default", run="none"))
        await edge.acked()
        assert full > 0
        assert edge.credits == full + 300


async def closed(server: EtcdServer, cluster: str) -> None:
    """Wait until the end of an agent's session is in its record."""
    async with Client(Config((server.etcd.config.endpoint,), server.tls)) as client:
        agents = Kinds(Store(client)).agents
        async with asyncio.timeout(SECONDS), agents.watch(after=await agents.list()) as watch:
            if (stored := await agents.get(agents.key(cluster))) is not None and not stored.value.hub:
                return
            async for news in watch:
                for each in news.events:
                    if not isinstance(each, Deleted) and each.value.cluster == cluster and not each.value.hub:
                        return


async def test_an_agent_whose_log_is_gone_fails_the_runs_that_it_may_have_begun(
    hub: RunningHub, person: ControlPlaneServiceStub, empty_server: EtcdServer
) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "cloud"):
        async with FakeAgent(hub, "edge") as edge:
            begun = (await submit(person)).run.name
            silently = (await submit(person)).run.name
            fragment = await edge.assigned(begun)
            await edge.assigned(silently)  # what it has said of this one before its log was lost did not arrive
            await edge.say(accepted={"namespace": "default", "run": begun, "epoch": fragment.epoch})
            await edge.acked()
        await closed(empty_server, "edge")
        not_begun = (await submit(person)).run.name
        async with FakeAgent(hub, "edge", log_id=b"another log") as again:
            await again.assigned(not_begun)
            assert again.welcome is not None
            assert again.welcome.received == 0
            for run in (begun, silently):
                stopping = await until(person, run, m.RUN_STATE_STOPPING)
                assert "has lost its log" in stopping.message
            assert (await until(person, not_begun, m.RUN_STATE_RUNNING)).name == not_begun


async def test_a_deleted_run_is_forgotten_by_its_agents_and_then_by_the_store(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        run = (await submit(person)).run.name
        for agent in (edge, cloud):
            await agent.end(await agent.assigned(run))
        await until(person, run, m.RUN_STATE_SUCCEEDED)
        await cloud.assigned(run, m.DESIRED_STATE_FINISHED)
        edge.auto_ack = False
        await person.Delete(cp.DeleteRequest(kind="Run", name=run))
        await edge.assigned(run, m.DESIRED_STATE_FORGOTTEN)
        await cloud.until(lambda: ("default", run) not in cloud.held, "to forget")
    async with FakeAgent(hub, "edge") as edge:  # it had not said that it heard: it is told again
        await edge.until(lambda: ("default", run) in edge.held, "for the run")
        await edge.until(lambda: ("default", run) not in edge.held, "to forget")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await person.Get(cp.GetRequest(kind="Run", name=run))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_progress_is_shown_at_once_and_survives_in_the_store(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud"):
        run = (await submit(person)).run.name
        fragment = await edge.assigned(run)
        watch = person.WatchRun(cp.WatchRunRequest(run=run))
        await asyncio.wait_for(watch.read(), SECONDS)
        progress = [m.StepProgress(step="count", done=2)]
        await edge.say_soft(progress=edge.status(fragment, m.FRAGMENT_STATE_RUNNING, steps=progress))
        late = edge.status(fragment, m.FRAGMENT_STATE_RUNNING, steps=[m.StepProgress(step="count", done=9)])
        late.epoch -= 1
        await edge.say_soft(progress=late)
        async with asyncio.timeout(SECONDS):
            while True:
                change = await watch.read()
                if change.run.fragments["edge"].steps:
                    break
        assert change.run.fragments["edge"].steps[0].done == 2
        watch.cancel()
        stored = person.Watch(cp.WatchRequest(kind="Run", name=run))
        async with asyncio.timeout(SECONDS):
            async for news in stored:
                if '"count"' in news.object.spec_json:
                    break


async def test_frames_between_peers_are_passed_on_but_not_under_another_name(hub: RunningHub) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        await edge.say_soft(relay=f.PeerRelay(from_cluster="else", to_cluster="cloud", frame=p.PeerFrame(seq=1)))
        await edge.say_soft(relay=f.PeerRelay(from_cluster="edge", to_cluster="nobody", frame=p.PeerFrame(seq=2)))
        await edge.say_soft(relay=f.PeerRelay(from_cluster="edge", to_cluster="cloud", frame=p.PeerFrame(seq=3)))
        await cloud.until(lambda: bool(cloud.relayed), "for the frame")
        assert [relay.frame.seq for relay in cloud.relayed] == [3]


async def test_a_hub_says_which_certificate_it_was_shown_and_tells_none_of_an_older_one(hub: RunningHub) -> None:
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        for seq, meant in ((1, 1), (2, 0)):
            frame = p.PeerFrame(seq=seq)
            relay = f.PeerRelay(
                from_cluster="edge", to_cluster="cloud", frame=frame, from_generation=7, to_generation=meant
            )
            await edge.say_soft(relay=relay)
        await cloud.until(lambda: bool(cloud.relayed), "for the frame")
        assert [(relay.frame.seq, relay.from_generation) for relay in cloud.relayed] == [(2, 0)]


async def test_agents_learn_how_to_reach_their_peers_and_when_that_changes(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    async with FakeAgent(hub, "edge") as edge:
        await apply(person, TOPOLOGY)
        await edge.until(lambda: edge.peers is not None and len(edge.peers.peers) == 1, "for the directory")
        async with FakeAgent(hub, "cloud") as cloud:
            await edge.until(
                lambda: edge.peers is not None and edge.peers.peers[0].gateway_address == "cloud.example:7000"
            )
            assert edge.peers is not None
            (peer,) = edge.peers.peers
            assert (peer.cluster, peer.can_dial, peer.can_be_dialled, peer.reachable) == ("cloud", True, False, True)
            assert (peer.bandwidth, peer.latency) == (1_250_000, 0.005)
            await cloud.until(lambda: cloud.peers is not None and len(cloud.peers.peers) == 1)
            assert cloud.peers is not None
            assert (cloud.peers.peers[0].can_dial, cloud.peers.peers[0].can_be_dialled) == (False, True)
        await apply(person, TOPOLOGY.replace("5ms", "7ms"))
        await edge.until(lambda: edge.peers is not None and edge.peers.peers[0].latency == 0.007)
        assert edge.peers.topology_revision == 2


async def test_silence_becomes_a_state(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, TOPOLOGY)
    assert await cluster_states(person) == {"edge": "never-seen", "cloud": "never-seen"}
    async with FakeAgent(hub, "edge") as edge:
        await edge.beat()
        await asked_until(lambda: cluster_states(person), lambda states: states["edge"] == "ready")
        await edge.stop_beating()
        await asked_until(lambda: cluster_states(person), lambda states: states["edge"] == "not-ready")
    await asked_until(lambda: cluster_states(person), lambda states: states["edge"] == "unknown")


async def test_a_run_that_is_cancelled_does_not_wait_for_who_is_out_of_touch(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "cloud") as cloud:
        async with FakeAgent(hub, "edge"):
            run = (await submit(person)).run.name
        cancelled = await person.CancelRun(cp.CancelRunRequest(run=run, reason="enough"))
        assert cancelled.run.state == m.RUN_STATE_STOPPING
        await cloud.end(await cloud.assigned(run, m.DESIRED_STATE_CANCELLED), m.FRAGMENT_STATE_CANCELLED)
        ended = await until(person, run, m.RUN_STATE_CANCELLED)
        assert ended.message == "enough"
        assert "out of touch" in ended.fragments["edge"].failures[0].message
    async with FakeAgent(hub, "edge") as edge:
        await edge.assigned(run, m.DESIRED_STATE_FINISHED)


async def test_a_large_set_is_sent_in_parts_that_the_set_names(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.federation.session._SET_BYTES", 2000)
    await apply(person, ALL)
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        runs = [(await submit(person)).run.name for _ in range(3)]
    async with FakeAgent(hub, "edge") as edge:
        await edge.until(lambda: any(frame.HasField("assignments") for frame in edge.frames), "for the set")
        sequenced = [frame for frame in edge.frames if frame.seq]
        assert {frame.assign.fragment.run for frame in sequenced[:-1]} == set(runs)
        assert all(frame.assign.fragment.steps for frame in sequenced[:-1])
        assert {each.fragment.run for each in sequenced[-1].assignments.assignments} == set(runs)
        assert not sequenced[-1].assignments.assignments[0].fragment.steps


async def test_an_agent_is_deleted_once_nothing_needs_it(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    delete = cp.DeleteRequest(kind="Agent", name="edge")
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        run = (await submit(person)).run.name
        for words in ("is connected", "goes on on edge"):
            with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
                await person.Delete(delete)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            fragment = await edge.assigned(run)
            await edge.disconnect()
            await person.Status(cp.StatusRequest())
        await edge.connect()
        await edge.end(fragment)
        await cloud.end(await cloud.assigned(run))
        await until(person, run, m.RUN_STATE_SUCCEEDED)
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await person.Delete(delete)
                break
            except grpc.aio.AioRpcError as error:
                assert "is connected" in (error.details() or "")
    assert (await cluster_states(person))["edge"] == "never-seen"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await person.Delete(delete)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_ended_run_expires(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge") as edge, FakeAgent(hub, "cloud") as cloud:
        ended, live = (await submit(person)).run.name, (await submit(person)).run.name
        for agent in (edge, cloud):
            await agent.end(await agent.assigned(ended))
        await until(person, ended, m.RUN_STATE_SUCCEEDED)
        await hub.stop()
        for agent in (edge, cloud):
            await agent.disconnect()
    hub.keep_ended = 0.0
    await hub.start()
    async with hub.person() as again:
        await asked_until(
            lambda: again.List(cp.ListRequest(kind="Run")),
            lambda answer: [each.name for each in answer.objects] == [live],
        )
