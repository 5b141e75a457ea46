"""A lease is kept alive, and its loss is known here before etcd acts on it."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.store.etcd.client import Client
from control_plane.store.etcd.core import Changes
from control_plane.store.etcd.errors import LeaseLost, LeaseNotFound
from control_plane.store.etcd.kv import Kv
from control_plane.store.etcd.lease import Lease, grant, remaining, revoke
from control_plane.store.etcd.rpc import etcd_pb2 as rpc
from control_plane.store.etcd.watch import Watch
from tests.fixtures.etcd import EtcdServer
from tests.fixtures.proxy import Proxy


async def deleted(client: Client, key: bytes, start: int) -> None:
    async with asyncio.timeout(20), Watch(client, key, start=start, exact=True) as watch:
        async for batch in watch:
            if isinstance(batch, Changes) and batch.events[-1].type == rpc.Event.DELETE:
                return


async def test_it_lives_on_while_kept_and_takes_its_keys_with_it_at_the_end(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    async with Lease(etcd, 1) as lease:
        revision = await kv.put(prefix, b"x", lease=lease.id)
        with pytest.raises(TimeoutError):  # it outlives its own time to live
            await asyncio.wait_for(lease.lost.wait(), 1.3)
        lease.check()
        assert lease.seconds_left > 0
        assert await kv.get(prefix) is not None
    with pytest.raises(LeaseLost):
        lease.check()
    await deleted(etcd, prefix, revision)


async def test_cut_off_its_loss_is_known_here_before_etcd_frees_what_it_held(
    etcd_server: EtcdServer, etcd: Client, prefix: bytes
) -> None:
    kv = Kv(etcd)
    async with (
        Proxy(etcd_server.etcd.config.endpoint) as proxy,
        Client(etcd_server.config(proxy.address, timeout=0.3)) as cut_off,
        Lease(cut_off, 1) as lease,
    ):
        revision = await kv.put(prefix, b"x", lease=lease.id)
        freed = asyncio.create_task(deleted(etcd, prefix, revision))
        proxy.freeze()
        async with asyncio.timeout(20):
            await lease.lost.wait()
        assert not freed.done()
        assert await kv.get(prefix) is not None
        assert not lease.held
        assert lease.seconds_left == 0
        with pytest.raises(LeaseLost):
            lease.check()
        await freed
        proxy.thaw()


async def test_one_endpoint_that_goes_silent_does_not_cost_the_lease(etcd_server: EtcdServer) -> None:
    endpoint = etcd_server.etcd.config.endpoint
    async with (
        Proxy(endpoint) as proxy,
        Client(etcd_server.config(proxy.address, endpoint)) as client,
        Lease(client, 2) as lease,
    ):
        proxy.freeze()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lease.lost.wait(), 2.3)


async def test_a_restart_of_etcd_does_not_cost_the_lease(own_server: EtcdServer) -> None:
    async with Client(own_server.config()) as client, Lease(client, 5) as lease:
        await Kv(client).put(b"a", b"x", lease=lease.id)
        left = lease.seconds_left
        await own_server.etcd.stop()
        await own_server.etcd.start()
        async with asyncio.timeout(5):
            while lease.seconds_left <= left - 1.5:  # until a keepalive has been answered
                await asyncio.wait_for(Kv(client).get(b"a"), 5)
        assert lease.held
        assert await Kv(client).get(b"a") is not None


async def test_a_lease_ended_by_another_is_lost_with_the_next_keepalive(etcd_server: EtcdServer, etcd: Client) -> None:
    async with Client(etcd_server.config()) as client, Lease(client, 1) as lease:
        await revoke(etcd, lease.id)
        async with asyncio.timeout(10):
            await lease.lost.wait()
        assert await remaining(etcd, lease.id) == -1


async def test_a_lease_that_nobody_keeps_has_the_life_it_was_given(etcd: Client) -> None:
    lease, ttl = await grant(etcd, 3600.2)
    assert ttl == 3601
    assert 3500 < await remaining(etcd, lease) <= 3601
    await revoke(etcd, lease)
    with pytest.raises(LeaseNotFound):
        await revoke(etcd, lease)
