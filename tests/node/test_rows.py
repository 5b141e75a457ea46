"""A chain of uses of one step is executed in a row by one worker; each task of it ends, fails and is told as ever."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from bdw_fed.v1 import node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.node import pool, rows
from cluster_agent.node.works import Assignment
from cluster_agent.orders.messages import Output, Result, UnitInfo
from cluster_agent.runtimes.base import LeftRow
from tests.node.cluster import Cluster, Node, cluster, content, source, wait_until
from tests.node.test_failures import alive, pid_in_log
from tests.node.test_following import Chain
from wire.digests import bytes_digest, unit_id

LENGTH = 8


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any worker is quick, on a machine that has much else to do, too."""
    monkeypatch.setattr(pool, "_SHORT_SECONDS", 60.0)
    monkeypatch.setattr(pool, "_AHEAD_SECONDS", 60.0)


async def begun(edge: Cluster, tmp_path: Path, first: int, **parameters: str) -> tuple[Node, Chain]:
    """A chain that a worker, which is known to be quick (see the fixture), has begun."""
    node = await edge.start(cpus=1.0)
    warm = Chain(edge, tmp_path, await source(edge, "warm", b"1000"), 1, alike=True, **parameters)
    warm.begin(edge)
    await edge.agent.result(warm.key(0))
    edge.agent.results.clear()
    chain = Chain(edge, tmp_path, await source(edge, "first", b"%d" % first), LENGTH, alike=True, **parameters)
    chain.begin(edge)
    return node, chain


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("durability", ["process", "power"])
async def test_all_are_done_and_told_in_their_order(tmp_path: Path, durability: str) -> None:
    async with cluster(tmp_path, durability=durability) as edge:
        node, chain = await begun(edge, tmp_path, 0)
        last = await edge.agent.result(chain.key(LENGTH - 1))
        assert content(node, last.outputs[0].unit) == b"%d" % LENGTH
        assert [result.task for result in edge.agent.results] == chain.tasks
        assert [result.followed for result in edge.agent.results] == [True] * (LENGTH - 1) + [False]
        assert [result.bytes_in for result in edge.agent.results] == [1] * LENGTH
        assert in_a_row(node)


@pytest.mark.usefixtures("quick")
async def test_one_that_dies_is_the_last_and_those_before_it_are_done(edge: Cluster, tmp_path: Path) -> None:
    node, chain = await begun(edge, tmp_path, 0, dies_at="4")
    failed = await edge.agent.result(chain.key(4))
    assert failed.failure.kind == "lost"
    assert [result.task for result in edge.agent.results] == chain.tasks[:5]
    assert [result.followed for result in edge.agent.results] == [True] * 4 + [False]
    assert in_a_row(node)


@pytest.mark.usefixtures("quick")
async def test_one_that_takes_long_is_told_to_run_and_those_before_it_to_be_done(edge: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    node, chain = await begun(edge, tmp_path, 0, slow_from="3", gate=str(gate))
    started = await edge.agent.hear("started", lambda told: told.key == chain.key(3))
    assert started
    await wait_until(lambda: [result.task for result in edge.agent.results] == chain.tasks[:3])
    assert [result.followed for result in edge.agent.results] == [True] * 3
    gate.touch()
    last = await edge.agent.result(chain.key(LENGTH - 1))
    assert content(node, last.outputs[0].unit) == b"%d" % LENGTH


@pytest.mark.usefixtures("quick")
async def test_one_that_takes_long_can_be_cancelled_and_nothing_follows_it(edge: Cluster, tmp_path: Path) -> None:
    node, chain = await begun(edge, tmp_path, 0, slow_from="3", gate=str(tmp_path / "no"))
    await edge.agent.hear("started", lambda told: told.key == chain.key(3))
    pid = await pid_in_log(edge, node.state)
    edge.agent.say(cancel=node_pb2.CancelTask(key=chain.key(3)))
    await wait_until(lambda: not alive(pid))
    after = Chain(edge, tmp_path, await source(edge, "after", b"100"), 2, alike=True)
    after.begin(edge)
    await edge.agent.result(after.key(1))
    assert set(chain.tasks[3:]).isdisjoint(result.task for result in edge.agent.results)


@pytest.mark.usefixtures("quick")
async def test_a_large_output_is_taken_and_the_next_has_it_as_a_file(edge: Cluster, tmp_path: Path) -> None:
    node, chain = await begun(edge, tmp_path, 0, large_from="3")
    last = await edge.agent.result(chain.key(LENGTH - 1))
    assert content(node, last.outputs[0].unit).rstrip() == b"%d" % LENGTH
    assert [result.bytes_out > 16 << 10 for result in edge.agent.results] == [False] * 2 + [True] * (LENGTH - 2)


def in_a_row(node: Node) -> bool:
    """Whether the worker's file has a row."""
    return any(path.read_bytes()[:1] == b"R" for path in (node.state / "rows").iterdir())


# ------------------------------------------------------------------------------------------------- after a crash

TASKS = [bytes([number]) * 16 for number in range(3)]


def left(*ends: bytes) -> LeftRow:
    """A row of three tasks with one port, of which so many have ended."""
    small = SimpleNamespace(outputs=(("unit", "unit.csv"),))
    said = [
        SimpleNamespace(
            key=SimpleNamespace(namespace="default", run="r", task=task, attempt=1), work=SimpleNamespace(small=small)
        )
        for task in TASKS
    ]
    described: list[Assignment] = said  # type: ignore[assignment]
    return LeftRow(rows.describe(described), [(0.5, [data]) for data in ends])


def told(number: int, data: bytes, *, followed: bool) -> Result:
    unit = UnitInfo(unit_id(TASKS[number], "unit", 0), bytes_digest(data), len(data), name="unit.csv")
    outputs = (Output("unit", 0, unit),)
    return Result(TASKS[number], 1, outputs, seconds=0.5, bytes_out=len(data), followed=followed)


async def test_what_a_row_had_done_is_told_by_the_next_daemon(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    rows.recover(store, [left(b"one", b"two")])
    expected = [("default", "r", told(0, b"one", followed=True)), ("default", "r", told(1, b"two", followed=False))]
    assert store.journal.results() == expected
    await store.close()
    again = DiskStore(tmp_path)
    assert again.journal.results() == expected
    assert again.read(UnitKey("default", "r", unit_id(TASKS[1], "unit", 0))) == b"two"
    await again.close()


async def test_what_was_heard_of_a_row_is_what_counts(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    heard = told(0, b"heard", followed=True)
    key = UnitKey("default", "r", heard.outputs[0].unit.id)
    store.put(key, b"heard")
    store.journal.result("default", "r", heard)
    rows.recover(store, [left(b"one", b"two")])
    assert store.journal.results()[0] == ("default", "r", heard)
    assert store.read(key) == b"heard"
    assert [result.task for _, _, result in store.journal.results()] == TASKS[:2]
    await store.close()
