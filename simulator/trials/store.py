"""A hub's way to the played etcd: the production client, whose calls and streams go to one member that is played.

    repositories ─ Kv, Watch, Lease, Client ─▶ a played member ─ after a moment ─▶ Etcd

A hub may be cut off from it while others are not: its calls come to nothing, its streams are silent and break after a
while, and its lease ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from random import Random
from typing import Any, cast

from google.protobuf.message import Message

from control_plane.store.etcd.client import Answer, Client, Config, Method
from control_plane.store.etcd.errors import EtcdError, Unavailable, Uncertain
from control_plane.store.etcd.rpc import etcd_pb2 as rpc
from simulator.trials.etcd import Etcd, within
from simulator.trials.streams import broken

_SECONDS = (0.0003, 0.002)  # each way
_KEEPALIVE = (8.0, 16.0)  # seconds until a silent stream is given up


class Reach:
    """Whether one hub reaches the store, and the streams that it has with it."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.cut_until = 0.0
        self.streams: dict[WatchStream | KeepAliveStream, None] = {}

    @property
    def away(self) -> bool:
        """Whether nothing gets through now."""
        return self.etcd.away or self.cut

    @property
    def cut(self) -> bool:
        """Whether this hub alone is cut off."""
        return self.cut_until > self.etcd.loop.time()

    def cut_off(self, seconds: float, random: Random) -> None:
        """Nothing gets through for a while; what waits too long breaks."""
        loop = self.etcd.loop
        until = self.cut_until = max(self.cut_until, loop.time() + seconds)
        for stream in self.streams:
            loop.call_later(random.uniform(*_KEEPALIVE), self._given_up, stream, until)

    def _given_up(self, stream: WatchStream | KeepAliveStream, until: float) -> None:
        if self.etcd.loop.time() < until and stream in self.streams:
            stream.broken()


class WatchStream:
    """A watch of one hub, as a call of gRPC."""

    def __init__(self, reach: Reach, random: Random) -> None:
        self._reach = reach
        self._etcd = reach.etcd
        self._random = random
        self._answers: deque[rpc.WatchResponse] = deque()
        self._wake = asyncio.Event()
        self._request = rpc.WatchCreateRequest()
        self._next = 0
        self._over = False
        self._waking = False

    async def write(self, request: rpc.WatchRequest) -> None:
        """The request for the watch."""
        if self._reach.away:
            raise broken("etcd is away")
        self._request.CopyFrom(request.create_request)
        self._next = self._request.start_revision
        self._answers.append(rpc.WatchResponse(header=self._etcd.header(), created=True))
        self._etcd.watch(self)
        self._reach.streams[self] = None
        self._gather()
        self._wake.set()

    async def read(self) -> rpc.WatchResponse:
        """The next answer."""
        while not self._answers:
            if self._over:
                raise broken("etcd has gone away")
            await self._wake.wait()
            self._wake.clear()
        return self._answers.popleft()

    def wants(self, key: bytes) -> bool:
        """Whether the key is in its range."""
        return within(key, self._request.key, self._request.range_end)

    def happened(self) -> None:
        """Something in its range was written: it is told after a moment."""
        if not self._waking:
            self._waking = True
            self._etcd.loop.call_later(self._random.uniform(*_SECONDS), self._gather)

    def broken(self) -> None:
        """The stream breaks."""
        self._answers.clear()
        self.cancel()

    def cancel(self) -> None:
        """It is not wanted any more."""
        self._over = True
        self._etcd.unwatch(self)
        self._reach.streams.pop(self, None)
        self._wake.set()

    def _gather(self) -> None:
        if self._reach.cut and not self._over:
            self._waking = True
            self._etcd.loop.call_at(self._reach.cut_until + 1e-6, self._gather)
            return
        self._waking = False
        if self._over:
            return
        events = self._etcd.since(self._next, self._request.key, self._request.range_end)
        self._next = self._etcd.revision + 1
        if events:
            self._answers.append(rpc.WatchResponse(header=self._etcd.header(), events=events))
            self._wake.set()


class KeepAliveStream:
    """A lease's signs of life, as a call of gRPC."""

    def __init__(self, reach: Reach, random: Random) -> None:
        self._reach = reach
        self._random = random
        self._answers: asyncio.Queue[rpc.LeaseKeepAliveResponse | None] = asyncio.Queue()
        self._over = False

    async def write(self, request: rpc.LeaseKeepAliveRequest) -> None:
        """One sign of life."""
        if self._over:
            raise broken("etcd has gone away")
        self._reach.streams[self] = None
        self._reach.etcd.loop.call_later(self._random.uniform(*_SECONDS), self._arrived, request.id)

    async def read(self) -> rpc.LeaseKeepAliveResponse:
        """The answer to one."""
        answer = await self._answers.get()
        if answer is None:
            raise broken("etcd has gone away")
        return answer

    def broken(self) -> None:
        """The stream breaks."""
        self.cancel()
        self._answers.put_nowait(None)

    def cancel(self) -> None:
        """It is not wanted any more."""
        self._over = True
        self._reach.streams.pop(self, None)

    def _arrived(self, lease: int) -> None:
        if self._over or self._reach.cut:
            return
        if self._reach.away:
            self.broken()
            return
        answer = self._reach.etcd.keep_alive(lease)
        if not self._random.random() < self._reach.etcd.lost:
            self._reach.etcd.loop.call_later(self._random.uniform(*_SECONDS), self._answers.put_nowait, answer)


class _Endpoint:
    """The one member, as the production client calls it."""

    address = "etcd"

    def __init__(self, reach: Reach, random: Random) -> None:
        self._reach = reach
        self._etcd = reach.etcd
        self._random = random

    async def call(self, _method: Method[Answer], request: Message, timeout: float) -> Answer:
        handled: asyncio.Future[Message] = self._etcd.loop.create_future()
        self._etcd.loop.call_later(self._random.uniform(*_SECONDS), self._handle, request, handled)
        answer = await handled  # who is killed meanwhile has asked for it all the same
        if self._reach.cut or (self._etcd.lost and self._random.random() < self._etcd.lost):
            await asyncio.sleep(timeout)
            raise Uncertain("the answer was lost")
        await asyncio.sleep(self._random.uniform(*_SECONDS))
        return cast(Answer, answer)

    def _handle(self, request: Message, handled: asyncio.Future[Message]) -> None:
        if self._reach.away:
            if not handled.done():
                handled.set_exception(Unavailable("etcd is away"))
            return
        try:
            answer = self._etcd.answer(request)
        except EtcdError as error:
            if not handled.done():
                handled.set_exception(error)
        else:
            if not handled.done():
                handled.set_result(answer)

    def stream(self, method: Method[Answer]) -> WatchStream | KeepAliveStream:
        return (KeepAliveStream if method.path.endswith("KeepAlive") else WatchStream)(self._reach, self._random)

    async def close(self) -> None:
        pass


class EtcdClient(Client):
    """A hub's way to the store: the production client with a played member."""

    def __init__(self, reach: Reach, random: Random) -> None:
        super().__init__(Config(("etcd",)))
        self._endpoints = cast(Any, [_Endpoint(reach, random)])
