"""A write whose answer was lost is done once, and its writer learns what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane.store.errors import AlreadyExists, Conflict
from control_plane.store.etcd.client import Client
from control_plane.store.etcd.errors import Uncertain
from control_plane.store.etcd.kv import Kv
from control_plane.store.etcd.watch import Watch
from control_plane.store.repository import EtcdRepository, Store
from tests.fixtures.etcd import EtcdServer
from tests.fixtures.proxy import Proxy

T = TypeVar("T")


class Line:
    """A store behind a proxy, and the same store reached directly."""

    def __init__(self, proxy: Proxy, client: Client, direct: Store) -> None:
        self.proxy = proxy
        self.behind = Store(client)
        self.direct = direct
        self.runs = self.behind.repository("runs", m.Run)
        self.others: EtcdRepository[m.Run] = direct.repository("runs", m.Run)

    async def lose_the_answer(self, write: Awaitable[T], *then: Awaitable[object], muted: bool = False) -> Awaitable[T]:
        """Begin a write, lose its answer once it was applied, do something else, and mend the line.

        With `muted` the write mutes the line itself.
        """
        before = await self.direct.kv.revision()
        if not muted:
            self.proxy.mute()
        writing = asyncio.ensure_future(write)
        async with Watch(self.direct.kv.client, b"", start=before + 1) as watch:
            await anext(watch)
        await self.proxy.cut()
        for each in then:
            await each
        self.proxy.thaw()
        await self.proxy.join()
        return writing


@pytest.fixture
async def line(etcd_server: EtcdServer, store: Store) -> AsyncIterator[Line]:
    async with (
        asyncio.timeout(20),
        Proxy(etcd_server.etcd.config.endpoint) as proxy,
        Client(etcd_server.config(proxy.address)) as client,
    ):
        await Kv(client).revision()
        yield Line(proxy, client, store)


async def test_a_create_is_found_to_be_ones_own(line: Line, namespace: str) -> None:
    key = line.runs.key(namespace, "a")
    revision = await (await line.lose_the_answer(line.runs.create(key, m.Run(name="mine"))))
    stored = await line.runs.get(key)
    assert stored is not None
    assert (stored.revision, stored.created) == (revision, revision)


async def test_a_write_that_another_has_written_over_since_was_still_done(line: Line, namespace: str) -> None:
    key = line.runs.key(namespace, "a")
    created = await line.runs.create(key, m.Run(name="0"))

    others = [line.others.mutate(key, lambda run: m.Run(name=f"{run.name}, then another")) for _ in range(3)]
    writing = await line.lose_the_answer(line.runs.update(key, m.Run(name="mine"), created), *others)
    assert await writing == created + 1
    stored = await line.runs.get(key)
    assert stored is not None
    assert stored.value.name == "mine" + ", then another" * 3


async def test_a_delete_is_done_also_when_the_key_was_made_anew(line: Line, namespace: str) -> None:
    key = line.runs.key(namespace, "a")
    created = await line.runs.create(key, m.Run(name="old"))
    again = line.others.create(key, m.Run(name="new"))
    await (await line.lose_the_answer(line.runs.delete(key, created), again))
    stored = await line.runs.get(key)
    assert stored is not None
    assert stored.value.name == "new"


async def test_another_that_came_first_is_a_conflict_and_no_doubt(line: Line, namespace: str) -> None:
    """The write never arrived: its line was cut, and another wrote meanwhile."""
    key = line.runs.key(namespace, "a")
    created = await line.runs.create(key, m.Run(name="0"))
    line.proxy.freeze()
    update = asyncio.ensure_future(line.runs.update(key, m.Run(name="mine"), created))
    create = asyncio.ensure_future(line.runs.create(line.runs.key(namespace, "b"), m.Run(name="mine")))
    await line.others.update(key, m.Run(name="theirs"), created)
    await line.others.create(line.runs.key(namespace, "b"), m.Run(name="theirs"))
    await line.proxy.cut()
    line.proxy.thaw()
    await line.proxy.join()
    with pytest.raises(Conflict):
        await update
    with pytest.raises(AlreadyExists):
        await create


async def test_what_shares_a_write_with_an_earlier_transaction_was_not_done_by_that(line: Line, namespace: str) -> None:
    """The earlier one, whose answer was lost too, was made again together with another write."""
    a, b = line.runs.key(namespace, "a"), line.runs.key(namespace, "b")
    created = await line.runs.create(a, m.Run(name="0"))
    line.proxy.freeze()
    both = [line.runs.updating(a, m.Run(name="mine"), created), line.runs.creating(b, m.Run(name="mine"))]
    writing = asyncio.ensure_future(line.behind.commit(both))
    await line.others.update(a, m.Run(name="mine"), created)
    await line.proxy.cut()
    line.proxy.thaw()
    await line.proxy.join()
    with pytest.raises(Conflict):
        await writing
    assert await line.others.get(b) is None


async def test_where_history_can_not_tell_the_writer_hears_that_it_is_uncertain(line: Line, namespace: str) -> None:
    key = line.runs.key(namespace, "a")

    async def delete() -> None:
        stored = await line.others.get(key)
        assert stored is not None
        await line.others.delete(key, stored.revision)
        await line.others.create(key, m.Run(name="another"))
        await line.direct.kv.compact(await line.direct.kv.revision())

    writing = await line.lose_the_answer(line.runs.create(key, m.Run(name="mine")), delete())
    with pytest.raises(Uncertain):
        await writing


async def test_mutations_that_all_lose_their_answers_each_count_once(line: Line, namespace: str) -> None:
    """Also where others write in between, before the line is mended."""
    key = line.runs.key(namespace, "a")
    await line.runs.create(key, m.Run())
    for n in range(9):

        def change(run: m.Run, n: int = n) -> m.Run:
            line.proxy.mute()
            return m.Run(name=f"{run.name}{n} ")

        others = [line.others.mutate(key, lambda run: m.Run(name=f"{run.name}other ")) for _ in range(n % 3)]
        await (await line.lose_the_answer(line.runs.mutate(key, change), *others, muted=True))
    stored = await line.others.get(key)
    assert stored is not None
    assert stored.value.name.split() == [word for n in range(9) for word in (str(n), *(["other"] * (n % 3)))]
