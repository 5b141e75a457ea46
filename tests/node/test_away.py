"""Outputs that shall lie in object storage, on a real server: they go there, are known later, and come back."""

from __future__ import annotations

from pathlib import Path

from bdw_fed.v1 import node_pb2
from cluster_agent.data.shared.config import SharedConfig
from cluster_agent.data.shared.objects import ObjectStore
from tests.fixtures import words
from tests.node.cluster import NAMESPACE, Cluster, command, content, given, order, unit_key, wait_until

SIZE = 100_000


async def objects(bucket: ObjectStore) -> list[str]:
    return [name async for name in bucket.names("cold/edge1/n1/default/run1/")]


def files(state: Path) -> list[Path]:
    return list((state / "store" / "content").glob("*/*"))


async def test_an_output_goes_there_at_the_end_of_its_run_and_is_read_from_there(
    edge: Cluster, storage: SharedConfig, bucket: ObjectStore
) -> None:
    node = await edge.start(storage=storage)
    make = order("make", command("sh", "-c", f"head -c {SIZE} /dev/zero > {{out.x}}"), outputs=["x"], store="disk")
    edge.agent.start(make)
    unit = (await edge.agent.result(make.key)).outputs[0].unit
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1", keep=[unit.id], away=[unit.id]))
    await wait_until(lambda: not files(node.state))
    (name,) = await objects(bucket)
    assert await bucket.read(name) == bytes(SIZE)

    await node.end()
    again = await edge.start(storage=storage)
    hello = edge.agent.all("hello")[-1]
    assert [key.unit for key in hello.units] == [unit.id], "a node that starts again knows what it has there"
    count = order("count", command("sh", "-c", "wc -c < {in.x} > {out.n}"), inputs=[given("x", unit)], outputs=["n"])
    edge.agent.start(count)
    (counted,) = (await edge.agent.result(count.key)).outputs
    assert content(again, counted.unit).strip() == b"%d" % SIZE
    assert len(files(again.state)) == 1, "it has come back to the disk"
    edge.agent.order(words.frees([unit_key(unit)]))
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1"))
    await wait_until(lambda: not list((again.state / "store" / "away").glob("*/*")))
    assert await objects(bucket) == []
