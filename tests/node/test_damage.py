"""Whoever reads a unit whose bytes are not what they were gets none of them, and the coordinator hears of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bdw_fed.client.errors import DownloadFailed
from bdw_fed.client.outputs import Source, download
from bdw_fed.v1 import control_plane_pb2, model_pb2, node_pb2
from cluster_agent.data import proving
from cluster_agent.data.base import UnitKey
from cluster_agent.data.shared.config import SharedConfig
from cluster_agent.data.shared.objects import ObjectStore
from cluster_agent.node.damage import Damages
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.outbox import Outbox
from cluster_agent.orders.messages import Output, Result, UnitInfo
from tests.fixtures import words
from tests.fixtures.rot import rot
from tests.node.cluster import (
    CLUSTER,
    NAMESPACE,
    Cluster,
    Node,
    command,
    content,
    given,
    merger,
    order,
    splitter,
    unit_key,
    wait_until,
)
from wire import permits
from wire.digests import content_name
from wire.identity import Identity, Role, server_name, ssl_client_context
from wire.lines import CACHE

LINES = b"".join(b"%d\n" % number for number in range(20_000))
MAKE = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done > {out.rows}"


@pytest.fixture(autouse=True)
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is stored was last looked at long ago."""
    monkeypatch.setattr(proving, "PROVEN_SECONDS", -1.0)


async def made(edge: Cluster, *, attempt: int = 1) -> UnitInfo:
    """A task makes a unit on the node that has started last."""
    make = order("make", command("sh", "-c", MAKE), outputs=["rows:txt"], attempt=attempt)
    edge.agent.start(make)
    (output,) = (await edge.agent.result(make.key)).outputs
    assert output.unit.size == len(LINES)
    return output.unit


def file_of(node: Node, unit: UnitInfo) -> Path:
    (found,) = (node.state / "store" / "content").glob(f"*/{unit.digest.hex()}")
    return found


async def hear_damage(edge: Cluster, unit: UnitInfo, run: str = "run1") -> node_pb2.UnitsDamaged:
    told: node_pb2.UnitsDamaged = await edge.agent.hear("damaged", lambda each: each.run == run)
    assert (told.namespace, list(told.units), told.digest) == (NAMESPACE, [unit.id], unit.digest)
    assert (told.size, told.why) == (len(LINES), "its bytes are not those of its digest")
    return told


def copy(unit: UnitInfo, attempt: int = 1) -> words.Task:
    argv = command("sh", "-c", "cat {in.rows} > {out.rows}")
    return order("copy", argv, inputs=[given("rows", unit, kind="txt")], outputs=["rows:txt"], attempt=attempt)


def cut(unit: UnitInfo, attempt: int = 1) -> words.Task:
    return order("cut", splitter(count=1), inputs=[given("in", unit, kind="txt")], outputs=["out:txt"], attempt=attempt)


def together(unit: UnitInfo, attempt: int = 1) -> words.Task:
    inputs = [given("in", unit, many=True, kind="txt")]
    return order("merge", merger("concat"), inputs=inputs, outputs=["out:txt"], attempt=attempt)


@pytest.mark.parametrize("read", [copy, cut, together], ids=["a task", "a split", "a merge"])
async def test_a_task_gets_nothing_damaged_and_is_done_once_its_input_was_made_again(
    edge: Cluster, read: Callable[..., words.Task]
) -> None:
    node = await edge.start()
    unit = await made(edge)
    rot(file_of(node, unit), 1000)
    task = read(unit)
    edge.agent.start(task)
    failure = (await edge.agent.result(task.key)).failure
    assert failure is not None
    assert failure.kind == "data", "by no fault of the step"
    await hear_damage(edge, unit)
    kinds = [kind for kind, _ in edge.agent.heard if kind in ("damaged", "finished")]
    assert kinds[-2:] == ["damaged", "finished"], "so that nobody looks for it there again"

    assert (await made(edge, attempt=2)).digest == unit.digest
    again = read(unit, 2)
    edge.agent.start(again)
    (output,) = (await edge.agent.result(again.key)).outputs
    assert content(node, output.unit) == LINES


async def test_the_scrubber_of_a_daemon_finds_what_nobody_reads(edge: Cluster) -> None:
    node = await edge.start(scrub_period=0.05, scrub_most=1e12)
    unit = await made(edge)
    rot(file_of(node, unit), len(LINES) - 1)
    await hear_damage(edge, unit)
    status = (await edge.agent.hear("status", lambda told: told.scrub.damaged == 1 and told.scrub.ended)).scrub
    assert status.damaged == 1


async def test_a_node_that_never_scrubs_does_not(edge: Cluster) -> None:
    node = await edge.start(scrub_period=0.0)
    unit = await made(edge)
    assert not (node.state / "store" / "scrub").exists()
    await node.end()
    assert not (node.state / "store" / "scrub").exists()
    assert unit.size


async def test_a_receiver_takes_nothing_damaged_and_its_sender_finds_it_when_asked(edge: Cluster) -> None:
    first = await edge.start("n1")
    unit = await made(edge)
    rot(file_of(first, unit))
    await edge.start("n2")
    name = server_name(Identity(Role.NODE, f"{CLUSTER}/n1"))
    sent = model_pb2.Unit(id=unit.id, digest=unit.digest, size=unit.size)
    edge.agent.say(fetch=node_pb2.FetchUnit(key=unit_key(unit), unit=sent, addresses=[first.address], server_name=name))
    fetched = await edge.agent.hear("fetched")
    assert fetched.error
    assert fetched.gone, "the other side does not have what was meant"
    edge.agent.say("n1", fetch=node_pb2.FetchUnit(key=unit_key(unit), unit=sent))
    await hear_damage(edge, unit)
    looked = await edge.agent.hear("fetched", after=1)
    assert looked.error == "its bytes are not in the store"


async def test_a_sender_that_pushes_something_damaged_finds_it(edge: Cluster) -> None:
    first = await edge.start("n1")
    unit = await made(edge)
    rot(file_of(first, unit))
    second = await edge.start("n2")
    sent = model_pb2.Unit(id=unit.id, digest=unit.digest, size=unit.size)
    edge.agent.say("n2", expect=node_pb2.ExpectUnit(key=unit_key(unit), unit=sent, from_cluster=CLUSTER))
    name = server_name(Identity(Role.NODE, f"{CLUSTER}/n2"))
    edge.agent.say(
        "n1", push=node_pb2.PushUnit(key=unit_key(unit), unit=sent, address=second.address, server_name=name)
    )
    pushed = await edge.agent.hear("pushed")
    assert pushed.error
    assert pushed.gone
    await hear_damage(edge, unit)


@pytest.mark.parametrize("proven", ["long ago", "just now"])
async def test_whoever_downloads_an_output_gets_nothing_damaged(
    edge: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proven: str
) -> None:
    """Where the node has no reason to look by itself, whoever got wrong bytes tells it to."""
    if proven == "just now":
        monkeypatch.setattr(proving, "PROVEN_SECONDS", 3600.0)
    node = await edge.start()
    unit = await made(edge)
    told = control_plane_pb2.OutputsResponse.Located(
        output=model_pb2.RunOutput(
            name="rows",
            unit=model_pb2.Unit(id=unit.id, digest=unit.digest, size=unit.size),
            cluster=CLUSTER,
            node="n1",
        ),
        addresses=[node.address],
        server_name=server_name(Identity(Role.NODE, f"{CLUSTER}/n1")),
    )
    hub, anna = edge.members.credentials(Role.HUB, "hub"), edge.members.credentials(Role.USER, "anna")
    permit = permits.issue(hub, "anna", NAMESPACE, "run1", now=time.time())
    source = Source(told, NAMESPACE, "run1", ssl_client_context(anna), permit)
    assert (await asyncio.to_thread(download, source, tmp_path / "good.txt", 0.0)).path.read_bytes() == LINES
    rot(file_of(node, unit), 5000)
    with pytest.raises(DownloadFailed, match=r"404 unit [0-9a-f]+ of run run1 is damaged|404 the unit is not here"):
        await asyncio.to_thread(download, source, tmp_path / "bad.txt", 1.0)
    assert not (tmp_path / "bad.txt").exists()
    await hear_damage(edge, unit)


async def test_a_cached_result_that_is_damaged_is_no_result(edge: Cluster) -> None:
    node = await edge.start()
    unit = await made(edge)
    edge.agent.say(keep=node_pb2.KeepContents(namespace=NAMESPACE, run="run1", units=[unit.id]))
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1"))
    cached = node.state / "store" / "units" / NAMESPACE / CACHE / content_name(unit.digest).hex()
    await wait_until(lambda: cached.exists() and not cached.parent.with_name("run1").exists())
    rot(file_of(node, unit))
    order_ = node_pb2.TakeContents(namespace=NAMESPACE, run="run2", task=b"t")
    order_.contents.add(unit=b"u" * 16, digest=unit.digest)
    edge.agent.say(take=order_)
    assert not (await edge.agent.hear("taken")).found
    told = await edge.agent.hear("damaged", lambda each: each.run == CACHE)
    assert list(told.units) == [content_name(unit.digest)]


async def test_an_object_that_is_damaged_does_not_come_back_and_is_told_of_as_gone_from_there_too(
    edge: Cluster, storage: SharedConfig, bucket: ObjectStore, tmp_path: Path
) -> None:
    """Otherwise another node would take it over as it is."""
    node = await edge.start(storage=storage)
    unit = await made(edge)
    keep = node_pb2.EndRun(namespace=NAMESPACE, run="run1", keep=[unit.id], away=[unit.id])
    edge.agent.say(end_run=keep)
    await wait_until(lambda: not list((node.state / "store" / "content").glob("*/*")))
    (name,) = [name async for name in bucket.names("units/")]
    (tmp_path / "wrong").write_bytes(b"x" * len(LINES))
    await bucket.put(name, tmp_path / "wrong")
    task = copy(unit)
    edge.agent.start(task)
    failure = (await edge.agent.result(task.key)).failure
    assert failure is not None
    assert failure.kind == "data"
    told = await edge.agent.hear("damaged")
    assert list(told.units) == [unit.id]
    assert "is not what was put there" in told.why
    assert told.shared


async def test_what_is_damaged_is_not_sent_to_object_storage(
    edge: Cluster, storage: SharedConfig, bucket: ObjectStore
) -> None:
    node = await edge.start(storage=storage)
    unit = await made(edge)
    rot(file_of(node, unit))
    keep = node_pb2.EndRun(namespace=NAMESPACE, run="run1", keep=[unit.id], away=[unit.id])
    edge.agent.say(end_run=keep)
    await hear_damage(edge, unit)


@pytest.mark.parametrize("restarted", [False, True], ids=["the same daemon", "the next daemon"])
async def test_a_result_that_was_not_heard_before_its_output_was_damaged_is_put_right_once_it_is(
    edge: Cluster, restarted: bool
) -> None:
    """It says that the output is here; so what is damaged is told once more, when nobody can believe it any longer."""
    node = await edge.start()
    edge.agent.acknowledges = False
    unit = await made(edge)
    task = edge.agent.all("finished")[-1].key
    rot(file_of(node, unit))
    sent = model_pb2.Unit(id=unit.id, digest=unit.digest, size=unit.size)
    edge.agent.say(fetch=node_pb2.FetchUnit(key=unit_key(unit), unit=sent))
    await hear_damage(edge, unit)
    if restarted:
        await node.end()
        await edge.start()
    edge.agent.order(words.acks([task]))
    again = await edge.agent.hear("damaged", after=1)
    assert (again.run, list(again.units)) == ("run1", [unit.id])


def test_what_of_a_result_is_damaged_is_told_when_it_was_heard_though_its_task_was_called_back_meanwhile() -> None:
    """The result was on its way as the node was told to stop the task: it is forgotten here, and counts there."""
    told: list[node_pb2.NodeMessage] = []
    outbox, here = Outbox(), set[UnitKey]()
    damages = Damages(told.append, outbox, here.__contains__)
    key = TaskKey("default", "run1", b"t" * 16, 1)
    lost, left = (Output("out", index, UnitInfo(bytes([index]) * 16, b"d" * 32, 10)) for index in range(2))
    outbox.keep(key, Result(key.task, 1, (lost, left)))
    here.add(UnitKey("default", "run1", left.unit.id))
    damages.begin()
    outbox.forget([key])
    damages.acked("default", "run1", [(key.task, 1)])
    assert [(each.damaged.run, list(each.damaged.units)) for each in told] == [("run1", [lost.unit.id])]
    damages.acked("default", "run1", [(key.task, 1)])
    assert len(told) == 1
