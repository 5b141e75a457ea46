"""Watching values: writes and deletions only, each once, also where etcd has forgotten what happened."""

from __future__ import annotations

import asyncio

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane.store.base import Deleted, Stored
from control_plane.store.etcd.client import Client
from control_plane.store.etcd.errors import Compacted
from control_plane.store.repository import EtcdRepository, Store
from tests.fixtures.etcd import EtcdServer
from tests.fixtures.proxy import Proxy

Runs = EtcdRepository[m.Run]


def words(event: Stored[m.Run] | Deleted) -> str:
    name = event.key.names[-1]
    return f"-{name}" if isinstance(event, Deleted) else f"{name}={event.value.name}"


async def test_after_a_listing_comes_all_that_it_has_not(store: Store, runs: Runs, namespace: str) -> None:
    first = await runs.create(runs.key(namespace, "a"), m.Run(name="1"))
    listing = await runs.list(namespace)
    second = await store.commit(
        [runs.deleting(runs.key(namespace, "a"), first), runs.creating(runs.key(namespace, "b"), m.Run(name="2"))]
    )
    async with asyncio.timeout(20), runs.watch(namespace, after=listing) as news:
        both = await anext(news)
        assert ([words(event) for event in both.events], both.revision) == (["-a", "b=2"], second)
        await runs.update(runs.key(namespace, "b"), m.Run(name="3"), second)
        assert [words(event) for event in (await anext(news)).events] == ["b=3"]


@pytest.mark.parametrize("by_revision", [False, True])
async def test_what_was_lost_in_a_compaction_is_told_as_writes_and_deletions(
    own_server: EtcdServer, by_revision: bool
) -> None:
    """Only what differs: neither what stayed as it was, nor what was told before."""
    async with (
        asyncio.timeout(20),
        Client(own_server.config()) as direct,
        Proxy(own_server.etcd.config.endpoint) as proxy,
        Client(own_server.config(proxy.address)) as client,
    ):
        store = Store(direct)
        runs = store.repository("runs", m.Run)
        revisions = {name: await runs.create(runs.key("ns", name), m.Run(name="1")) for name in "abc"}
        listing = await runs.list("ns")
        watching = Store(client).repository("runs", m.Run)
        async with watching.watch("ns", after=listing.revision if by_revision else listing) as news:
            await runs.create(runs.key("ns", "d"), m.Run(name="1"))
            assert [words(event) for event in (await anext(news)).events] == ["d=1"]
            await proxy.cut()
            missed = asyncio.ensure_future(anext(news))
            await runs.update(runs.key("ns", "a"), m.Run(name="2"), revisions["a"])
            await runs.delete(runs.key("ns", "b"), revisions["b"])
            await runs.create(runs.key("ns", "e"), m.Run(name="1"))
            await store.kv.compact(await store.kv.revision())
            await proxy.join()
            assert sorted(words(event) for event in (await missed).events) == ["-b", "a=2", "e=1"]
            await runs.create(runs.key("ns", "f"), m.Run(name="1"))
            assert [words(event) for event in (await anext(news)).events] == ["f=1"]


async def test_a_revision_that_is_forgotten_can_not_be_begun_with(own_server: EtcdServer) -> None:
    async with asyncio.timeout(20), Client(own_server.config()) as client:
        runs = Store(client).repository("runs", m.Run)
        old = await runs.create(runs.key("ns", "a"), m.Run())
        new = await runs.update(runs.key("ns", "a"), m.Run(name="x"), old)
        await runs.update(runs.key("ns", "a"), m.Run(name="y"), new)
        await Store(client).kv.compact(new)
        async with runs.watch("ns", after=old) as news:
            with pytest.raises(Compacted):
                await anext(news)
