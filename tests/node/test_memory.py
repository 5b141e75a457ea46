"""What tasks make lies in memory within a budget, where its edge allows that; what does not fit goes to the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bdw_fed.v1 import model_pb2
from cluster_agent.data.tiers.memory import MemoryTier, memory_place
from cluster_agent.data.tiers.shelf import Shelf
from cluster_agent.orders.messages import Result
from tests.node.cluster import Cluster, cluster, command, content, given, order, source, splitter

SIZE = 100_000
WRITE = command("sh", "-c", "head -c 100000 /dev/zero > {out.rows}")


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is."""
    monkeypatch.setattr(MemoryTier, "tight", False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What stands for the file system in memory."""
    made = tmp_path / "memory"
    made.mkdir()
    return made


@pytest.fixture
async def edge(tmp_path: Path, place: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        made.options |= {"memory_tier": 8 << 20, "memory_directory": place}
        yield made


async def done(
    edge: Cluster, step: str, *inputs: model_pb2.Unit, store: str = "", run: model_pb2.Execution = WRITE
) -> Result:
    task = order(step, run, inputs=[given("rows", *inputs)] if inputs else [], outputs=["rows:csv"], store=store)
    edge.agent.start(task)
    return await edge.agent.result(task.key)


def in_memory(place: Path) -> list[Path]:
    return sorted(place.glob("bdw-fed-*-store-*/content/*/*"))


async def test_where_nobody_has_said_what_memory_may_take_only_what_asks_for_it_lies_there(
    edge: Cluster, place: Path
) -> None:
    await edge.start(memory_tier=None)
    await done(edge, "left-to-the-node")
    assert in_memory(place) == []
    others = command("sh", "-c", "head -c 100000 /dev/urandom > {out.rows}")
    await done(edge, "asks-for-it", store="memory", run=others)
    assert [path.stat().st_size for path in in_memory(place)] == [SIZE]


async def test_what_a_task_makes_is_read_from_memory_and_a_daemon_that_stops_leaves_nothing_there(
    edge: Cluster, place: Path
) -> None:
    node = await edge.start()
    (made,) = (await done(edge, "make")).outputs
    assert [path.stat().st_size for path in in_memory(place)] == [SIZE]
    (place_of,) = place.glob("bdw-fed-*-store-*")
    assert place_of.stat().st_mode & 0o777 == 0o700
    copy = command("sh", "-c", "cat {in.rows} {in.rows} > {out.rows}")
    (twice,) = (await done(edge, "twice", made.unit, run=copy)).outputs
    assert twice.unit.size == 2 * SIZE
    await node.end()
    assert not place_of.exists()
    assert content(node, made.unit) == bytes(SIZE)


@pytest.mark.parametrize("store", ["disk", "shared"])
async def test_what_shall_lie_on_the_disk_does(edge: Cluster, place: Path, store: str) -> None:
    node = await edge.start()
    (made,) = (await done(edge, "make", store=store)).outputs
    assert content(node, made.unit) == bytes(SIZE)
    assert in_memory(place) == []


async def test_what_has_to_survive_the_loss_of_power_is_not_in_memory(tmp_path: Path, place: Path) -> None:
    async with cluster(tmp_path, durability="power") as edge:
        node = await edge.start(memory_tier=8 << 20, memory_directory=place)
        (made,) = (await done(edge, "make", store="memory")).outputs
        assert content(node, made.unit) == bytes(SIZE)
        assert in_memory(place) == []


async def test_the_pieces_of_a_file_lie_in_memory_as_far_as_there_is_room(edge: Cluster, place: Path) -> None:
    node = await edge.start(memory_tier=3 << 20)
    unit = await source(edge, "rows.txt", b"x" * 99_999 + b"\n" + (b"y" * 99_999 + b"\n") * 59)
    split = order("cut", splitter(size=SIZE), inputs=[given("in", unit)], outputs=["out"])
    edge.agent.start(split)
    made = [output.unit for output in (await edge.agent.result(split.key)).outputs]
    assert len(made) == 60
    await node.end()
    assert content(node, made[0]) == b"x" * 99_999 + b"\n"
    assert content(node, made[59]) == b"y" * 99_999 + b"\n"


async def test_a_task_that_makes_more_than_was_to_be_expected_is_given_back_and_writes_to_the_disk_then(
    edge: Cluster, place: Path
) -> None:
    """It is stopped, so that nobody else's memory is taken, and the attempt is not counted."""
    node = await edge.start()
    endless = f"case {{out.rows}} in {place}/*) head -c 20000000 /dev/zero > {{out.rows}}; exec sleep 1000;; esac;"
    large = command("sh", "-c", f"{endless} head -c 20000000 /dev/zero > {{out.rows}}")
    first = order("large", large, outputs=["rows:csv"])
    edge.agent.start(first)
    failure = (await edge.agent.result(first.key)).failure
    assert failure is not None and failure.kind == "room"
    again = order("large", large, outputs=["rows:csv"], attempt=2)
    edge.agent.start(again)
    (made,) = (await edge.agent.result(again.key)).outputs
    assert content(node, made.unit) == bytes(20_000_000)
    assert in_memory(place) == []


def test_room_is_reserved_for_what_is_expected_and_given_back(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        tier = MemoryTier(Shelf(tmp_path / "memory", executor, lambda *_: None), 1000, executor, lambda: False)
        first = tier.reserve(250)
        assert first is not None and first.directory.is_dir()
        assert tier.reserve(251) is None, "without a word of the workflow a task takes a quarter at most"
        second = tier.reserve(700, meant=True)
        assert second is not None
        assert tier.reserve(51, meant=True) is None
        tier.release(second)
        assert not second.directory.exists()
        assert tier.room == 750
        assert not tier.too_much(first, 1000)
        assert tier.too_much(first, 1001)
        step = ("default", "run1", "make")
        assert tier.expected(step, 10) == 1 << 20
        tier.made(step, 70)
        tier.made(step, 30)
        assert tier.expected(step, 10) == 70


def test_what_daemons_have_left_in_memory_goes_when_their_state_has_gone(tmp_path: Path, place: Path) -> None:
    states = [tmp_path / "one", tmp_path / "two"]
    for state in states:
        state.mkdir()
    made = [memory_place(state, 100, place) for state in states]
    states[0].rmdir()
    assert memory_place(states[1], 0, place) is not None, "what lies there is found, though nothing more may come"
    assert made[0] is not None and not made[0].root.exists()
    assert memory_place(tmp_path, 0, place) is None


def test_a_daemon_that_starts_leaves_the_place_of_one_that_is_just_starting(tmp_path: Path, place: Path) -> None:
    """Neither has a store yet."""
    first = memory_place(tmp_path / "n1" / "store", 100, place)
    assert memory_place(tmp_path / "n2" / "store", 100, place) is not None
    assert first is not None
    assert first.root.exists()


def test_a_place_that_others_can_read_is_not_used(tmp_path: Path, place: Path) -> None:
    made = memory_place(tmp_path, 100, place)
    assert made is not None
    made.root.chmod(0o755)
    with pytest.raises(PermissionError, match="not ours alone"):
        memory_place(tmp_path, 100, place)
