"""A lease: a sign of life that etcd watches over, and whose loss is known here before etcd acts on it.

Keys bound to a lease are deleted by etcd when the lease ends. So whoever holds something by such a key must stop
before that: `held` compares the clock with the local deadline (see `core.LeaseCore`) at the moment it is read,
and the event `lost` is set at the deadline by a timer, even if the network is silent. Keepalives go over one
stream, one at a time; an endpoint that doesn't answer in time is left for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from types import TracebackType
from typing import Self

from control_plane.store.etcd.client import Client, Method, Retry, Stream, backoff
from control_plane.store.etcd.core import LeaseCore
from control_plane.store.etcd.errors import EtcdError, LeaseExists, LeaseLost
from control_plane.store.etcd.rpc import etcd_pb2 as rpc

_GRANT = Method("/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantResponse)
_REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", rpc.LeaseRevokeResponse)
_KEEPALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
_TIME_TO_LIVE = Method("/etcdserverpb.Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveResponse)

# Goes on while the machine sleeps, as the lease does at an etcd elsewhere.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _now() -> float:
    return time.clock_gettime(_CLOCK)


async def grant(client: Client, ttl: float) -> tuple[int, float]:
    """Grant a lease that nobody keeps alive, for keys that are to expire; returns its id and its seconds to live."""
    request = rpc.LeaseGrantRequest(ttl=math.ceil(ttl), id=secrets.randbits(62) + 1)
    try:
        answer = await client.call(_GRANT, request, Retry.ALWAYS)
    except LeaseExists:  # the id is ours alone: an attempt whose answer was lost did it
        return request.id, float(request.ttl)
    return answer.id, float(answer.ttl)


async def revoke(client: Client, lease: int, *, patience: float | None = None) -> None:
    """End a lease and delete its keys. Raises LeaseNotFound where it has ended already."""
    await client.call(_REVOKE, rpc.LeaseRevokeRequest(id=lease), Retry.ALWAYS, patience=patience)


async def remaining(client: Client, lease: int) -> int:
    """Seconds that etcd still gives the lease; negative when it is gone."""
    answer = await client.call(_TIME_TO_LIVE, rpc.LeaseTimeToLiveRequest(id=lease), Retry.ALWAYS)
    return answer.ttl


class Lease:
    """A lease that is kept alive while the context lasts, and revoked at its end.

    `ttl` in seconds is rounded up to whole ones, and etcd may give more (at least one and a half times its election
    timeout). `lost` is set once the lease can no longer be counted on; that is final, and a new lease is needed.
    """

    def __init__(self, client: Client, ttl: float) -> None:
        self.client = client
        self.lost = asyncio.Event()
        self.id = 0
        self._ttl = ttl
        self._core = LeaseCore(0.0, 0.0)
        self._timer: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        sent = _now()
        self.id, ttl = await grant(self.client, self._ttl)
        self._core = LeaseCore(ttl, sent)
        self._arm()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep etcd lease {self.id:x}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held = self.held
        self._core.end()
        self._arm()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if held:
            with contextlib.suppress(EtcdError):  # it ends by itself
                await revoke(self.client, self.id, patience=1.0)

    @property
    def held(self) -> bool:
        """Whether the lease is surely ours at this moment."""
        return not self._core.lost(_now())

    @property
    def seconds_left(self) -> float:
        """How long the lease will surely be ours without another keepalive; 0 = it is lost."""
        return max(self._core.deadline - _now(), 0.0) if self.held else 0.0

    def check(self) -> None:
        """Raise LeaseLost unless the lease is surely ours."""
        if not self.held:
            raise LeaseLost(f"etcd lease {self.id:x} was not kept alive in time: what it held is given up")

    def _arm(self) -> None:
        """Set `lost` now if it is so, else look again at the deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.held:
            self._timer = asyncio.get_running_loop().call_later(self.seconds_left, self._arm)
        else:
            self.lost.set()

    async def _keep(self) -> None:
        """Send keepalives until the lease is lost."""
        delays = backoff(most=0.2)
        stream: Stream[rpc.LeaseKeepAliveResponse] | None = None
        try:
            while self.held:
                await asyncio.sleep(max(self._core.next_keepalive() - _now(), 0.0))
                while self.held:
                    stream = stream or self.client.stream(_KEEPALIVE)
                    if await self._keepalive(stream):
                        delays = backoff(most=0.2)
                        break
                    stream = None
                    await asyncio.sleep(next(delays))
        finally:
            if stream is not None:
                stream.close()

    async def _keepalive(self, stream: Stream[rpc.LeaseKeepAliveResponse]) -> bool:
        """Send one keepalive and take in its answer; whether there was one."""
        self._core.sent(_now())
        try:
            async with asyncio.timeout(self._core.patience()):
                await stream.send(rpc.LeaseKeepAliveRequest(id=self.id))
                answer = await stream.receive()
        except (EtcdError, TimeoutError):
            stream.give_up()
            return False
        self._core.answered(float(answer.ttl), _now())
        self._arm()
        return True
