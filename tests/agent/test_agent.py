"""Whole agents with the real core, as processes: killed at any moment, they go on as if they had not been."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from cluster_agent.agent import AgentConfig, serve
from cluster_agent.log import Batch, CoordinatorLog, LogBusyError, LogFullError, Sent
from tests.agent.federation import FakeHub, Members, Served, directory, until, within
from tests.agent.working_node import WorkingNode
from tests.coordinator.workflows import EACH, Use, fragments, output, source
from tests.fixtures.ports import free_port
from wire.identity import Credentials, Role

MAIN = """
import sys
from pathlib import Path
from cluster_agent.agent import AgentConfig, serve
from wire.identity import Credentials
from wire.logging import configure
from wire.service import run_service
cluster, state, hub, credentials, nodes, peers, durability = sys.argv[1:]
configure("agent", cluster)
config = AgentConfig(cluster=cluster, state=Path(state), hub=[hub], credentials=Credentials.load(Path(credentials)),
                     listen_nodes=nodes, listen_peers=peers, data_root=Path(state), durability=durability)
run_service(serve, config, lambda addresses: print("ready", flush=True))
"""


class Process:
    """An agent as a process, at addresses that stay."""

    def __init__(self, cluster: str, state: Path, hub: str, credentials: Credentials, durability: str) -> None:
        self.nodes = f"127.0.0.1:{free_port()}"
        self.peers = f"127.0.0.1:{free_port()}"
        place = credentials.key.parent
        self._arguments = [cluster, str(state), hub, str(place), self.nodes, self.peers, durability]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MAIN, *self._arguments, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert await within(self._process.stdout.readline()) == b"ready\n"

    async def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = await within(self._process.wait())
        self._process = None
        return code

    @property
    def runs(self) -> bool:
        return self._process is not None


@asynccontextmanager
async def process(
    members: Members, tmp_path: Path, cluster: str, hub: Served, durability: str = "process"
) -> AsyncIterator[Process]:
    agent = Process(cluster, tmp_path / cluster, hub.address, members.issue(Role.AGENT, cluster), durability)
    await agent.start()
    try:
        yield agent
    finally:
        if agent.runs:
            await agent.end(signal.SIGKILL)


def assign(hub: FakeHub, cluster: str, body: bytes) -> None:
    """Say what is wanted to the session that is live, as the hub does on each connection."""
    session = hub.live[cluster]
    session.say(
        seq=session.hello.received + 1,
        assignments=f.AssignmentSet(
            assignments=[m.Assignment(fragment=m.Fragment.FromString(body), desired=m.DESIRED_STATE_RUNNING)]
        ),
    )


def graph(clusters: list[str], parts: dict[str, int]) -> dict[str, bytes]:
    """Every unit of the first cluster's source is worked on by the last cluster."""
    flights = source("flights", [clusters[0]])
    work = Use("work", [clusters[-1]], {"rows": ("inputs.flights.out", EACH)})
    return fragments([flights, work, output(work)], {flights.name: parts}, clusters)


class Ends:
    """What the hub hears of the ends, over all of an agent's sessions: each numbered frame once."""

    def __init__(self, hub: FakeHub) -> None:
        self.of: dict[str, list[m.FragmentStatus]] = {}
        self._seen: dict[str, int] = {}
        read = hub._read

        async def noted(cluster: str, session: object, requests: AsyncIterator[f.SessionRequest]) -> None:
            async def passing() -> AsyncIterator[f.SessionRequest]:
                async for frame in requests:
                    if frame.seq > self._seen.get(cluster, 0):
                        self._seen[cluster] = frame.seq
                        if frame.HasField("ended"):
                            self.of.setdefault(cluster, []).append(frame.ended)
                    yield frame

            await read(cluster, session, passing())  # type: ignore[arg-type]

        hub._read = noted  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "power"])
async def test_an_agent_killed_again_and_again_finishes_its_run(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path, durability: str
) -> None:
    chance = Random(5)
    ends = Ends(hub)
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(process(members, tmp_path, "a", hub_server, durability))
        node = await stack.enter_async_context(WorkingNode(agent.nodes, "a", members.issue(Role.NODE, "a/n1")))
        await until(lambda: "a" in hub.live)
        assign(hub, "a", graph(["a"], {"a": 300})["a"])
        for kill in range(4):
            goal = min(290, node.executed.total() + chance.randrange(20, 60))
            await until(lambda goal=goal: node.executed.total() >= goal)  # type: ignore[misc]
            await agent.end(signal.SIGKILL)
            await agent.start()
            await until(lambda before=kill + 1: node.attached > before)  # type: ignore[misc]
        await until(lambda: ends.of.get("a"), 60)
        (status,) = ends.of["a"]
        assert status.state == m.FRAGMENT_STATE_SUCCEEDED
        assert len(status.outputs) == 300
        assert len(node.executed) == 300
        assert set(node.executed.values()) == {1}, "a task was executed twice although its node never went away"


@pytest.mark.slow
async def test_two_agents_killed_in_turn_pass_every_unit_on_once(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    chance = Random(6)
    ends = Ends(hub)
    async with AsyncExitStack() as stack:
        agents = {}
        nodes = {}
        for cluster in ("a", "b"):
            agent = agents[cluster] = await stack.enter_async_context(process(members, tmp_path, cluster, hub_server))
            credentials = members.issue(Role.NODE, f"{cluster}/n1")
            nodes[cluster] = await stack.enter_async_context(WorkingNode(agent.nodes, cluster, credentials))
        await until(lambda: {"a", "b"} <= set(hub.live))
        known = {
            cluster: f.PeerDirectory.Peer(
                cluster=other, gateway_address=agents[other].peers, can_dial=True, can_be_dialled=True, reachable=True
            )
            for cluster, other in (("a", "b"), ("b", "a"))
        }
        bodies = graph(["a", "b"], {"a": 200})
        for cluster in ("a", "b"):
            hub.directories[cluster] = directory(known[cluster])
            hub.live[cluster].say(peers=hub.directories[cluster])
            assign(hub, cluster, bodies[cluster])
        executed = nodes["b"].executed
        for turn in range(6):
            goal = min(190, executed.total() + chance.randrange(10, 30))
            await until(lambda goal=goal: executed.total() >= goal)  # type: ignore[misc]
            agent = agents["ab"[turn % 2]]
            await agent.end(signal.SIGKILL)
            await agent.start()
        await until(lambda: {"a", "b"} <= set(ends.of), 60)
        for cluster in ("a", "b"):
            assert [status.state for status in ends.of[cluster]] == [m.FRAGMENT_STATE_SUCCEEDED]
        assert len(ends.of["b"][0].outputs) == 200
        assert len(executed) == 200
        assert set(executed.values()) == {1}


@pytest.mark.slow
async def test_an_agent_told_to_stop_ends_well(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with (
        process(members, tmp_path, "a", hub_server) as agent,
        WorkingNode(agent.nodes, "a", members.issue(Role.NODE, "a/n1")) as node,
    ):
        await until(lambda: node.attached and "a" in hub.live)
        assert await agent.end(signal.SIGTERM) == 0


def test_the_agent_starts_without_what_it_does_not_need() -> None:
    script = "import sys, cluster_agent.agent; print(sorted({'pydantic', 'aiohttp', 'typer'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"


def config(tmp_path: Path, members: Members, **changes: object) -> AgentConfig:
    values: dict[str, object] = {
        "cluster": "a",
        "state": tmp_path / "a",
        "hub": ["127.0.0.1:1"],
        "credentials": members.issue(Role.AGENT, "a"),
        "listen_nodes": "127.0.0.1:0",
        "listen_peers": "127.0.0.1:0",
        "data_root": tmp_path,
    }
    return AgentConfig(**{**values, **changes})  # type: ignore[arg-type]


async def test_ready_tells_the_doors_addresses_and_stop_ends_it(members: Members, tmp_path: Path) -> None:
    ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(config(tmp_path, members), ready.set_result, stop))
    addresses = await within(ready)
    assert set(addresses) == {"nodes", "peers"}
    assert all(int(address.rpartition(":")[2]) > 0 for address in addresses.values())
    stop.set()
    await within(serving)


async def test_an_address_that_is_taken_is_told(members: Members, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"listen on {address}"):
            await within(serve(config(tmp_path, members, listen_peers=address), lambda _: None, asyncio.Event()))


async def test_two_agents_do_not_share_a_state(members: Members, tmp_path: Path) -> None:
    ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(config(tmp_path, members), ready.set_result, stop))
    await within(ready)
    with pytest.raises(LogBusyError, match="runs already"):
        await within(serve(config(tmp_path, members), lambda _: None, asyncio.Event()))
    stop.set()
    await within(serving)


async def test_a_log_that_cannot_be_written_ends_the_agent_with_what_to_do(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing that was not logged is acknowledged."""

    def full(log: CoordinatorLog, batch: Batch) -> list[Sent]:
        raise LogFullError("no room left on its disk")

    monkeypatch.setattr(CoordinatorLog, "commit", full)
    serving = asyncio.create_task(
        serve(config(tmp_path, members, hub=[hub_server.address]), lambda _: None, asyncio.Event())
    )
    session = await within(hub.sessions.get())
    session.say(
        seq=1,
        assign=m.Assignment(
            fragment=m.Fragment.FromString(graph(["a"], {"a": 1})["a"]), desired=m.DESIRED_STATE_RUNNING
        ),
    )
    with pytest.raises(LogFullError, match="no room"):
        await within(serving)
    assert all(frame.ack == 0 for frame in session.frames)
