"""Nodes and shared places: units go there, come from there, and never depend on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.shared import names
from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.config import SharedConfig
from cluster_agent.data.shared.errors import MissingError
from cluster_agent.data.shared.places import SharedPlaces
from cluster_agent.orders.messages import Result, UnitInfo
from tests.fixtures import words
from tests.fixtures.shared import RedisServer, S3Server, redis_in
from tests.node.cluster import (
    CLUSTER,
    DEADLINE,
    NAMESPACE,
    Cluster,
    Node,
    command,
    content,
    order,
    unit_key,
    wait_until,
)
from wire.identity import Identity, Role, server_name

SIZES = {"tiny": 5, "small": 40_000, "large": 3 << 20}
SPOILT = b"other bytes"


@pytest.fixture
def storage(redis_server: RedisServer, s3_server: S3Server) -> SharedConfig:
    """Places that no other test uses."""
    return SharedConfig(redis_server.config(), s3_server.config())


@pytest.fixture
async def places(storage: SharedConfig) -> AsyncIterator[SharedPlaces]:
    """As the test itself looks at them."""
    opened = SharedPlaces(storage)
    yield opened
    await opened.close()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = redis_in(tmp_path)
    server.start()
    yield server
    server.stop()


def making(size: int, store: str = "shared", number: int = 0) -> words.Task:
    """A task that makes a unit of so many bytes."""
    made = command("sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x > {{out.x}}")
    task = order("make", made, outputs=["x"], number=number)
    task.start.outputs[0].store = store
    return task


async def executed(edge: Cluster, task: words.Task) -> Result:
    edge.agent.start(task)
    result = await edge.agent.result(task.key)
    assert result.failure is None, result.failure
    return result


def name_of(unit: UnitInfo) -> str:
    return names.of_unit(NAMESPACE, "run1", CLUSTER, unit.id)


def fetch(unit: UnitInfo, place: str, node: Node | None = None) -> node_pb2.FetchUnit:
    told = model_pb2.Unit(id=unit.id, digest=unit.digest, size=unit.size)
    order = node_pb2.FetchUnit(key=unit_key(unit), unit=told, place=place, from_cluster=CLUSTER)
    if node is not None:
        order.addresses.append(node.address)
        order.server_name = server_name(Identity(Role.NODE, f"{CLUSTER}/{node.config.node}"))
    return order


def store_of(places: SharedPlaces, name: str) -> SharedStore:
    store = places.get(name)
    assert store is not None
    return store


async def names_in(places: SharedPlaces) -> set[str]:
    return {
        name
        for store in places
        for each in [names.of_run(NAMESPACE, "run1", CLUSTER)]
        async for name in store.names(each)
    }


async def emptied(places: SharedPlaces) -> None:
    """Return once nothing of the run is in any place; nobody tells of that."""
    async with asyncio.timeout(DEADLINE):
        while await names_in(places):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_unit_is_in_its_place_when_it_is_told_and_comes_from_there(
    edge: Cluster, storage: SharedConfig, places: SharedPlaces
) -> None:
    await edge.start("n1", storage=storage)
    outputs = {size: (await executed(edge, making(size, number=size))).outputs[0] for size in SIZES.values()}
    second = await edge.start("n2", storage=storage)
    for count, (size, output) in enumerate(outputs.items()):
        wanted = places.objects if size == SIZES["large"] else places.redis
        assert wanted is not None and output.place == wanted.place
        edge.agent.say("n2", fetch=fetch(output.unit, output.place))  # no node is named
        fetched = await edge.agent.hear("fetched", after=count)
        assert (fetched.error, fetched.shared, fetched.unshared, fetched.bytes) == ("", True, False, size)
        assert content(second, output.unit) == b"x" * size


@pytest.mark.parametrize("spoilt", [False, True])
async def test_a_place_that_has_lost_or_spoilt_a_unit_is_passed_over(
    edge: Cluster, storage: SharedConfig, places: SharedPlaces, spoilt: bool
) -> None:
    first = await edge.start("n1", storage=storage)
    outputs = {size: (await executed(edge, making(size, number=size))).outputs[0] for size in SIZES.values()}
    second = await edge.start("n2", storage=storage)
    for count, (size, output) in enumerate(outputs.items()):
        store = store_of(places, output.place)
        await (store.put(name_of(output.unit), SPOILT) if spoilt else store.delete([name_of(output.unit)]))
        edge.agent.say("n2", fetch=fetch(output.unit, output.place))
        fetched = await edge.agent.hear("fetched", after=2 * count)
        assert fetched.error and fetched.unshared and not fetched.gone, "there may be another way"
        edge.agent.say("n2", fetch=fetch(output.unit, output.place, first))
        fetched = await edge.agent.hear("fetched", after=2 * count + 1)
        assert (fetched.error, fetched.shared, fetched.unshared) == ("", False, True)
        assert content(second, output.unit) == b"x" * size


async def test_many_small_units_come_together(edge: Cluster, storage: SharedConfig) -> None:
    await edge.start("n1", storage=storage)
    outputs = [(await executed(edge, making(100, number=number))).outputs[0] for number in range(5)]
    second = await edge.start("n2", storage=storage)
    for output in outputs:
        edge.agent.say("n2", fetch=fetch(output.unit, output.place))
    for count in range(len(outputs)):
        assert not (await edge.agent.hear("fetched", after=count)).error
    assert [content(second, output.unit) for output in outputs] == [b"x" * 100] * 5


async def test_results_of_a_run_are_told_in_their_order_while_one_waits_for_its_place(
    edge: Cluster, storage: SharedConfig
) -> None:
    await edge.start("n1", storage=storage, cpus=1.0)
    tasks = [making(2 << 20, number=0), making(10, "disk", number=1), making(2 << 20, number=2)]
    for task in tasks:
        edge.agent.start(task)
    for task in tasks:
        await edge.agent.result(task.key)
    assert [result.task for result in edge.agent.results] == [task.key.task for task in tasks]
    assert [bool(result.outputs[0].place) for result in edge.agent.results] == [True, False, True]


async def test_what_other_nodes_may_want_goes_to_redis_once_its_result_is_heard(
    edge: Cluster, storage: SharedConfig, places: SharedPlaces
) -> None:
    await edge.start("n1", storage=storage)
    alone = await executed(edge, making(SIZES["small"], "", number=1))
    assert places.redis is not None
    edge.agent.say(shared=node_pb2.SharedPlaces(places=[places.redis.place]))
    made = {size: await executed(edge, making(SIZES[size], "", number=2)) for size in SIZES}
    shared = await edge.agent.hear("shared")
    unit = made["small"].outputs[0].unit
    assert (shared.place, list(shared.units)) == (places.redis.place, [unit.id])
    assert not any(result.outputs[0].place for result in (alone, *made.values()))
    assert await names_in(places) == {name_of(unit)}
    gone = node_pb2.UnshareUnits(namespace=NAMESPACE, run="run1", place=shared.place, units=[unit.id])
    edge.agent.say(unshare=gone)
    await emptied(places)


async def test_a_redis_that_is_away_delays_nothing_and_is_used_again(edge: Cluster, own_redis: RedisServer) -> None:
    storage = SharedConfig(own_redis.config("x"))
    first = await edge.start("n1", storage=storage)
    (before,) = (await executed(edge, making(100))).outputs
    own_redis.stop()
    (away,) = (await executed(edge, making(100, number=1))).outputs
    assert before.place and not away.place
    second = await edge.start("n2", storage=storage)
    edge.agent.say("n2", fetch=fetch(before.unit, before.place, first))
    fetched = await edge.agent.hear("fetched")
    assert (fetched.error, fetched.shared, fetched.unshared) == ("", False, True)
    assert content(second, before.unit) == b"x" * 100
    own_redis.start()
    number = 2
    while not (await executed(edge, making(100, number=number))).outputs[0].place:
        number += 1


async def test_a_run_is_swept_also_what_was_left_by_a_daemon_that_was_killed(
    edge: Cluster, storage: SharedConfig, places: SharedPlaces
) -> None:
    first = await edge.start("n1", storage=storage)
    for size in SIZES.values():
        await executed(edge, making(size, number=size))
    assert len(await names_in(places)) == len(SIZES)
    await first.end()
    await edge.start("n1", storage=storage)
    hello = edge.agent.all("hello")[-1]
    assert [run.run for run in hello.shared] == ["run1"]
    assert set(hello.places) == set(places.names())
    end = node_pb2.EndRun(namespace=NAMESPACE, run="run1", keep_shared=True)
    edge.agent.say(end_run=end)
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1"))
    await wait_until(lambda: not list((first.state / "shared").glob("*/*")))
    assert not await names_in(places)


async def test_one_node_sweeps_for_those_that_are_gone(
    edge: Cluster, storage: SharedConfig, places: SharedPlaces
) -> None:
    first = await edge.start("n1", storage=storage)
    (output,) = (await executed(edge, making(100))).outputs
    await first.end()
    await edge.start("n2", storage=storage)
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1", sweep=True))
    store = store_of(places, output.place)
    await emptied(places)
    with pytest.raises(MissingError):
        await store.read(name_of(output.unit))
