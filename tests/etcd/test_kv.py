"""Reading and writing keys."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.store.etcd.client import Client
from control_plane.store.etcd.errors import Compacted, Refused
from control_plane.store.etcd.kv import Kv, absent, created_at, delete, prefix_end, put, read, unchanged


async def test_what_was_put_is_read_with_its_revisions(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    first = await kv.put(prefix + b"a", b"1")
    second = await kv.put(prefix + b"a", b"2")
    found = await kv.get(prefix + b"a")
    assert found is not None
    assert (found.value, found.created, found.revision, found.version) == (b"2", first, second, 2)
    assert await kv.get(prefix + b"b") is None
    assert await kv.delete(prefix + b"a")
    assert not await kv.delete(prefix + b"a")


async def test_a_key_can_be_read_as_it_was(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    first = await kv.put(prefix + b"a", b"1")
    await kv.put(prefix + b"a", b"2")
    found = await kv.get(prefix + b"a", revision=first)
    assert found is not None
    assert found.value == b"1"


async def test_a_long_list_is_read_in_pages_of_one_revision(etcd: Client, prefix: bytes) -> None:
    """Keys that are written or deleted between two pages don't show."""
    kv = Kv(etcd)
    for start in range(0, 1000, 100):
        await kv.txn([], [put(prefix + b"%04d" % n, b"x" * 100) for n in range(start, start + 100)])
    await kv.put(prefix[:-1] + b"0", b"a neighbour, not under the prefix")
    stop = asyncio.Event()

    async def disturb() -> None:
        n = 0
        while not stop.is_set():
            await kv.put(prefix + b"%04d-new" % n, b"")
            await kv.delete(prefix + b"%04d-new" % n)
            n += 7

    before = await kv.list(prefix)
    disturber = asyncio.create_task(disturb())
    snapshot = await kv.list(prefix, page=17)
    stop.set()
    await disturber
    assert [item.key for item in before.items] == [prefix + b"%04d" % n for n in range(1000)]
    assert snapshot == await kv.list(prefix, revision=snapshot.revision)
    assert all(item.revision <= snapshot.revision for item in snapshot.items)
    keys = await kv.list(prefix, keys_only=True, revision=before.revision)
    assert [item.key for item in keys.items] == [item.key for item in before.items]
    assert {item.value for item in keys.items} == {b""}


async def test_conditional_writes_do_all_or_nothing(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    a, b = prefix + b"a", prefix + b"b"
    made = await kv.txn([absent(a), absent(b)], [put(a, b"1"), put(b, b"1")])
    assert made.succeeded
    refused = await kv.txn([absent(a)], [put(a, b"2"), delete(b)], [read(a), read(prefix + b"none")])
    assert not refused.succeeded
    found, none = refused.reads
    assert found is not None
    assert (found.value, found.revision, none) == (b"1", made.revision, None)
    done = await kv.txn([unchanged(a, made.revision), created_at(b, made.revision)], [put(a, b"2"), delete(b)])
    assert done.succeeded
    assert (await kv.get(b)) is None


async def test_of_many_writers_at_once_one_wins_each_revision(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    key = prefix + b"counter"
    await kv.put(key, b"0")

    async def add(times: int) -> None:
        while times:
            found = await kv.get(key)
            assert found is not None
            value = str(int(found.value) + 1).encode()
            times -= (await kv.txn([unchanged(key, found.revision)], [put(key, value)])).succeeded

    await asyncio.gather(*(add(10) for _ in range(8)))
    found = await kv.get(key)
    assert found is not None
    assert (found.value, found.version) == (b"80", 81)


async def test_a_revision_that_is_no_longer_kept_is_said_to_be_compacted(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    old = await kv.put(prefix + b"a", b"1")
    new = await kv.put(prefix + b"a", b"2")
    await kv.compact(new)
    with pytest.raises(Compacted):
        await kv.list(prefix, revision=old)
    assert (await kv.list(prefix)).items[0].value == b"2"


async def test_what_etcd_refuses_is_not_tried_again_and_says_where(etcd: Client) -> None:
    with pytest.raises(Refused, match=r"etcd at 127\.0\.0\.1:\d+, /etcdserverpb\.KV/Put: .*key is not provided"):
        await Kv(etcd).put(b"", b"x")


def test_the_end_of_a_prefix_is_the_first_key_after_it() -> None:
    assert prefix_end(b"/a/") == b"/a0"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") == b"\x00"
    assert prefix_end(b"") == b"\x00"
