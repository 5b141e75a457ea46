"""How much a store may still take is known, and who waits for more goes on as soon as there is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import NoSpaceError
from cluster_agent.data.space import coarse
from cluster_agent.data.store import DiskStore

MIB = 1 << 20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    made = DiskStore(tmp_path / "store", capacity=100_000)
    yield made
    await made.close()


def key(number: int) -> UnitKey:
    return UnitKey("default", "run1", number.to_bytes(16, "big"))


def file(directory: Path, size: int, number: int = 0) -> Path:
    path = directory / f"made{number}"
    path.write_bytes(bytes([number]) * size)
    return path


class Disk:
    """A file system with so many blocks of 1 MiB, of which so many are free."""

    f_frsize = MIB

    def __init__(self, blocks: int, free: int) -> None:
        self.f_blocks, self.f_bavail = blocks, free


async def test_a_store_takes_no_more_than_its_capacity_and_leaves_what_came_where_it_was(
    store: DiskStore, tmp_path: Path
) -> None:
    await store.commit(file(tmp_path, 60_000), key(1))
    second = file(tmp_path, 50_000, 2)
    with pytest.raises(NoSpaceError, match="the store may take 40000 more"):
        await store.commit(second, key(2))
    assert second.exists()
    assert not store.holds(key(2))
    await store.free([key(1)])
    await store.commit(second, key(2))
    assert store.holds(key(2))


async def test_the_same_bytes_under_another_name_need_no_room(store: DiskStore, tmp_path: Path) -> None:
    await store.commit(file(tmp_path, 60_000), key(1))
    await store.commit(file(tmp_path, 60_000), key(2))
    assert (store.stored_bytes, store.space.free()) == (60_000, 40_000)


async def test_who_waits_for_space_goes_on_when_something_is_freed(store: DiskStore, tmp_path: Path) -> None:
    await store.commit(file(tmp_path, 60_000), key(1))
    waiting = asyncio.create_task(store.space.wait_for(50_000))
    await asyncio.sleep(0)
    assert not waiting.done()
    told: list[int] = []
    store.space.listeners.append(lambda: told.append(store.space.free()))
    await store.free([key(1)])
    await asyncio.wait_for(waiting, 30)
    assert told[-1] == 100_000, "and whoever tells of it is told"


@pytest.mark.parametrize(
    ("blocks", "free", "left"),
    [(10_000, 1_000, 1_000 - 64), (160, 30, 20), (160, 5, 0)],
    ids=["large", "small", "full"],
)
def test_a_part_of_the_disk_is_left_to_tasks_and_of_a_small_one_no_more_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, free: int, left: int
) -> None:
    def statvfs(_: Any) -> Disk:
        return Disk(blocks, free)

    async def look() -> int:
        store = DiskStore(tmp_path / "store")
        with monkeypatch.context() as patched:
            patched.setattr(os, "statvfs", statvfs)
            found = store.space.free()
        await store.close()
        return found

    assert asyncio.run(look()) == left * MIB


def test_what_differs_little_is_told_alike_and_never_as_more() -> None:
    assert coarse(0) == 0
    assert coarse(1_000_000) == coarse(1_000_001)
    for size in range(1, 5_000):
        assert size * 15 / 16 < coarse(size) <= size
