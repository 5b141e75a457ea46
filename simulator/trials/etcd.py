"""An etcd in memory, as the hub's store speaks to it: revisions, history, conditional transactions, watches.

    repositories ─ Kv, Watch, Client ─▶ a played member ─ after a moment ─▶ Etcd

It outlives every hub. It may be away, and the answer to what it did may be lost; then the caller can't know.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from random import Random
from typing import Any, cast

from google.protobuf.message import Message

from control_plane.store.etcd.client import Answer, Client, Config, Method
from control_plane.store.etcd.errors import Unavailable, Uncertain
from control_plane.store.etcd.rpc import etcd_pb2 as rpc
from simulator.trials.loop import VirtualLoop
from simulator.trials.network import broken

_SECONDS = (0.0003, 0.002)  # each way


class Etcd:
    """The store. `away_until`: virtual time; `lost`: how often an answer does not come."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.away_until = 0.0
        self.lost = 0.0
        self.revision = 1
        self._keys: dict[bytes, list[rpc.KeyValue]] = {}  # versions, oldest first; one without value is a deletion
        self._events: list[rpc.Event] = []
        self._watchers: dict[WatchStream, None] = {}

    @property
    def away(self) -> bool:
        """Whether it does not answer now."""
        return self.away_until > self.loop.time()

    def go_away(self, seconds: float) -> None:
        """Answer nobody for a while."""
        self.away_until = max(self.away_until, self.loop.time() + seconds)
        for watcher in list(self._watchers):
            watcher.broken()

    def contents(self) -> dict[bytes, bytes]:
        """All keys with their values."""
        return {key: versions[-1].value for key, versions in self._keys.items() if versions[-1].version}

    def value(self, key: bytes) -> bytes:
        """Of a key; empty if there is none."""
        found = self._at(key, self.revision)
        return found.value if found is not None else b""

    def fill(self, contents: dict[bytes, bytes]) -> None:
        """Write all of this, each at a revision of its own."""
        for key, value in contents.items():
            self.revision += 1
            self._put(key, value, self.revision)

    def answer(self, request: Message) -> Message:
        """Do what is asked for."""
        match request:
            case rpc.RangeRequest():
                return self._range(request)
            case rpc.TxnRequest():
                return self._txn(request)
            case _:
                raise AssertionError(f"the hub asks etcd for {type(request).__name__}")

    def since(self, revision: int, key: bytes, range_end: bytes) -> list[rpc.Event]:
        """What has happened in a range from a revision on."""
        first = bisect_left(self._events, revision, key=lambda event: event.kv.mod_revision)
        return [event for event in self._events[first:] if _within(event.kv.key, key, range_end)]

    def watch(self, stream: WatchStream) -> None:
        """Tell this stream what happens."""
        self._watchers[stream] = None

    def unwatch(self, stream: WatchStream) -> None:
        """No more."""
        self._watchers.pop(stream, None)

    def header(self) -> rpc.ResponseHeader:
        """Of an answer."""
        return rpc.ResponseHeader(revision=self.revision, raft_term=1)

    def _range(self, request: rpc.RangeRequest) -> rpc.RangeResponse:
        at = request.revision or self.revision
        if not request.range_end:
            keys = [request.key] if request.key in self._keys else []
        else:
            keys = sorted(key for key in self._keys if _within(key, request.key, request.range_end))
        found = [kv for key in keys if (kv := self._at(key, at)) is not None]
        more = bool(request.limit) and len(found) > request.limit
        answer = rpc.RangeResponse(header=self.header(), more=more, count=len(found))
        for kv in found[: request.limit] if more else found:
            shown = answer.kvs.add()
            shown.CopyFrom(kv)
            if request.keys_only:
                shown.ClearField("value")
        return answer

    def _txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        succeeded = all(self._holds(compare) for compare in request.compare)
        todo = request.success if succeeded else request.failure
        writes = any(op.HasField("request_put") or op.HasField("request_delete_range") for op in todo)
        if writes:
            self.revision += 1
        answer = rpc.TxnResponse(succeeded=succeeded)
        for op in todo:
            response = answer.responses.add()
            match op.WhichOneof("request"):
                case "request_put":
                    self._put(op.request_put.key, op.request_put.value, self.revision)
                    response.response_put.SetInParent()
                case "request_delete_range":
                    response.response_delete_range.deleted = self._delete(op.request_delete_range.key)
                case "request_range":
                    response.response_range.CopyFrom(self._range(op.request_range))
        answer.header.CopyFrom(self.header())
        if writes:
            for watcher in list(self._watchers):
                watcher.happened()
        return answer

    def _holds(self, compare: rpc.Compare) -> bool:
        kv = self._at(compare.key, self.revision)
        match compare.target:
            case rpc.Compare.MOD:
                return (kv.mod_revision if kv else 0) == compare.mod_revision
            case rpc.Compare.CREATE:
                return (kv.create_revision if kv else 0) == compare.create_revision
            case _:
                return kv is not None and kv.value == compare.value

    def _at(self, key: bytes, revision: int) -> rpc.KeyValue | None:
        for kv in reversed(self._keys.get(key, ())):
            if kv.mod_revision <= revision:
                return kv if kv.version else None
        return None

    def _put(self, key: bytes, value: bytes, revision: int) -> None:
        before = self._at(key, revision)
        kv = rpc.KeyValue(
            key=key,
            value=value,
            mod_revision=revision,
            create_revision=before.create_revision if before else revision,
            version=before.version + 1 if before else 1,
        )
        self._keys.setdefault(key, []).append(kv)
        self._events.append(rpc.Event(type=rpc.Event.PUT, kv=kv))

    def _delete(self, key: bytes) -> int:
        if self._at(key, self.revision) is None:
            return 0
        gone = rpc.KeyValue(key=key, mod_revision=self.revision)
        self._keys[key].append(gone)
        self._events.append(rpc.Event(type=rpc.Event.DELETE, kv=gone))
        return 1


class WatchStream:
    """A watch of one hub, as a call of gRPC."""

    def __init__(self, etcd: Etcd, random: Random) -> None:
        self._etcd = etcd
        self._random = random
        self._answers: deque[rpc.WatchResponse] = deque()
        self._wake = asyncio.Event()
        self._request = rpc.WatchCreateRequest()
        self._next = 0
        self._over = False
        self._waking = False

    async def write(self, request: rpc.WatchRequest) -> None:
        """The request for the watch."""
        if self._etcd.away:
            raise broken("etcd is away")
        self._request.CopyFrom(request.create_request)
        self._next = self._request.start_revision
        self._answers.append(rpc.WatchResponse(header=self._etcd.header(), created=True))
        self._etcd.watch(self)
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

    def happened(self) -> None:
        """Something was written: it is told after a moment."""
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
        self._wake.set()

    def _gather(self) -> None:
        self._waking = False
        if self._over:
            return
        events = self._etcd.since(self._next, self._request.key, self._request.range_end)
        if events:
            self._next = self._etcd.revision + 1
            self._answers.append(rpc.WatchResponse(header=self._etcd.header(), events=events))
            self._wake.set()


class _Endpoint:
    """The one member, as the production client calls it."""

    address = "etcd"

    def __init__(self, etcd: Etcd, random: Random) -> None:
        self._etcd = etcd
        self._random = random

    async def call(self, _method: Method[Answer], request: Message, timeout: float) -> Answer:
        handled: asyncio.Future[Message] = self._etcd.loop.create_future()
        self._etcd.loop.call_later(self._random.uniform(*_SECONDS), self._handle, request, handled)
        answer = await handled  # who is killed meanwhile has asked for it all the same
        if self._etcd.lost and self._random.random() < self._etcd.lost:
            await asyncio.sleep(timeout)
            raise Uncertain("the answer was lost")
        await asyncio.sleep(self._random.uniform(*_SECONDS))
        return cast(Answer, answer)

    def _handle(self, request: Message, handled: asyncio.Future[Message]) -> None:
        if not self._etcd.away:
            answer = self._etcd.answer(request)
            if not handled.done():
                handled.set_result(answer)
        elif not handled.done():
            handled.set_exception(Unavailable("etcd is away"))

    def stream(self, _method: Method[Answer]) -> WatchStream:
        return WatchStream(self._etcd, self._random)

    async def close(self) -> None:
        pass


class EtcdClient(Client):
    """A hub's way to the store: the production client with a played member."""

    def __init__(self, etcd: Etcd, random: Random) -> None:
        super().__init__(Config(("etcd",)))
        self._endpoints = cast(Any, [_Endpoint(etcd, random)])


def _within(key: bytes, first: bytes, end: bytes) -> bool:
    if not end:
        return key == first
    return first <= key and (end == b"\x00" or key < end)
