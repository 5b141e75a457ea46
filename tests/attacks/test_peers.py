"""Who is no peer, or is one but not of this run, or speaks another version, is not heard; and that is noted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1.peer_pb2 import ExchangeRequest, Offer, PeerFrame, PeerMessage, Superseded
from bdw_fed.v1.peer_pb2_grpc import PeerServiceStub
from cluster_agent.coordinator.actions import Action, Append, Publish
from cluster_agent.coordinator.messages import PeerSaid
from tests.agent.agents import running
from tests.agent.conftest import hub, hub_server, members
from tests.agent.federation import FakeHub, Members, Served, directory, until
from tests.coordinator.desk import RUN, Desk
from tests.coordinator.test_fragments import PARTS, STEPS
from wire import epochs
from wire.identity import Identity, Role, channel_options, grpc_channel_credentials
from wire.versions import PEERS

__all__ = ["hub", "hub_server", "members"]
NOWHERE = ["127.0.0.1:1"]


async def exchange(members: Members, address: str, cluster: str, frame: PeerFrame | None) -> grpc.StatusCode:
    """How a stream of this cluster's agent ends after one frame, or before any: then writing one would be a race."""
    credentials = grpc_channel_credentials(members.issue(Role.AGENT, cluster))
    options = channel_options(Identity(Role.AGENT, "b"))
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        call = PeerServiceStub(channel).Exchange()
        if frame is not None:
            await call.write(ExchangeRequest(frame=frame))
        code: grpc.StatusCode = await call.code()
        return code


@pytest.mark.parametrize(
    ("cluster", "says", "protocol", "code"),
    [
        ("mallory", None, PEERS.newest, grpc.StatusCode.PERMISSION_DENIED),  # of no topology with us
        ("a", "mallory", PEERS.newest, grpc.StatusCode.PERMISSION_DENIED),
        ("a", "a", 0, grpc.StatusCode.FAILED_PRECONDITION),
        ("a", "a", PEERS.newest + 1, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
async def test_a_stream_that_should_not_be_is_refused(
    members: Members, tmp_path: Path, cluster: str, says: str | None, protocol: int, code: grpc.StatusCode
) -> None:
    async with running(members, tmp_path / "b", "b", NOWHERE) as b:
        frame = PeerFrame(cluster=says, log_id=b"A", hello=True, seq=1, protocol=protocol) if says else None
        with capture_logs() as logs:
            assert await exchange(members, b.peer_door.address, cluster, frame) is code
        assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["a caller was refused"]
        assert b.core.events == []


async def test_a_peer_that_leaves_the_topology_is_heard_no_more(members: Members, tmp_path: Path) -> None:
    async with running(members, tmp_path / "b", "b", NOWHERE) as b:
        credentials = grpc_channel_credentials(members.issue(Role.AGENT, "a"))
        options = channel_options(Identity(Role.AGENT, "b"))
        async with grpc.aio.secure_channel(b.peer_door.address, credentials, options=options) as channel:
            call = PeerServiceStub(channel).Exchange()
            hello = PeerFrame(cluster="a", log_id=b"A", hello=True, seq=1, protocol=PEERS.newest)
            await call.write(ExchangeRequest(frame=hello))
            await call.read()
            b.peers.directory(directory())
            message = PeerMessage(namespace="default", run="r", offer=Offer(edge="e"))
            await call.write(ExchangeRequest(frame=PeerFrame(cluster="a", log_id=b"A", seq=1, messages=[message])))
            assert await call.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION)
        assert not b.said_by("a")


async def test_a_run_is_stopped_by_the_word_of_the_hub_and_not_by_that_of_a_member(
    members: Members, tmp_path: Path
) -> None:
    """What is not believed is acked all the same, so that the peers' session goes on."""
    liar, hub = members.issue(Role.AGENT, "a"), members.issue(Role.HUB, "hub")
    tables = [epochs.issue(by, "default", "r", 2, {"a": 9}) for by in (liar, hub)]
    lie, truth = (PeerMessage(namespace="default", run="r", superseded=Superseded(table=each)) for each in tables)
    async with running(members, tmp_path / "b", "b", NOWHERE) as b:
        options = channel_options(Identity(Role.AGENT, "b"))
        async with grpc.aio.secure_channel(b.peer_door.address, grpc_channel_credentials(liar), options=options) as at:
            call = PeerServiceStub(at).Exchange()
            await call.write(
                ExchangeRequest(frame=PeerFrame(cluster="a", log_id=b"A", hello=True, seq=1, protocol=PEERS.newest))
            )
            with capture_logs() as logs:
                frame = PeerFrame(cluster="a", log_id=b"A", seq=1, protocol=PEERS.newest, messages=[lie, truth])
                await call.write(ExchangeRequest(frame=frame))
                async with asyncio.timeout(20.0):
                    while (await call.read()).frame.ack < 2:
                        pass
        assert b.said_by("a") == [truth.SerializeToString()]
        [warning] = [log for log in logs if log["log_level"] == "warning"]
        assert (warning["peer"], warning["error"]) == ("a", "it is not signed by a hub of this federation")


async def test_a_relayed_frame_of_no_peer_is_dropped(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with running(members, tmp_path / "b", "b", [hub_server.address]) as b:
        await until(lambda: "b" in hub.live)
        frame = PeerFrame(cluster="mallory", log_id=b"M", hello=True, seq=1, protocol=PEERS.newest)
        with capture_logs() as logs:
            hub.live["b"].say(relay=f.PeerRelay(from_cluster="mallory", to_cluster="b", frame=frame))
            hub.live["b"].say(query=f.Query(id=1, namespace="default"))
            await hub.live["b"].wait_kind("reply")
        assert "mallory" in [log.get("sender") for log in logs]
        assert not b.peers._peers


def refusals(said: list[Action]) -> list[str]:
    """Whom the events say to have been refused."""
    events = [action for action in said if isinstance(action, Publish) and action.type == "peer.refused"]
    return [str(event.details["peer"]) for event in events]  # type: ignore[index]


@pytest.mark.parametrize("epoch", [0, 1, 99])
def test_a_peer_that_takes_no_part_in_a_run_has_no_say_in_it(epoch: int) -> None:
    desk = Desk(STEPS, PARTS)
    message = PeerMessage(namespace="default", run=RUN.run, epoch=epoch, revision=1)
    message.offer.edge = "count.rows"
    for kind in ("offer", "accept", "grant", "granted", "withdraw", "released", "report", "closed", "push"):
        getattr(message, kind).SetInParent()
        said = desk.core.handle(PeerSaid("mallory", message.SerializeToString()), desk.now)
        assert not [action for action in said if isinstance(action, Append)], kind
        assert refusals(said) == ["mallory"]


def test_nor_if_it_speaks_before_the_run_has_come() -> None:
    usual, early = Desk(STEPS, PARTS), Desk()
    message = PeerMessage(namespace=RUN.namespace, run=RUN.run, epoch=1, revision=1, offer=Offer(edge="count.rows"))
    early.do(PeerSaid("mallory", message.SerializeToString()))
    early.steps, early.parts = STEPS, PARTS
    assert early.assign().peers == usual.first.peers == []
    assert early.core.snapshot() == usual.core.snapshot()
