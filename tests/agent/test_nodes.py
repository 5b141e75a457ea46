"""The nodes' door: one live stream a node, results before the join, commands in batches, bundles pulled once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from bdw_fed.v1 import node_pb2 as n
from bdw_fed.v1.control_plane_pb2 import NodeStatus
from cluster_agent.coordinator.actions import Action, TellNode
from cluster_agent.coordinator.messages import (
    Event,
    FetchEnded,
    NodeChanged,
    NodeJoined,
    NodeLost,
    NodeSaid,
    PoolTold,
    RunKey,
    SourceRead,
)
from cluster_agent.orders.messages import (
    VERSION,
    Failure,
    Order,
    Orders,
    Output,
    UnitInfo,
    Work,
    decode_downward,
)
from tests.agent.agents import NotingCore, running
from tests.agent.federation import FakeHub, FakeNode, Members, Served, until, within
from tests.fixtures import words
from wire.digests import bytes_digest
from wire.identity import Role

NOWHERE = ["127.0.0.1:1"]
KEY = n.TaskKey(namespace="default", run="r", task=b"t" * 16, attempt=2)
RUN = RunKey("default", "r")


def unit_key(unit: bytes) -> n.UnitKey:
    return n.UnitKey(namespace="default", run="r", unit=unit)


UNIT = Output("rows", 0, UnitInfo(b"u" * 16, b"d" * 32, 5, name="rows.csv", origin="edge"))
STARTED = words.started(RUN, b"t" * 16, 2)


async def test_a_node_is_welcomed_and_its_results_are_heard_before_it_joins(members: Members, tmp_path: Path) -> None:
    """Else the core would take their tasks for lost."""
    async with running(members, tmp_path / "edge", "edge", NOWHERE) as agent:
        node = FakeNode(agent.node_door, "edge", "n1", members.issue(Role.NODE, "edge/n1"), b"one")
        node.hello_results = [words.done(RUN, b"1" * 16, 1, (UNIT,), 1.5)]
        node.hello.running.append(KEY)
        node.hello.units.append(n.UnitKey(namespace="default", run="r", unit=b"x" * 16))
        async with node:
            welcome = (await node.command("welcome")).welcome
            assert (welcome.cluster, welcome.data_root, welcome.durability) == ("edge", "/data", "process")
            await until(lambda: len(agent.core.events) == 2)
            result, joined = agent.core.events
            assert result == NodeSaid("n1", node.hello_results[0])
            assert isinstance(joined, NodeJoined)
            assert (joined.node, joined.incarnation, joined.cpus) == ("n1", b"one", 4)
            assert joined.running == ((RUN, b"t" * 16, 2),)
            assert joined.units == ((RUN, b"x" * 16),)
            assert (joined.place.cluster, joined.place.node, joined.place.address) == ("edge", "n1", "127.0.0.1:1")
        await until(lambda: agent.core.events[2:] == [NodeLost("n1", b"one")])


async def test_a_node_joins_when_all_its_results_are_heard(members: Members, tmp_path: Path) -> None:
    """After long alone they may need several messages; what the node says between waits for the join."""
    async with running(members, tmp_path / "edge", "edge", NOWHERE) as agent:
        node = FakeNode(agent.node_door, "edge", "n1", members.issue(Role.NODE, "edge/n1"))
        results = [words.done(RUN, b"%d" % number * 16, 1) for number in range(3)]
        node.hello.results = 3
        node.hello_results = [results[0]]
        async with node:
            await node.say(n.NodeMessage(source=n.SourceOpened(run="r", step="x")), results=[results[1]])
            assert agent.core.events == []
            await node.say(results=[results[2], STARTED])
            await until(lambda: len(agent.core.events) == 6)
            *said, joined, read = agent.core.events
            assert said == [NodeSaid("n1", what) for what in (*results, STARTED)]
            assert isinstance(joined, NodeJoined)
            assert isinstance(read, SourceRead)


async def test_of_a_nodes_status_the_core_hears_what_room_it_has_and_that_it_is_cordoned(
    members: Members, tmp_path: Path
) -> None:
    async with (
        running(members, tmp_path / "edge", "edge", NOWHERE) as agent,
        FakeNode(agent.node_door, "edge", "n1", members.issue(Role.NODE, "edge/n1")) as node,
    ):
        for status in (
            NodeStatus(cpus=4, running=3),
            NodeStatus(cpus=4, cordoned=True),
            NodeStatus(cpus=4, cordoned=True, workers=2),
            NodeStatus(cpus=8, memory=9),
        ):
            await node.say(n.NodeMessage(status=status))
        await until(lambda: len(agent.core.events) == 3)
        assert agent.core.events[1:] == [NodeChanged("n1", 4.0, 0, True), NodeChanged("n1", 8.0, 9, False)]


async def test_each_message_becomes_its_event_in_order(members: Members, tmp_path: Path) -> None:
    async with (
        running(members, tmp_path / "edge", "edge", NOWHERE) as agent,
        FakeNode(agent.node_door, "edge", "n1", members.issue(Role.NODE, "edge/n1")) as node,
    ):
        unit = n.UnitKey(namespace="default", run="r", unit=b"u" * 16)
        failed = words.failed(RUN, b"t" * 16, 2, Failure("exit", "status 3", "boom"))
        produced = words.produced(RUN, b"t" * 16, 2, (UNIT,))
        source = n.SourceOpened(namespace="default", run="r", step="inputs.x", index=1, error="no such file")
        await node.say(
            n.NodeMessage(fetched=n.FetchFinished(unit=unit, bytes=7, error="gone", gone=True)),
            n.NodeMessage(source=source),
            n.NodeMessage(workers=n.WorkersChanged(step="x@1", starting=1, idle=2, busy=3, error="no interpreter")),
            results=[STARTED, produced, failed],
        )
        await until(lambda: len(agent.core.events) == 7)
        _, fetched, read, workers, *said = agent.core.events
        assert said == [NodeSaid("n1", what) for what in (STARTED, produced, failed)]
        assert fetched == FetchEnded("n1", RUN, b"u" * 16, 7, 0.0, "gone", True)
        assert workers == PoolTold("n1", "x@1", 1, 2, 3, 0.0, "no interpreter")
        assert read == SourceRead("n1", RUN, "inputs.x", 1, (), "no such file")


async def test_what_is_said_in_one_tick_comes_in_as_few_messages_as_its_order_allows(
    members: Members, tmp_path: Path
) -> None:
    command = n.NodeCommand(cancel=n.CancelTask(key=KEY)).SerializeToString()
    orders = [Work(1, b"start"), Orders(1, (Order(b"t" * 16, 1, ((UNIT.unit,),)),))]
    (frees,) = words.frees([unit_key(b"u" * 16)])

    def script(event: Event) -> list[Action]:
        said = [*[command] * 100, *orders, command, frees]
        return [TellNode("n1", one) for one in said] if isinstance(event, NodeSaid) else []

    async with (
        running(members, tmp_path / "edge", "edge", NOWHERE, core=NotingCore(script)) as agent,
        FakeNode(agent.node_door, "edge", "n1", members.issue(Role.NODE, "edge/n1")) as node,
    ):
        await node.command("welcome")
        await node.say(results=[STARTED])
        await node.command("cancel", 101)
        _, first, second = node.responses
        assert len(first.commands) == 100
        assert decode_downward(first.orders) == orders
        assert len(second.commands) == 1
        assert decode_downward(second.orders) == [frees]


async def test_a_node_of_another_release_is_refused_with_the_reason(members: Members, tmp_path: Path) -> None:
    async with running(members, tmp_path / "edge", "edge", NOWHERE) as agent:
        node = FakeNode(agent.node_door, "edge", "n1", members.issue(Role.NODE, "edge/n1"))
        node.hello.orders_version = VERSION + 1
        async with node:
            assert await within(node.call.code()) is grpc.StatusCode.FAILED_PRECONDITION
            assert "both must be of one release" in str(await node.call.details())
            assert agent.core.events == []


async def test_a_new_stream_of_a_node_replaces_the_old_one(members: Members, tmp_path: Path) -> None:
    """The core hears lost, then joined, and no late word of the old stream, although it is the same process."""
    async with running(members, tmp_path / "edge", "edge", NOWHERE) as agent:
        credentials = members.issue(Role.NODE, "edge/n1")
        async with FakeNode(agent.node_door, "edge", "n1", credentials) as old:
            await old.command("welcome")
            async with FakeNode(agent.node_door, "edge", "n1", credentials) as new:
                await new.command("welcome")
                await old.closed()
                kinds: Callable[[], list[str]] = lambda: [type(event).__name__ for event in agent.core.events]  # noqa: E731
                await until(lambda: len(kinds()) >= 3)
                await asyncio.sleep(0.05)
                assert kinds() == ["NodeJoined", "NodeLost", "NodeJoined"]
                assert [status.ready for status in agent.nodes.statuses()] == [True]
                streams = [event.stream for event in agent.core.events if isinstance(event, NodeJoined)]
                for stream, unit in zip(streams, (b"old", b"new"), strict=True):
                    agent.nodes.tell("n1", stream, words.frees([unit_key(unit)]))
                await until(lambda: len(new.responses) == 2)
                assert decode_downward(new.responses[1].orders) == words.frees([unit_key(b"new")])
        await until(lambda: kinds()[3:] == ["NodeLost"])
        assert [(status.name, status.ready) for status in agent.nodes.statuses()] == [("n1", False)]


@pytest.mark.parametrize(
    ("role", "name", "says"),
    [
        (Role.NODE, "other/n1", "not a node of cluster edge"),
        (Role.NODE, "edge/n2", "the hello says edge/n1"),
        (Role.USER, "ann", "it is for node"),
    ],
)
async def test_nobody_attaches_under_a_name_that_is_not_his(
    members: Members, tmp_path: Path, role: Role, name: str, says: str
) -> None:
    async with (
        running(members, tmp_path / "edge", "edge", NOWHERE) as agent,
        FakeNode(agent.node_door, "edge", "n1", members.issue(role, name)) as node,
    ):
        assert await within(node.call.code()) is grpc.StatusCode.PERMISSION_DENIED
        assert says in str(await node.call.details())
        assert agent.core.events == []


async def test_a_bundle_is_pulled_from_the_hub_once_and_checked(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    blob = bytes(range(256)) * 40
    digest = bytes_digest(blob)
    hub.blobs[digest] = blob
    async with (
        running(members, tmp_path / "edge", "edge", [hub_server.address]) as agent,
        FakeNode(agent.node_door, "edge", "n1", members.issue(Role.NODE, "edge/n1")) as node,
    ):

        async def fetch(wanted: bytes) -> bytes:
            call = node.stub.FetchBundle(n.FetchBundleRequest(namespace="default", digest=wanted))
            return b"".join([part.chunk async for part in call])

        assert set(await asyncio.gather(*(fetch(digest) for _ in range(5)))) == {blob}
        assert await fetch(digest) == blob
        assert hub.pulls == 1

        wrong = bytes_digest(b"what was meant")
        hub.blobs[wrong] = b"what was sent"
        with pytest.raises(grpc.aio.AioRpcError, match="another digest"):
            await fetch(wrong)
        hub.blobs[wrong] = b"what was meant"
        assert await fetch(wrong) == b"what was meant"

        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await fetch(bytes_digest(b"nowhere"))
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND
        kept = sorted(path.name for path in (tmp_path / "edge" / "bundles").iterdir())
        assert kept == sorted(f"{each.hex()}.tar.zst" for each in (digest, wrong))
