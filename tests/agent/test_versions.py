"""An agent works with a hub and with peers of the release before and after its own, and with no others."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from bdw_fed.v1.peer_pb2 import PeerFrame, PeerMessage
from cluster_agent.coordinator.messages import FragmentAssigned
from tests.agent.agents import running
from tests.agent.federation import FakeHub, Members, Served, until, within
from tests.agent.test_link import assignment
from tests.agent.test_peers import NOWHERE, dial, message, messages
from tests.attacks.test_peers import exchange
from wire.versions import PEERS, SESSION, Versions

NOW = SESSION.newest
NEXT = Versions(NOW, NOW + 1)


@pytest.mark.parametrize("spoken", [NOW, NOW + 1])
async def test_an_upgraded_agent_speaks_with_a_hub_of_either_release(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path, spoken: int
) -> None:
    hub.version = spoken
    async with running(members, tmp_path / "edge", "edge", [hub_server.address], session=NEXT) as agent:
        session = await within(hub.sessions.get())
        assert (session.hello.protocol_min, session.hello.protocol) == (NOW, NOW + 1)
        session.say(seq=1, assign=assignment("run"))
        await session.wait_for(lambda frame: frame.ack == 1)
        assert len(agent.core.of(FragmentAssigned)) == 1


@pytest.mark.parametrize("spoken", [0, NOW + 1])
async def test_a_hub_that_speaks_what_was_not_offered_is_left_and_it_is_told_why(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path, spoken: int
) -> None:
    hub.version = spoken
    with capture_logs() as logs:
        async with running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent:
            session = await within(hub.sessions.get())
            session.say(seq=1, assign=assignment("run"))
            await within(hub.sessions.get())  # it comes again
            assert not agent.core.of(FragmentAssigned)
    told = [str(log.get("error")) for log in logs]
    assert any(f"speaks version {spoken} of sessions, this agent {SESSION}: upgrade the older" in each for each in told)


async def test_what_the_agent_does_not_understand_is_not_acked(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "edge", "edge", [hub_server.address]):
        session = await within(hub.sessions.get())
        with capture_logs() as logs:
            session.say(seq=1)  # a kind of frame that comes later than this agent
            again = await within(hub.sessions.get())
        assert again.hello.received == 0
        assert any("does not understand: upgrade the agent" in str(log.get("error")) for log in logs)


@pytest.mark.parametrize("over", ["a stream", "the hub"])
@pytest.mark.parametrize("upgraded", ["who dials", "who is dialled"])
async def test_peers_with_one_release_between_them_understand_each_other(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path, over: str, upgraded: str
) -> None:
    speak = {"a": PEERS, "b": PEERS, "a" if upgraded == "who dials" else "b": Versions(PEERS.newest, PEERS.newest + 1)}
    hubs = NOWHERE if over == "a stream" else [hub_server.address]
    async with (
        running(members, tmp_path / "a", "a", hubs, to_peers=speak["a"]) as a,
        running(members, tmp_path / "b", "b", hubs, to_peers=speak["b"]) as b,
    ):
        if over == "a stream":
            a.peers.directory(dial("b", b.peer_door.address))
        a.tell_peer("b", *messages(0, 50))
        await b.heard("a", messages(0, 50))
        b.tell_peer("a", *messages(50, 100))
        await a.heard("b", messages(50, 100))
        assert a.peers.is_direct("b") is (over == "a stream")


@pytest.mark.parametrize("over", ["a stream", "the hub"])
async def test_peers_without_a_version_in_common_say_nothing_and_it_is_logged(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path, over: str
) -> None:
    hubs = NOWHERE if over == "a stream" else [hub_server.address]
    later = Versions(PEERS.newest + 1, PEERS.newest + 2)
    with capture_logs() as logs:
        async with (
            running(members, tmp_path / "a", "a", hubs, to_peers=later) as a,
            running(members, tmp_path / "b", "b", hubs) as b,
        ):
            if over == "a stream":
                a.peers.directory(dial("b", b.peer_door.address))
            a.tell_peer("b", message("x"))
            words = f"a speaks version {later} of what peers say, b {PEERS}: upgrade the older"
            await until(lambda: any(words in str(log.get("reason")) for log in logs))
            assert not b.said_by("a")
            assert a.peers._peer("b").session.unacked == 1  # it is kept until one of the two is upgraded


async def test_what_a_peer_says_and_is_not_understood_is_not_acked(members: Members, tmp_path: Path) -> None:
    later = PeerFrame(cluster="a", log_id=b"A", seq=1, protocol=PEERS.newest, messages=[PeerMessage(run="r")])
    with capture_logs() as logs:
        async with running(members, tmp_path / "b", "b", NOWHERE) as b:
            code = await exchange(members, b.peer_door.address, "a", later)
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert not b.said_by("a")
    assert any(log.get("reason") == "a says what b does not know: upgrade b" for log in logs)
