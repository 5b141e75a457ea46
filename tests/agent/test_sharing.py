"""Agents and node daemons as they are, with real places between them: bytes that two clusters share cross no link, what
a lost node has shared is not made again, and a place that dies in the middle of a run takes nothing with it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from cluster_agent import agent
from cluster_agent.data.shared import names
from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.config import SharedConfig
from cluster_agent.data.shared.objects import ObjectStore
from cluster_agent.data.shared.redis import RedisStore
from cluster_agent.node import service
from cluster_agent.node.config import NodeConfig
from tests.agent.federation import FakeHub, Members, Served, directory, until, within
from tests.agent.test_agent import Ends, assign
from tests.coordinator.workflows import EACH, GATHER, Use, fragments, output, source
from tests.fixtures.shared import RedisServer, S3Server, redis_in
from wire.identity import Role

LARGE, SMALL = 2 << 20, 50_000
PARTS = 5


@dataclass
class Cluster:
    """An agent, and the nodes that a test starts."""

    name: str
    members: Members
    home: Path
    stack: AsyncExitStack
    addresses: dict[str, str] = field(default_factory=dict)
    stops: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = field(default_factory=dict)

    async def start(self, hub: Served) -> None:
        home = self.home / self.name
        config = agent.AgentConfig(
            self.name,
            home / "agent",
            [hub.address],
            self.members.issue(Role.AGENT, self.name),
            "127.0.0.1:0",
            "127.0.0.1:0",
            self.home / "data",
        )
        ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        self.stops["agent"] = stop, asyncio.create_task(agent.serve(config, ready.set_result, stop))
        self.stack.push_async_callback(self.end, "agent")
        self.addresses = await within(ready)

    async def node(self, name: str, storage: SharedConfig, cpus: float = 1.0) -> None:
        config = NodeConfig(
            self.name,
            name,
            self.home / self.name / name,
            self.addresses["nodes"],
            self.members.issue(Role.NODE, f"{self.name}/{name}"),
            "127.0.0.1:0",
            cpus=cpus,
            memory=1 << 30,
            storage=storage,
        )
        ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        self.stops[name] = stop, asyncio.create_task(service.serve(config, ready.set_result, stop))
        self.stack.push_async_callback(self.end, name)
        await within(ready)

    async def end(self, name: str) -> None:
        if name in self.stops:
            stop, task = self.stops.pop(name)
            stop.set()
            await within(task)


@dataclass
class World:
    """A hub that is played, and the clusters."""

    hub: FakeHub
    ends: Ends
    clusters: dict[str, Cluster]
    fragments: dict[str, m.Fragment] = field(default_factory=dict)
    said: int = 0

    def run(self, steps: Sequence[Use], shared: str) -> None:
        """Begin a run in which that step's units are shared."""
        for cluster, body in fragments(steps, {"inputs.rows": {"a": PARTS}}, self.clusters).items():
            fragment = m.Fragment.FromString(body)
            for step in fragment.steps:
                for port in step.outputs if step.name == shared else ():
                    port.store = "shared"
            self.fragments[cluster] = fragment
            assign(self.hub, cluster, fragment.SerializeToString())

    async def end(self) -> dict[str, m.FragmentStatus]:
        """How it ended on each cluster; then it is finished there."""
        await until(lambda: set(self.clusters) <= set(self.ends.of))
        return {cluster: self.ends.of[cluster][0] for cluster in self.clusters}

    def finish(self) -> None:
        self.want(m.DESIRED_STATE_FINISHED)

    def want(self, desired: m.DesiredState.ValueType) -> None:
        """Say so to all clusters."""
        self.said += 1
        for cluster, session in self.hub.live.items():
            told = m.Assignment(fragment=self.fragments[cluster], desired=desired)
            session.say(seq=session.hello.received + 1 + self.said, assign=told)


@asynccontextmanager
async def world(members: Members, hub: FakeHub, server: Served, home: Path, *clusters: str) -> AsyncIterator[World]:
    (home / "data" / "inputs.rows").mkdir(parents=True)
    for part in range(PARTS):
        (home / "data" / "inputs.rows" / f"{part}.csv").write_text(f"{part}\n")
    async with AsyncExitStack() as stack:
        made = World(hub, Ends(hub), {name: Cluster(name, members, home, stack) for name in clusters})
        for cluster in made.clusters.values():
            await cluster.start(server)
        await until(lambda: set(clusters) <= set(hub.live))
        for name in clusters:
            peers = [
                f.PeerDirectory.Peer(
                    cluster=other,
                    gateway_address=made.clusters[other].addresses["peers"],
                    can_dial=True,
                    can_be_dialled=True,
                    reachable=True,
                )
                for other in clusters
                if other != name
            ]
            hub.directories[name] = directory(*peers)
            hub.live[name].say(peers=hub.directories[name])
        yield made


def commanded(
    name: str, executors: list[str], given: dict[str, tuple[str, m.Pairing.ValueType]], script: str, cpus: float = 1.0
) -> Use:
    words = [f"{{in.{port}}}" for port in given]
    more = m.Step(execution=m.Execution(command=m.Execution.Command(argv=["sh", "-c", script, "{out.out}", *words])))
    return Use(name, executors, given, cpus=cpus, more=more)


def making(size: int, log: Path) -> Use:
    """Units of so many bytes; each execution leaves a line in `log`."""
    script = f'echo x >> {log}; (cat "$@"; head -c {size} /dev/zero) > "$0"'
    return commanded("make", ["a"], {"rows": ("inputs.rows.out", EACH)}, script)


def counting(cluster: str, pairing: m.Pairing.ValueType = EACH, cpus: float = 1.0) -> Use:
    return commanded("count", [cluster], {"made": ("make.out", pairing)}, 'cat "$@" | wc -c > "$0"', cpus)


def done(frame: f.SessionRequest, step: str) -> int:
    """How many tasks of a step are done, as far as a frame tells of it."""
    return sum(each.done for each in frame.progress.steps if each.step == step)


async def emptied(store: SharedStore, *clusters: str) -> None:
    """Return once nothing of the run is there any more."""

    async def left() -> list[str]:
        prefixes = [names.of_run("default", "run-1", cluster) for cluster in clusters]
        return [name for prefix in prefixes async for name in store.names(prefix)]

    async with asyncio.timeout(20):
        while await left():  # noqa: ASYNC110 - a bucket tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", ["redis", "objects"])
async def test_units_that_two_clusters_share_cross_no_link(
    members: Members,
    hub: FakeHub,
    hub_server: Served,
    tmp_path: Path,
    redis_server: RedisServer,
    s3_server: S3Server,
    kind: str,
) -> None:
    redis, objects = redis_server.config(), s3_server.config()
    storage = SharedConfig(redis=redis) if kind == "redis" else SharedConfig(objects=objects)
    store = RedisStore(redis) if kind == "redis" else ObjectStore(objects)
    async with world(members, hub, hub_server, tmp_path, "a", "b") as made:
        for cluster in made.clusters.values():
            await cluster.node("n1", storage)
        log = tmp_path / "log"
        rows = source("rows", ["a"])
        count = counting("b")
        made.run([rows, making(SMALL if kind == "redis" else LARGE, log), count, output(count)], "make")
        ends = await made.end()
        assert [end.state for end in ends.values()] == [m.FRAGMENT_STATE_SUCCEEDED] * 2
        (traffic,) = ends["b"].traffic
        assert (traffic.units, traffic.bytes) == (PARTS, 0)
        assert len(ends["b"].outputs) == PARTS
        made.finish()
        await emptied(store, "a", "b")
    await store.close()


async def test_what_a_lost_node_has_shared_is_not_made_again(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path, s3_server: S3Server
) -> None:
    storage = SharedConfig(objects=s3_server.config())
    store = ObjectStore(s3_server.config(storage.objects.prefix if storage.objects else ""))
    async with world(members, hub, hub_server, tmp_path, "a") as made:
        cluster = made.clusters["a"]
        await cluster.node("n1", storage)
        log = tmp_path / "log"
        rows, count = source("rows", ["a"]), counting("a", GATHER, cpus=2.0)  # which has no room on n1
        made.run([rows, making(LARGE, log), count, output(count)], "make")

        await hub.live["a"].wait_for(lambda frame: done(frame, "make") == PARTS)
        await cluster.end("n1")
        await cluster.node("n2", storage, cpus=2.0)
        (end,) = (await made.end()).values()
        assert end.state == m.FRAGMENT_STATE_SUCCEEDED
        assert log.read_text() == "x\n" * PARTS
        made.finish()
        await emptied(store, "a")


async def test_outputs_that_lie_in_a_bucket_outlive_the_disk_of_the_node_that_put_them_there(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path, s3_server: S3Server
) -> None:
    storage = SharedConfig(objects=s3_server.config())
    store = ObjectStore(s3_server.config(storage.objects.prefix if storage.objects else ""))
    async with world(members, hub, hub_server, tmp_path, "a") as made:
        cluster = made.clusters["a"]
        await cluster.node("n1", storage)
        make = making(LARGE, tmp_path / "log")
        kept = output(make)
        kept.more.execution.output.store = "shared"
        made.run([source("rows", ["a"]), make, kept], "make")
        (end,) = (await made.end()).values()
        assert len(end.outputs) == PARTS
        made.want(m.DESIRED_STATE_FINISHED)
        contents = tmp_path / "a" / "n1" / "store" / "content"
        await until(lambda: not list(contents.glob("*/*")))  # all of it is in the bucket alone
        await cluster.end("n1")
        shutil.rmtree(tmp_path / "a" / "n1")
        session = hub.live["a"]
        before = len(session.frames)
        await cluster.node("n2", storage)
        await cluster.node("n1", storage)

        def found(_: f.SessionRequest) -> bool:
            told = [each for frame in session.frames[before:] for each in frame.output.outputs]
            assert not any(each.lost for each in told)
            return {each.unit.id for each in told if each.node} == {each.unit.id for each in end.outputs}

        await session.wait_for(found)
        assert len(list((tmp_path / "a").glob("n*/store/units/default/run-1/*.ref"))) == PARTS
        made.want(m.DESIRED_STATE_FORGOTTEN)
        await emptied(store, "a")
    await store.close()


async def test_a_redis_that_dies_in_the_middle_of_a_run_takes_nothing_with_it(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    server = redis_in(tmp_path)
    server.start()
    try:
        storage = SharedConfig(redis=server.config("x"))
        async with world(members, hub, hub_server, tmp_path, "a", "b") as made:
            for cluster in made.clusters.values():
                await cluster.node("n1", storage)
            rows, count = source("rows", ["a"]), counting("b")
            log = tmp_path / "log"
            made.run([rows, making(SMALL, log), count, output(count)], "make")
            await until(log.exists)
            server.stop()
            ends = await made.end()
            assert [end.state for end in ends.values()] == [m.FRAGMENT_STATE_SUCCEEDED] * 2
            assert len(ends["b"].outputs) == PARTS
            assert log.read_text() == "x\n" * PARTS
    finally:
        server.stop()
