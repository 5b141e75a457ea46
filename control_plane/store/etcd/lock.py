"""A lock that stays safe when its holder doesn't notice that it has lost it.

The lock is one key, made only where there is none, bound to its holder's lease. The revision of its making is the
*fencing token*: it grows with every holder. A holder that was paused past the end of its lease may still believe
that it holds the lock; so every write made under the lock carries `fence()`, a comparison that etcd checks
together with the write, and that holds only while the key is the one this holder made.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from control_plane.store.etcd.client import backoff
from control_plane.store.etcd.core import Changes
from control_plane.store.etcd.errors import EtcdError, FenceLost, LeaseLost, Refused, Unavailable, Uncertain
from control_plane.store.etcd.kv import Item, Kv, absent, created_at, delete, has_value, put, read
from control_plane.store.etcd.lease import Lease
from control_plane.store.etcd.rpc import etcd_pb2 as rpc
from control_plane.store.etcd.watch import Reset, Watch


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that was acquired. `token` is greater than that of every holder before."""

    key: bytes
    token: int
    lease: Lease

    @property
    def held(self) -> bool:
        """Whether the lock is surely ours at this moment; a write may still need the fence when it arrives."""
        return self.lease.held

    def fence(self) -> rpc.Compare:
        """To be compared in every write that is made under the lock."""
        return created_at(self.key, self.token)

    def check(self, found: Item | None) -> None:
        """Raise FenceLost if `found`, read from the lock's key when a write was refused, is not ours."""
        if found is None or found.created != self.token:
            now = f"the holder with token {found.created}" if found else "nobody"
            raise FenceLost(f"lock {self.key.decode(errors='replace')}: token {self.token} has given way to {now}")


async def acquire(kv: Kv, key: bytes, lease: Lease, owner: bytes) -> Held:
    """Wait until the lock is free and take it. `owner` is told to whoever looks at the key.

    Raises LeaseLost when the lease ends first.
    """
    claim = owner + b" " + secrets.token_hex(8).encode()  # no other acquisition has it, not even one of ours
    waiting = asyncio.create_task(_acquire(kv, key, lease, claim), name=f"acquire lock {key!r}")
    lost = asyncio.create_task(lease.lost.wait())
    try:
        await asyncio.wait((waiting, lost), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise LeaseLost(f"the lease ended while waiting for lock {key.decode(errors='replace')}")
        held = waiting.result()
        lease.check()
        return held
    except BaseException:
        await _ended(waiting)
        if not waiting.cancelled() and waiting.exception() is None:
            await release(kv, waiting.result())
        raise
    finally:
        await _ended(lost)


async def release(kv: Kv, held: Held) -> None:
    """Give the lock back at once; where that can't be said to etcd, the end of the lease does it."""
    with contextlib.suppress(EtcdError):
        await kv.txn([held.fence()], [delete(held.key)])


class Lock:
    """`async with Lock(kv, key, lease, owner) as held:`, acquired at the beginning, released at the end."""

    def __init__(self, kv: Kv, key: bytes, lease: Lease, owner: bytes) -> None:
        self._kv = kv
        self._key = key
        self._lease = lease
        self._owner = owner
        self._held: Held | None = None

    async def __aenter__(self) -> Held:
        self._held = await acquire(self._kv, self._key, self._lease, self._owner)
        return self._held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is not None:
            await release(self._kv, self._held)


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait((task,))


async def _acquire(kv: Kv, key: bytes, lease: Lease, claim: bytes) -> Held:
    """Claim the key until it is ours. Broken off, it leaves no claim behind: that would be nobody's."""
    doubtful = False  # whether an attempt may have made the key, or still will, without our knowing
    try:
        for delay in backoff():
            attempt = asyncio.ensure_future(kv.txn([absent(key)], [put(key, claim, lease.id)], [read(key)]))
            try:
                outcome = await asyncio.shield(attempt)
            except Unavailable:
                await asyncio.sleep(delay)
                continue
            except Uncertain:  # asking again is safe: a key with our claim is ours
                doubtful = True
                await asyncio.sleep(delay)
                continue
            except asyncio.CancelledError:
                await asyncio.wait((attempt,))
                doubtful = doubtful or not isinstance(attempt.exception(), Refused | Unavailable)
                raise
            if outcome.succeeded:
                return Held(key, outcome.revision, lease)
            (found,) = outcome.reads
            if found is not None and found.value == claim:
                return Held(key, found.created, lease)
            if found is not None:
                await _gone(kv, key, outcome.revision + 1)
    except asyncio.CancelledError:
        if doubtful:
            with contextlib.suppress(EtcdError):  # then it goes with the lease
                await kv.txn([has_value(key, claim)], [delete(key)])
        raise
    raise AssertionError("a backoff does not end")


async def _gone(kv: Kv, key: bytes, start: int) -> None:
    """Wait until the key is deleted, from revision `start` on."""
    async with Watch(kv.client, key, start=start, exact=True) as batches:
        async for batch in batches:
            match batch:
                case Changes(_, events) if any(event.type == rpc.Event.DELETE for event in events):
                    return
                case Reset():
                    return  # what was missed may have been the deletion: ask again
