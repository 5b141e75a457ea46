"""Outputs of ended runs in object storage, on a real server: they go there, come back, and outlive the node's disk."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.shared import names
from cluster_agent.data.shared.config import SharedConfig
from cluster_agent.data.shared.objects import ObjectStore
from cluster_agent.orders.messages import UnitInfo
from tests.fixtures import words
from tests.fixtures.shared import S3Server, s3_in
from tests.node.cluster import (
    CLUSTER,
    DEADLINE,
    NAMESPACE,
    Cluster,
    Node,
    command,
    content,
    given,
    order,
    unit_key,
    wait_until,
)

SIZE = 100_000
TINY = 500
HERE = names.of_run(NAMESPACE, "run1", CLUSTER)


async def objects(bucket: ObjectStore, directory: str = HERE) -> list[str]:
    return [name async for name in bucket.names(directory)]


def files(state: Path) -> list[Path]:
    return list((state / "store" / "content").glob("*/*"))


async def made(edge: Cluster, size: int = SIZE) -> UnitInfo:
    """A task that makes so many bytes is done."""
    make = order("make", command("sh", "-c", f"head -c {size} /dev/zero > {{out.x}}"), outputs=["x"], store="disk")
    edge.agent.start(make)
    return (await edge.agent.result(make.key)).outputs[0].unit


def end(edge: Cluster, *units: UnitInfo, node: str = "") -> None:
    """The run is over, and these are its outputs, which shall lie in object storage."""
    kept = [unit.id for unit in units]
    edge.agent.say(node, end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1", keep=kept, away=kept))


async def sent(edge: Cluster, node: Node, unit: UnitInfo) -> None:
    """The run ends, and its output goes there."""
    end(edge, unit, node=node.config.node)
    await edge.agent.hear("shared", lambda told: list(told.units) == [unit.id])
    await wait_until(lambda: not files(node.state))


async def referred(edge: Cluster, unit: UnitInfo, place: str, node: str) -> node_pb2.FetchFinished:
    """What a node says that is to take a unit over."""
    told = model_pb2.Unit(id=unit.id, digest=unit.digest, size=unit.size)
    asked = len(edge.agent.all("fetched"))
    command = node_pb2.FetchUnit(key=unit_key(unit), unit=told, from_cluster=CLUSTER, place=place, refer=True)
    edge.agent.say(node, fetch=command)
    return await edge.agent.hear("fetched", after=asked)  # type: ignore[no-any-return]


async def read(edge: Cluster, node: Node, unit: UnitInfo, number: int = 0) -> None:
    """A task on the node that has attached last reads all of it."""
    execution = command("sh", "-c", "wc -c < {in.x} > {out.n}")
    count = order("count", execution, inputs=[given("x", unit)], outputs=["n"], number=number)
    edge.agent.start(count)
    (counted,) = (await edge.agent.result(count.key)).outputs
    assert content(node, counted.unit).strip() == b"%d" % unit.size


async def test_an_output_goes_there_at_the_end_of_its_run_and_is_read_from_there(
    edge: Cluster, storage: SharedConfig, bucket: ObjectStore
) -> None:
    node = await edge.start(storage=storage)
    unit = await made(edge)
    await sent(edge, node, unit)
    (name,) = await objects(bucket)
    assert await bucket.read(name) == bytes(SIZE)

    await node.end()
    again = await edge.start(storage=storage)
    hello = edge.agent.all("hello")[-1]
    assert [key.unit for key in hello.units] == [unit.id], "a node that starts again knows what it has there"
    said = len(edge.agent.all("shared"))
    end(edge, unit)
    await edge.agent.hear("shared", lambda told: list(told.units) == [unit.id], after=said)
    await read(edge, again, unit)
    assert len(files(again.state)) == 1, "it has come back to the disk"
    assert await objects(bucket) == [name], "and is there for the other nodes all the same"

    edge.agent.order(words.frees([unit_key(unit)]))
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1"))
    await wait_until(lambda: not list((again.state / "shared").glob("*/*")))
    assert await objects(bucket) == []


async def test_another_node_takes_over_what_a_lost_one_has_there(
    edge: Cluster, storage: SharedConfig, bucket: ObjectStore
) -> None:
    node = await edge.start("n1", storage=storage)
    unit = await made(edge)
    await sent(edge, node, unit)
    await node.end()
    shutil.rmtree(node.state)

    other = await edge.start("n2", storage=storage)
    told = await referred(edge, unit, bucket.place, "n2")
    assert (told.error, told.shared, told.bytes) == ("", True, 0)
    assert not files(other.state), "no bytes move until somebody reads them"
    await other.end()
    other = await edge.start("n2", storage=storage)
    assert [key.unit for key in edge.agent.all("hello")[-1].units] == [unit.id], "that is on its disk"
    await read(edge, other, unit)
    edge.agent.order(words.frees([unit_key(unit)]))
    gone = node_pb2.UnshareUnits(namespace=NAMESPACE, run="run1", place=bucket.place, units=[unit.id], answer=True)
    edge.agent.say(unshare=gone)
    answer = await edge.agent.hear("unshared")
    assert (list(answer.units), answer.error) == ([unit.id], "")
    assert await objects(bucket) == []


async def test_an_output_that_a_full_disk_has_sent_there_before_is_the_clusters_from_the_end_on(
    edge: Cluster, storage: SharedConfig, bucket: ObjectStore
) -> None:
    """Though nobody asks for it to be there: until then it is the node's own."""
    node = await edge.start(storage=storage, disk=SIZE + SIZE // 10)
    unit = await made(edge)
    await wait_until(lambda: not files(node.state))
    assert (len(await objects(bucket, "cold/")), await objects(bucket)) == (1, [])
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1", keep=[unit.id]))
    await edge.agent.hear("shared", lambda told: list(told.units) == [unit.id])
    assert await objects(bucket) == [HERE + unit.id.hex()]
    async with asyncio.timeout(DEADLINE):
        while await objects(bucket, "cold/"):  # noqa: ASYNC110 - a bucket tells nobody
            await asyncio.sleep(0.02)
    await read(edge, node, unit)


async def test_a_small_output_is_there_too(edge: Cluster, storage: SharedConfig, bucket: ObjectStore) -> None:
    """It stays in the node's journal besides."""
    node = await edge.start("n1", storage=storage)
    unit = await made(edge, TINY)
    end(edge, unit)
    await edge.agent.hear("shared", lambda told: list(told.units) == [unit.id])
    assert content(node, unit) == bytes(TINY)
    other = await edge.start("n2", storage=storage)
    assert not (await referred(edge, unit, bucket.place, "n2")).error
    assert content(other, unit) == bytes(TINY)


async def test_outputs_that_have_the_same_bytes_are_there_each(
    edge: Cluster, storage: SharedConfig, bucket: ObjectStore
) -> None:
    """One of them may be deleted long before the other."""
    node = await edge.start(storage=storage)
    make = order(
        "make", command("sh", "-c", f"head -c {SIZE} /dev/zero | tee {{out.x}} > {{out.y}}"), outputs=["x", "y"]
    )
    edge.agent.start(make)
    first, second = (output.unit for output in (await edge.agent.result(make.key)).outputs)
    end(edge, first, second)
    await edge.agent.hear("shared", lambda told: set(told.units) == {first.id, second.id})
    await wait_until(lambda: not files(node.state))
    await bucket.delete([HERE + first.id.hex()])
    edge.agent.order(words.frees([unit_key(first)]))
    await read(edge, node, second)
    assert await objects(bucket) == [HERE + second.id.hex()]


async def test_what_is_not_there_is_told_as_lost_and_no_answer_as_none(edge: Cluster, own_bucket: S3Server) -> None:
    config = own_bucket.config("x")
    bucket = ObjectStore(config)
    await edge.start(storage=SharedConfig(objects=config))
    units = [UnitInfo(bytes([number] * 16), bytes(32), size) for number, size in enumerate((TINY, SIZE), 1)]
    for unit in units:
        told = await referred(edge, unit, bucket.place, "n1")
        assert told.error, unit
        assert (told.gone, told.unshared, told.shared) == (True, True, False)
        await bucket.put(HERE + unit.id.hex(), b"other bytes")
        assert (await referred(edge, unit, bucket.place, "n1")).gone
    own_bucket.stop()
    told = await referred(edge, units[1], bucket.place, "n1")
    assert told.error
    assert (told.gone, told.unshared) == (False, True)
    edge.agent.say(
        unshare=node_pb2.UnshareUnits(namespace=NAMESPACE, run="run1", place=bucket.place, all=True, answer=True)
    )
    assert (await edge.agent.hear("unshared")).error, "so that it is asked for again"
    await bucket.close()


@pytest.fixture
def own_bucket(tmp_path: Path) -> Iterator[S3Server]:
    """One that a test may break."""
    (tmp_path / "s3").mkdir()
    server = s3_in(tmp_path / "s3")
    server.start()
    yield server
    server.stop()
