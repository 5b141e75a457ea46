"""The link to the hub: what is said reliably arrives once through any reconnection; the assignments are a set."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bdw_fed.v1 import control_plane_pb2 as c
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator.actions import Action, Answered, Publish, SendHub
from cluster_agent.coordinator.messages import ClearAsked, DesiredChanged, Event, FragmentAssigned, PeersKnown, RunKey
from cluster_agent.link import hub as link_hub
from cluster_agent.log import CoordinatorLog
from tests.agent.agents import NotingCore, running
from tests.agent.federation import FakeHub, FakeNode, Members, Served, directory, fragment, served_hub, until, within
from wire.identity import Role
from wire.inventory import inventory_digest


def assignment(run: str, epoch: int = 1) -> m.Assignment:
    return m.Assignment(fragment=fragment(run, "edge", epoch=epoch), desired=m.DESIRED_STATE_RUNNING)


def ended(run: str) -> SendHub:
    return SendHub("ended", m.FragmentStatus(run=run, cluster="edge").SerializeToString())


def ends_what_is_assigned(event: Event) -> list[Action]:
    if isinstance(event, FragmentAssigned):
        return [ended(m.Fragment.FromString(event.fragment).run)]
    return []


async def test_the_hello_says_who_we_are_and_what_we_hold(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        session = await within(hub.sessions.get())
        hello = session.hello
        assert (hello.cluster, hello.protocol, hello.received, hello.hub_id) == ("edge", 1, 0, b"")
        assert hello.log_id == agent.log.log_id
        assert hello.inventory == inventory_digest([])
        assert hello.gateway_address == agent.peer_door.address
        beat = (await session.wait_kind("heartbeat")).heartbeat
        assert (beat.status.name, beat.status.state) == ("edge", "ready")


async def test_an_assignment_is_acked_when_it_is_in_the_log(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        session = await within(hub.sessions.get())
        session.say(seq=1, assign=assignment("r1"))
        await session.wait_for(lambda frame: frame.ack == 1)
        assert agent.log.received()["hub"] == (b"hub-1", 1)
        assert len(agent.core.of(FragmentAssigned)) == 1


async def test_a_set_is_the_whole_truth(members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path) -> None:
    """What we hold and it does not name is forgotten; also what came just before and the core has not seen yet."""
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        session = await within(hub.sessions.get())
        session.say(seq=1, assignments=f.AssignmentSet(assignments=[assignment("a"), assignment("b")]))
        session.say(seq=2, assign=assignment("c"))
        session.say(seq=3, assignments=f.AssignmentSet(assignments=[assignment("b")]))
        session.say(seq=4, removed=f.AssignmentRemoved(namespace="default", run="b", epoch=1))
        await session.wait_for(lambda frame: frame.ack == 4)
        gone = [event.run.run for event in agent.core.events if isinstance(event, DesiredChanged)]
        assert gone == ["a", "c", "b"]
        assert agent.core.held == {}


async def test_a_duplicate_is_dropped_and_acked_again(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        session = await within(hub.sessions.get())
        session.say(seq=1, assign=assignment("a"))
        await session.wait_for(lambda frame: frame.ack == 1)
        before = len(session.frames)
        session.say(seq=1, assign=assignment("a"))
        await session.wait_for(lambda frame: frame in session.frames[before:] and frame.ack == 1)
        assert len(agent.core.of(FragmentAssigned)) == 1


async def test_what_the_hub_has_not_acked_goes_again_after_a_cut(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    hub.auto_ack = False
    core = NotingCore(ends_what_is_assigned)
    async with running(members, tmp_path / "edge", "edge", [hub_server.address], core=core) as agent:
        first = await within(hub.sessions.get())
        first.say(seq=1, assignments=f.AssignmentSet(assignments=[assignment("a"), assignment("b")]))
        await first.wait_for(lambda frame: frame.seq == 2)
        hub.received["edge"] = 1
        first.cut()
        second = await within(hub.sessions.get())
        assert (second.hello.received, second.hello.hub_id) == (1, b"hub-1")
        frame = await second.wait_for(lambda frame: frame.seq)
        assert (frame.seq, frame.ended.run) == (2, "b")
        second.say(ack=2)
        second.say(seq=2, assign=assignment("c"))
        await second.wait_for(lambda frame: frame.seq == 3)
        await until(lambda: [seq for seq, _ in agent.log.outbox("hub")] == [3])


async def test_a_restarted_agent_says_what_was_not_acked_and_numbers_on(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    hub.auto_ack = False
    core = NotingCore(ends_what_is_assigned)
    async with running(members, tmp_path / "edge", "edge", [hub_server.address], core=core):
        session = await within(hub.sessions.get())
        session.say(seq=1, assign=assignment("a"))
        await session.wait_for(lambda frame: frame.seq == 1)
    core = NotingCore(ends_what_is_assigned)
    async with running(members, tmp_path / "edge", "edge", [hub_server.address], core=core):
        session = await within(hub.sessions.get())
        assert (session.hello.received, session.hello.hub_id) == (1, b"hub-1")
        assert session.hello.inventory == inventory_digest([("default", "a", 1, m.DESIRED_STATE_RUNNING)])
        again = await session.wait_for(lambda frame: frame.seq == 1)
        assert again.ended.run == "a"
        session.say(seq=2, assign=assignment("b"))
        assert (await session.wait_for(lambda frame: frame.seq == 2)).ended.run == "b"


async def test_another_hub_counts_from_one(members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path) -> None:
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        first = await within(hub.sessions.get())
        first.say(seq=1, assign=assignment("a"))
        first.say(seq=2, assign=assignment("b"))
        await first.wait_for(lambda frame: frame.ack == 2)
        hub.hub_id = b"hub-2"
        first.cut()
        second = await within(hub.sessions.get())
        second.say(seq=1, assign=assignment("c"))
        await second.wait_for(lambda frame: frame.ack == 1)
        assert agent.log.received()["hub"] == (b"hub-2", 1)
        assert len(agent.core.held) == 3


async def test_a_hub_that_was_set_back_gets_a_sequence_that_follows_and_the_ends_again(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    core = NotingCore(ends_what_is_assigned)
    core.states = dict.fromkeys("ab", m.FRAGMENT_STATE_SUCCEEDED)
    async with running(members, tmp_path / "edge", "edge", [hub_server.address], core=core):
        first = await within(hub.sessions.get())
        first.say(seq=1, assignments=f.AssignmentSet(assignments=[assignment("a"), assignment("b")]))
        await until(lambda: hub.received.get("edge") == 2)
        hub.received["edge"] = 0
        first.cut()
        second = await within(hub.sessions.get())
        await second.wait_for(lambda frame: frame.seq == 2)
        said = [(frame.seq, frame.ended.run) for frame in second.frames if frame.seq]
        assert sorted(said) == [(1, "a"), (2, "b")]


async def test_an_agent_that_was_set_back_numbers_on_from_what_the_hub_knows(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    hub.received["edge"] = 40
    core = NotingCore(ends_what_is_assigned)
    async with running(members, tmp_path / "edge", "edge", [hub_server.address], core=core):
        session = await within(hub.sessions.get())
        session.say(seq=1, assign=assignment("a"))
        frame = await session.wait_for(lambda frame: frame.seq)
        assert (frame.seq, frame.ended.run) == (41, "a")


async def test_no_more_is_sent_than_the_hub_has_given_credits_for(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    hub.credits, hub.auto_ack = 2, False
    core = NotingCore(ends_what_is_assigned)
    async with running(members, tmp_path / "edge", "edge", [hub_server.address], core=core) as agent:
        session = await within(hub.sessions.get())
        session.say(seq=1, assignments=f.AssignmentSet(assignments=[assignment(run) for run in "abcd"]))
        await session.wait_for(lambda frame: frame.seq == 2)
        await until(lambda: agent.log.next_seq("hub") == 5)
        assert max(frame.seq for frame in session.frames) == 2
        session.say(credits=1)
        await session.wait_for(lambda frame: frame.seq == 3)
        session.say(credits=5, ack=3)
        await session.wait_for(lambda frame: frame.seq == 4)


async def test_a_gap_makes_the_connection_anew(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        session = await within(hub.sessions.get())
        session.say(seq=2, assign=assignment("b"))
        again = await within(hub.sessions.get())
        assert again.hello.received == 0
        assert agent.core.of(FragmentAssigned) == []


@pytest.mark.parametrize("begins_with", [0, 1])
async def test_any_of_the_hubs_addresses_will_do(
    members: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begins_with: int
) -> None:
    monkeypatch.setattr(link_hub.random, "randrange", lambda _: begins_with)
    one, two = FakeHub(), FakeHub()
    async with served_hub(members, two) as second:
        first = served_hub(members, one)
        async with first, running(members, tmp_path / "edge", "edge", [first.address, second.address]):
            if begins_with == 0:
                await within(one.sessions.get())
                await first.__aexit__()
            session = await within(two.sessions.get())
            await session.wait_kind("heartbeat")
            if begins_with == 0:
                await first.__aenter__()


async def test_a_hub_that_says_nothing_is_left_for_another(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_hub, "_WELCOME_SECONDS", 0.3)
    monkeypatch.setattr(link_hub.random, "randrange", lambda _: 0)
    mute = FakeHub()
    mute.mute = True
    async with (
        served_hub(members, mute) as first,
        running(members, tmp_path / "edge", "edge", [first.address, hub_server.address]),
    ):
        await within(hub.sessions.get())


async def test_the_directory_reaches_core_and_peers_and_is_kept(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    known = directory(f.PeerDirectory.Peer(cluster="b", gateway_address="127.0.0.1:1", can_dial=True))
    hub.directories["edge"] = known
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        await until(lambda: agent.log.meta("peers"))
        assert agent.core.of(PeersKnown) == [PeersKnown(known.SerializeToString())]
    log = CoordinatorLog.open(tmp_path / "edge")
    kept = log.meta("peers")
    assert kept is not None
    assert f.PeerDirectory.FromString(kept) == known
    log.close()


async def test_progress_is_told_again_after_a_reconnection(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    """Soft frames may be lost with the connection; the newest counters come with the next."""
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        first = await within(hub.sessions.get())
        first.say(seq=1, assign=assignment("a"))
        await first.wait_for(lambda frame: frame.ack == 1)
        first.cut()
        second = await within(hub.sessions.get())
        frame = await second.wait_kind("progress")
        assert frame.progress.run == "a"
        assert agent.core.held


async def test_questions_are_answered_by_bus_core_and_nodes(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    def gives_up(event: Event) -> list[Action]:
        if not isinstance(event, ClearAsked):
            return []
        gone = c.CachedStep(step=f"{event.namespace}/{event.step} of {event.age:g} s")
        return [Answered(event.number, f.CachedSteps(steps=[gone]).SerializeToString())]

    core = NotingCore(gives_up)
    async with running(members, tmp_path / "edge", "edge", [hub_server.address], core=core) as agent:
        session = await within(hub.sessions.get())
        agent.bus.publish([Publish(RunKey("default", "r"), "task.done", "s", b"\x01", {"task": b"\x01"})])
        session.say(query=f.Query(id=1, namespace="default", events=c.EventsRequest(run="r")))
        session.say(query=f.Query(id=2, namespace="default", describe=c.DescribeRunRequest(run="r")))
        session.say(query=f.Query(id=3, namespace="default", logs=c.LogsRequest(run="r")))
        session.say(query=f.Query(id=4, namespace="n", list_cache=c.ListCacheRequest(step="s")))
        session.say(query=f.Query(id=5, namespace="n", clear_cache=c.ClearCacheRequest(step="s", age=60.0)))
        for number in range(1, 6):
            await session.wait_for(lambda frame, number=number: frame.reply.id == number and frame.reply.end)  # type: ignore[misc]
        replies = [frame.reply for frame in session.frames if frame.HasField("reply")]
        assert [reply.events.event.type for reply in replies if reply.HasField("events")] == ["io.bdw-fed.task.done"]
        assert [reply.tasks.tasks[0].step for reply in replies if reply.HasField("tasks")] == ["clean"]
        cached = {reply.id: reply.cached.steps[0].step for reply in replies if reply.HasField("cached")}
        assert cached == {4: "n/s", 5: "n/s of 60 s"}
        assert {reply.error for reply in replies} == {""}


async def test_followed_events_come_until_the_question_is_cancelled(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        session = await within(hub.sessions.get())
        session.say(query=f.Query(id=1, namespace="default", events=c.EventsRequest(run="r", follow=True)))
        await until(lambda: agent.bus._subscriptions)
        agent.bus.publish([Publish(RunKey("default", "r"), "one", "", b"", {})])
        await session.wait_for(lambda frame: frame.reply.events.event.type.endswith("one"))
        session.say(query_cancel=f.QueryCancel(id=1))
        await until(lambda: not agent.bus._subscriptions)


async def test_logs_are_read_from_the_nodes(members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path) -> None:
    from bdw_fed.v1 import node_pb2 as n

    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        session = await within(hub.sessions.get())
        credentials = members.issue(Role.NODE, "edge/n1")
        async with FakeNode(agent.node_door, "edge", "n1", credentials) as node:
            await node.command("welcome")
            session.say(query=f.Query(id=9, namespace="default", logs=c.LogsRequest(run="r", follow=True)))
            asked = (await node.command("logs")).logs
            assert asked.request.run == "r"
            assert asked.request.namespace == "default"
            await node.say(
                n.NodeMessage(log=n.LogChunk(query=asked.query, logs=c.LogsResponse(step="clean", data=b"hello")))
            )
            reply = (await session.wait_for(lambda frame: frame.reply.logs.data)).reply
            assert (reply.id, reply.logs.cluster, reply.logs.node, reply.logs.data) == (9, "edge", "n1", b"hello")
            session.say(query_cancel=f.QueryCancel(id=9))
            assert (await node.command("stop_logs")).stop_logs.query == asked.query


async def test_a_node_that_comes_is_in_a_heartbeat_at_once(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
        session = await within(hub.sessions.get())
        credentials = members.issue(Role.NODE, "edge/n1")

        def nodes(ready: bool) -> list[tuple[str, bool]]:
            return [("n1", ready)]

        def says(frame: f.SessionRequest, ready: bool) -> bool:
            return [(node.name, node.ready) for node in frame.heartbeat.status.nodes] == nodes(ready)

        async with FakeNode(agent.node_door, "edge", "n1", credentials):
            await asyncio.wait_for(session.wait_for(lambda frame: says(frame, True)), 4)
        await asyncio.wait_for(session.wait_for(lambda frame: says(frame, False)), 4)


async def test_a_hub_of_another_authority_is_not_believed(hub: FakeHub, hub_server: Served, tmp_path: Path) -> None:
    strangers = Members(tmp_path / "others")
    async with running(strangers, tmp_path / "edge", "edge", [hub_server.address]):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hub.sessions.get(), 0.5)
