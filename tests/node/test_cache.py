"""Contents that are kept for other runs: there with their very bytes, or not there; and the first to go."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bdw_fed.v1 import node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import NoSpaceError
from cluster_agent.data.store import DiskStore
from cluster_agent.node.cache import Cache
from tests.node.cluster import NAMESPACE, Cluster, content
from wire.digests import bytes_digest
from wire.lines import CACHE

CAPACITY = 100_000
SIZES = pytest.mark.parametrize("size", [10, 50_000], ids=["small", "large"])


class Kept:
    """A store with a cache, and runs that put things into both."""

    def __init__(self, root: Path, capacity: int = 0) -> None:
        self.store = DiskStore(root / "store", capacity=capacity)
        self.cache = Cache(self.store)
        self.root = root
        self.units = 0

    async def made(self, data: bytes, *, run: str = "first") -> bytes:
        """A run makes something and is over; its digest."""
        self.units += 1
        unit = self.units.to_bytes(16, "big")
        path = self.root / "made"
        path.write_bytes(data)
        await self.store.commit(path, UnitKey(NAMESPACE, run, unit))
        await self.cache.keep(node_pb2.KeepContents(namespace=NAMESPACE, run=run, units=[unit]))
        await self.store.end_run(NAMESPACE, run, [])
        return bytes_digest(data)

    async def take(self, *digests: bytes, namespace: str = NAMESPACE) -> bool:
        """Another run wants them."""
        order = node_pb2.TakeContents(namespace=namespace, run="second", task=b"t")
        for number, digest in enumerate(digests):
            order.contents.add(unit=number.to_bytes(16, "big"), digest=digest)
        return await self.cache.take(order)

    def taken(self, number: int = 0) -> bytes:
        found = self.store.find(UnitKey(NAMESPACE, "second", number.to_bytes(16, "big")))
        return found.data if found.data is not None else found.file.read_bytes()

    async def close(self) -> None:
        await self.cache.close()
        await self.store.close()


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    made = Kept(tmp_path)
    yield made
    await made.close()


@SIZES
async def test_what_a_run_has_made_is_another_ones_after_it(kept: Kept, size: int) -> None:
    digest = await kept.made(b"x" * size)
    assert await kept.take(digest)
    assert kept.taken() == b"x" * size


@SIZES
async def test_the_bytes_are_there_once_and_go_with_their_last_name(kept: Kept, size: int) -> None:
    digest = await kept.made(b"x" * size)
    assert await kept.take(digest)
    await kept.store.end_run(NAMESPACE, "second", [])
    assert await kept.take(digest)
    await kept.store.end_run(NAMESPACE, "second", [])
    await kept.store.free([key for key in kept.store.units() if key.run == CACHE])
    assert not list(kept.store.units())
    assert kept.store.stored_bytes == 0


async def test_what_is_not_all_there_is_not_there(kept: Kept) -> None:
    digest = await kept.made(b"here")
    assert not await kept.take(digest, bytes_digest(b"not here"))


async def test_another_namespace_finds_nothing(kept: Kept) -> None:
    digest = await kept.made(b"mine")
    assert not await kept.take(digest, namespace="other")


async def test_bytes_that_were_spoilt_are_not_taken(kept: Kept) -> None:
    """Also where size and time are as they were: they are read."""
    digest = await kept.made(b"x" * 50_000)
    (file,) = (kept.store.root / "content").glob("*/*")
    before = file.stat()
    file.chmod(0o644)
    file.write_bytes(b"y" * 50_000)

    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not await kept.take(digest)
    assert not await kept.take(digest)
    assert await kept.take(await kept.made(b"x" * 50_000))


async def test_what_is_kept_is_found_by_the_next_daemon(kept: Kept) -> None:
    digests = [await kept.made(b"small"), await kept.made(b"x" * 50_000)]
    await kept.close()
    kept.__init__(kept.root)  # type: ignore[misc]
    assert await kept.take(*digests)


async def test_the_cache_gives_way_when_the_disk_is_needed_what_was_used_longest_ago_first(tmp_path: Path) -> None:
    kept = Kept(tmp_path, CAPACITY)
    digests = [await kept.made(bytes([number]) * 2_000) for number in range(8)]
    assert await kept.take(digests[0])
    await kept.store.end_run(NAMESPACE, "second", [])
    before = kept.store.stored_bytes
    assert before == 8 * 2_000
    wanted = CAPACITY - before + 3_000
    with pytest.raises(NoSpaceError):
        kept.store.space.check(wanted)
    await kept.cache.close()
    kept.store.space.check(wanted)
    assert await kept.take(digests[0])
    assert not await kept.take(digests[1])
    await kept.close()


async def test_a_result_that_would_take_much_of_what_is_left_is_not_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path, CAPACITY)
    assert not await kept.take(await kept.made(b"x" * 60_000))
    assert kept.store.stored_bytes == 0
    await kept.close()


async def test_a_daemon_keeps_and_takes_as_its_agent_says_and_answers(edge: Cluster) -> None:
    node = await edge.start()
    (edge.data_root / "a").write_text("a" * 40_000)
    edge.agent.say(open=node_pb2.OpenSource(namespace=NAMESPACE, run="run1", step="inputs.x", path="a"))
    (opened,) = (await edge.agent.hear("source")).units
    edge.agent.say(keep=node_pb2.KeepContents(namespace=NAMESPACE, run="run1", units=[opened.unit.id]))
    edge.agent.say(end_run=node_pb2.EndRun(namespace=NAMESPACE, run="run1"))
    take = node_pb2.TakeContents(namespace=NAMESPACE, run="run2", task=b"t" * 16)
    take.contents.add(unit=b"u" * 16, digest=opened.unit.digest)
    edge.agent.say(take=take)
    told = await edge.agent.hear("taken")
    assert (told.run, told.task, told.found) == ("run2", b"t" * 16, True)
    unit = type(opened.unit)(id=b"u" * 16, digest=opened.unit.digest, size=opened.unit.size)
    assert content(node, unit, "run2") == b"a" * 40_000
    take.contents.add(unit=b"v" * 16, digest=b"d" * 32)
    edge.agent.say(take=take)
    assert not (await edge.agent.hear("taken", after=1)).found
