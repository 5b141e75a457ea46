"""Two holders of a lock never both pass the fence."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.store.etcd.client import Client
from control_plane.store.etcd.errors import FenceLost, LeaseLost
from control_plane.store.etcd.kv import Kv, put, read
from control_plane.store.etcd.lease import Lease, revoke
from control_plane.store.etcd.lock import Held, Lock, acquire, release
from tests.fixtures.etcd import EtcdServer
from tests.fixtures.proxy import Proxy
from tests.settings import few


async def guarded(kv: Kv, held: Held, key: bytes, value: bytes) -> None:
    """Write under the lock. Raises FenceLost."""
    outcome = await kv.txn([held.fence()], [put(key, value)], [read(held.key)])
    if not outcome.succeeded:
        held.check(outcome.reads[0])
        raise AssertionError("the fence refused its holder")


async def test_one_holds_it_at_a_time_and_tokens_grow(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    inside = 0
    tokens: list[int] = []

    async def work(lease: Lease, name: bytes) -> None:
        nonlocal inside
        for _ in range(3):
            async with Lock(kv, prefix + b"lock", lease, name) as held:
                inside += 1
                assert inside == 1
                tokens.append(held.token)
                await guarded(kv, held, prefix + b"x", name)
                inside -= 1

    async with asyncio.timeout(20), Lease(etcd, 30) as one, Lease(etcd, 30) as two:
        # Two of them share a lease, as two tasks of one process may.
        await asyncio.gather(work(one, b"a"), work(one, b"b"), work(two, b"c"))
    assert len(tokens) == 9
    assert tokens == sorted(set(tokens))


async def test_a_holder_that_was_paused_past_its_lease_writes_nothing(
    etcd_server: EtcdServer, etcd: Client, prefix: bytes
) -> None:
    """Cut off, it loses the lock to another; its write, held up on the way, arrives later and is refused."""
    kv = Kv(etcd)
    async with (
        asyncio.timeout(30),
        Proxy(etcd_server.etcd.config.endpoint) as proxy,
        Client(etcd_server.config(proxy.address, timeout=20)) as paused_client,
        Lease(paused_client, 1) as paused_lease,
        Lease(etcd, 30) as lease,
    ):
        paused = await acquire(Kv(paused_client), prefix + b"lock", paused_lease, b"paused")
        await guarded(Kv(paused_client), paused, prefix + b"x", b"paused, while it held the lock")
        proxy.freeze()
        late = asyncio.create_task(guarded(Kv(paused_client), paused, prefix + b"x", b"too late"))
        held = await acquire(kv, prefix + b"lock", lease, b"other")
        assert not paused.held
        assert held.token > paused.token
        await guarded(kv, held, prefix + b"x", b"other")
        proxy.thaw()
        with pytest.raises(FenceLost, match=f"token {paused.token} has given way to .*{held.token}"):
            await late
        found = await kv.get(prefix + b"x")
        assert found is not None
        assert found.value == b"other"
        await release(kv, held)


steps = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["acquire", "expire", "release", "write"])), max_size=14)


@given(steps)
@few
def test_whatever_expires_in_between_a_write_passes_only_for_the_newest_holder(
    etcd_server: EtcdServer, steps: list[tuple[int, str]]
) -> None:
    """All tokens ever given are used again and again: only the one that holds the key passes."""

    async def run() -> None:
        async with Client(etcd_server.config()) as client:
            kv = Kv(client)
            key = f"/lock/{id(steps)}/{steps!r:.80}".encode()
            tokens: list[Held] = []
            current: Held | None = None
            leases = [Lease(client, 60) for _ in range(3)]
            for lease in leases:
                await lease.__aenter__()
            for who, step in steps:
                if step == "acquire" and current is None:
                    current = await acquire(kv, key, leases[who], b"%d" % who)
                    assert all(current.token > held.token for held in tokens)
                    tokens.append(current)
                elif step == "expire":  # at etcd; its holder has not noticed
                    await revoke(client, leases[who].id)
                    if current is not None and current.lease is leases[who]:
                        current = None
                    await leases[who].__aexit__(None, None, None)
                    leases[who] = await Lease(client, 60).__aenter__()
                elif step == "release" and current is not None:
                    await release(kv, current)
                    current = None
                elif step == "write":
                    for held in tokens:
                        if held is current:
                            await guarded(kv, held, key + b"/x", b"")
                        else:
                            with pytest.raises(FenceLost):
                                await guarded(kv, held, key + b"/x", b"")
            for lease in leases:
                await lease.__aexit__(None, None, None)

    asyncio.run(run())


async def test_who_waits_on_a_lease_that_ends_does_not_wait_for_ever(etcd: Client, prefix: bytes) -> None:
    kv = Kv(etcd)
    async with (
        asyncio.timeout(20),
        Lease(etcd, 30) as lease,
        Lock(kv, prefix, lease, b"holder"),
        Lease(etcd, 1) as short,
    ):
        waiting = asyncio.create_task(acquire(kv, prefix, short, b"waiting"))
        await revoke(etcd, short.id)
        with pytest.raises(LeaseLost):
            await waiting


async def test_who_stops_waiting_leaves_no_claim_behind(etcd: Client, prefix: bytes) -> None:
    """Broken off at any moment, also when the lock is just being given, the lock is free afterwards."""
    kv = Kv(etcd)
    async with asyncio.timeout(20), Lease(etcd, 30) as lease:
        for delay in range(12):
            waiting = asyncio.create_task(acquire(kv, prefix, lease, b"impatient"))
            for _ in range(delay):
                await asyncio.sleep(0)
            waiting.cancel()
            if await asyncio.wait((waiting,)) and not waiting.cancelled():
                await release(kv, waiting.result())
            held = await acquire(kv, prefix, lease, b"patient")
            await release(kv, held)
        assert await kv.get(prefix) is None
