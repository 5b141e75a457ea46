"""A watch hands out every revision once, whatever happens to connections, servers and history."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
from collections.abc import AsyncIterator

import pytest

from control_plane.store.etcd.client import Client
from control_plane.store.etcd.core import Changes
from control_plane.store.etcd.errors import EtcdError
from control_plane.store.etcd.kv import Kv, delete, put
from control_plane.store.etcd.rpc import etcd_pb2 as rpc
from control_plane.store.etcd.watch import Reset, Watch
from tests.fixtures.etcd import EtcdServer
from tests.fixtures.proxy import Proxy

Seen = tuple[int, bytes, bytes]


def seen(event: rpc.Event) -> Seen:
    return event.kv.mod_revision, event.kv.key, event.kv.value


async def collect(watch: Watch, until: bytes) -> list[Seen]:
    """All events up to the one that writes the key `until`."""
    found: list[Seen] = []
    async with asyncio.timeout(20), watch as batches:
        async for batch in batches:
            assert not isinstance(batch, Reset)
            if isinstance(batch, Changes):
                found += map(seen, batch.events)
                if found[-1][1] == until:
                    return found
    raise AssertionError("a watch has no end")


async def test_events_come_in_order_and_a_transaction_in_one_batch(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    start = await kv.put(prefix + b"a", b"1")
    await kv.put(prefix[:-1] + b"0", b"a neighbour, not under the prefix")
    both = await kv.txn([], [put(prefix + b"b", b"2"), delete(prefix + b"a")])
    async with Watch(etcd, prefix, start=start) as watch:
        first, second = await anext(watch), await anext(watch) if watch.revision < both.revision else None
        batches = [batch for batch in (first, second) if isinstance(batch, Changes)]
        events = [event for batch in batches for event in batch.events]
        assert [(event.type, *seen(event)) for event in events] == [
            (rpc.Event.PUT, start, prefix + b"a", b"1"),
            (rpc.Event.PUT, both.revision, prefix + b"b", b"2"),
            (rpc.Event.DELETE, both.revision, prefix + b"a", b""),
        ]
        assert watch.revision == batches[-1].revision == both.revision
        later = await kv.put(prefix + b"c", b"3")
        assert await anext(watch) == Changes(later, (await _event(etcd, prefix + b"c", later),))


async def _event(client: Client, key: bytes, revision: int) -> rpc.Event:
    async with Watch(client, key, start=revision, exact=True) as watch:
        batch = await anext(watch)
        assert isinstance(batch, Changes)
        return batch.events[0]


async def write_until(enough: asyncio.Event, kv: Kv, writer: int) -> None:
    for n in itertools.count():
        if enough.is_set():
            return
        try:
            await kv.put(b"/a/%d-%d" % (writer, n), b"x")
        except EtcdError:
            continue  # perhaps applied, perhaps not: history will tell


async def test_no_gap_and_no_duplicate_over_a_restart_of_the_server(own_server: EtcdServer) -> None:
    async with Client(own_server.config()) as client, Client(own_server.config()) as other:
        kv = Kv(other)
        start = await kv.put(b"/a/first", b"")
        watching = asyncio.create_task(collect(Watch(client, b"/a/", start=start), b"/a/last"))
        enough = asyncio.Event()
        writing = asyncio.gather(*(write_until(enough, kv, writer) for writer in range(3)))
        await _written(kv, 50)
        await own_server.etcd.stop()
        await own_server.etcd.start()
        await _written(kv, 50)
        enough.set()
        await writing
        await kv.put(b"/a/last", b"")
        assert await watching == await collect(Watch(other, b"/a/", start=start), b"/a/last")


async def test_no_gap_and_no_duplicate_over_crashes_of_the_server(own_server: EtcdServer) -> None:
    """Nor where a crash takes back what was shown already: then a reset says what is true.

    Each key is written once, so that what a reset lists can be compared with history.
    """
    async with Client(own_server.config()) as client, Client(own_server.config()) as other:
        kv = Kv(other)
        start = await kv.put(b"/a/first", b"")
        found: list[Seen] = []

        async def consume() -> None:
            async with Watch(client, b"/a/", start=start) as watch:
                async for batch in watch:
                    match batch:
                        case Reset(_, items):
                            found[:] = sorted((item.revision, item.key, item.value) for item in items)
                        case Changes(_, events):
                            found.extend(map(seen, events))
                    if found[-1][1] == b"/a/last":
                        return

        watching = asyncio.create_task(consume())
        enough = asyncio.Event()
        writing = asyncio.gather(*(write_until(enough, kv, writer) for writer in range(3)))
        for _ in range(4):
            await _written(kv, 25)
            await own_server.etcd.stop(signal.SIGKILL)
            await own_server.etcd.start()
        await _written(kv, 25)
        enough.set()
        await writing
        await kv.put(b"/a/last", b"")
        await asyncio.wait_for(watching, 20)
        assert found == await collect(Watch(other, b"/a/", start=start), b"/a/last")


async def _written(kv: Kv, count: int) -> None:
    """Until `count` more revisions were written."""
    target = await kv.revision() + count
    async with asyncio.timeout(10), Watch(kv.client, b"/a/", start=target - count + 1) as watch:
        async for batch in watch:
            if batch.revision >= target:
                return


async def test_breaking_off_a_wait_loses_nothing(etcd: Client, prefix: bytes) -> None:
    """A consumer that waits with a timeout, over and over, still sees every revision once."""
    kv = Kv(etcd)
    start = await kv.put(prefix, b"")

    async def write() -> None:
        for n in range(150):
            await kv.put(prefix + b"%d" % n, b"")

    found: list[Seen] = []
    async with asyncio.timeout(20), Watch(etcd, prefix, start=start) as watch:
        writing = asyncio.create_task(write())
        broken = 0
        while not found or found[-1][1] != prefix + b"149":
            try:
                async with asyncio.timeout(0.002 + 0.0005 * (broken % 10)):
                    batch = await anext(watch)
            except TimeoutError:
                broken += 1
                continue
            assert isinstance(batch, Changes)
            found += map(seen, batch.events)
        await writing
    assert broken > 0
    assert found == await collect(Watch(etcd, prefix, start=start), prefix + b"149")


async def test_after_a_compaction_everything_is_listed_and_the_watch_goes_on(own_server: EtcdServer) -> None:
    async with (
        Client(own_server.config()) as other,
        Proxy(own_server.etcd.config.endpoint) as proxy,
        Client(own_server.config(proxy.address)) as client,
    ):
        kv = Kv(other)
        start = await kv.put(b"/a/1", b"old")
        await kv.put(b"/a/2", b"goes")
        async with asyncio.timeout(20), Watch(client, b"/a/", start=start) as watch:
            while watch.revision < start + 1:
                await anext(watch)
            await proxy.cut()
            waiting = asyncio.create_task(anext(watch))
            await kv.put(b"/a/1", b"new")
            await kv.delete(b"/a/2")
            revision = await kv.put(b"/a/3", b"comes")
            await kv.compact(revision)
            await proxy.join()
            reset = await waiting
            assert isinstance(reset, Reset)
            assert reset.revision == revision == watch.revision
            assert [(item.key, item.value) for item in reset.items] == [(b"/a/1", b"new"), (b"/a/3", b"comes")]
            later = await kv.put(b"/a/4", b"")
            batch = await anext(watch)
            assert isinstance(batch, Changes)
            assert [seen(event) for event in batch.events] == [(later, b"/a/4", b"")]


async def test_a_store_that_went_back_in_time_is_noticed(own_server: EtcdServer) -> None:
    """Restored from a backup, etcd would wait in silence for revisions that it has yet to reach."""
    async with Client(own_server.config()) as client:
        kv = Kv(client)
        for n in range(10):
            last = await kv.put(b"/a/%d" % n, b"")
        async with asyncio.timeout(20), Watch(client, b"/a/", start=2) as watch:
            while watch.revision < last:
                await anext(watch)
            await own_server.etcd.stop(signal.SIGKILL)
            shutil.rmtree(own_server.etcd.config.state / "data")
            waiting = asyncio.create_task(anext(watch))
            await own_server.etcd.start()
            reset = await waiting
            assert isinstance(reset, Reset)
            assert (reset.items, watch.revision) == ((), reset.revision)
            assert reset.revision < last
            await kv.put(b"/a/new", b"")
            batch = await anext(watch)
            assert isinstance(batch, Changes)
            assert batch.events[0].kv.key == b"/a/new"


async def test_history_larger_than_a_message_comes_whole(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    start = await kv.revision() + 1
    value = b"x" * 100_000
    for n in range(40):
        await kv.put(prefix + b"%d" % n, value)
    found = await collect(Watch(etcd, prefix, start=start), prefix + b"39")
    assert [(key, len(value)) for _, key, value in found] == [(prefix + b"%d" % n, 100_000) for n in range(40)]


async def test_a_slow_consumer_gets_it_all(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    start = await kv.put(prefix, b"")
    async with asyncio.timeout(20), Watch(etcd, prefix, start=start) as watch:
        await anext(watch)
        for n in range(60):
            await kv.put(prefix + b"%d" % n, b"x" * 50_000)
        keys = [event.kv.key async for event in _events(watch, prefix + b"59")]
    assert keys == [prefix + b"%d" % n for n in range(60)]


async def _events(watch: Watch, until: bytes) -> AsyncIterator[rpc.Event]:
    async for batch in watch:
        assert isinstance(batch, Changes)
        for event in batch.events:
            yield event
            if event.kv.key == until:
                return


async def test_a_watch_without_a_start_is_refused(etcd: Client) -> None:
    with pytest.raises(ValueError, match="list first"):
        Watch(etcd, b"/", start=0)
