"""An etcd in memory, as the hub's store speaks to it: revisions, history, conditional transactions, leases.

    hubs ─ store.py ─ after a moment ─▶ Etcd ─▶ who watches

It outlives every hub. It may be away, and the answer to what it did may be lost; then the caller can't know.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Protocol

from google.protobuf.message import Message

from control_plane.store.etcd.errors import LeaseExists, LeaseNotFound
from control_plane.store.etcd.rpc import etcd_pb2 as rpc
from simulator.trials.loop import VirtualLoop


class Watcher(Protocol):
    """Who watches a range of keys."""

    def wants(self, key: bytes) -> bool:
        """Whether the key is in its range."""

    def happened(self) -> None:
        """Something in its range was written."""

    def broken(self) -> None:
        """Nothing more is told."""


@dataclass
class _Lease:
    seconds: float
    ends: float
    keys: dict[bytes, None] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class Etcd:
    """The store. `away_until`: virtual time; `lost`: how often an answer does not come."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.away_until = 0.0
        self.lost = 0.0
        self.revision = 1
        self._keys: dict[bytes, list[rpc.KeyValue]] = {}  # versions, oldest first; one without value is a deletion
        self._events: list[rpc.Event] = []
        self._watchers: dict[Watcher, None] = {}
        self._leases: dict[int, _Lease] = {}

    @property
    def away(self) -> bool:
        """Whether it does not answer now."""
        return self.away_until > self.loop.time()

    def go_away(self, seconds: float) -> None:
        """Answer nobody for a while."""
        self.away_until = max(self.away_until, self.loop.time() + seconds)
        for watcher in list(self._watchers):
            watcher.broken()
        for lease in self._leases.values():  # its members give all leases their whole time again
            lease.ends = max(lease.ends, self.away_until + lease.seconds)

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
            case rpc.LeaseGrantRequest():
                return self._grant(request)
            case rpc.LeaseRevokeRequest():
                self._end_lease(request.id)
                return rpc.LeaseRevokeResponse(header=self.header())
            case _:
                raise AssertionError(f"the hub asks etcd for {type(request).__name__}")

    def since(self, revision: int, key: bytes, range_end: bytes) -> list[rpc.Event]:
        """What has happened in a range from a revision on."""
        first = bisect_left(self._events, revision, key=lambda event: event.kv.mod_revision)
        return [event for event in self._events[first:] if within(event.kv.key, key, range_end)]

    def watch(self, stream: Watcher) -> None:
        """Tell this stream what happens."""
        self._watchers[stream] = None

    def unwatch(self, stream: Watcher) -> None:
        """No more."""
        self._watchers.pop(stream, None)

    def keep_alive(self, lease_id: int) -> rpc.LeaseKeepAliveResponse:
        """A lease lives on; one that has ended has no time to live."""
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.ends = self.loop.time() + lease.seconds
        return rpc.LeaseKeepAliveResponse(
            header=self.header(), id=lease_id, ttl=round(lease.seconds) if lease is not None else 0
        )

    def header(self) -> rpc.ResponseHeader:
        """Of an answer."""
        return rpc.ResponseHeader(revision=self.revision, raft_term=1)

    def _range(self, request: rpc.RangeRequest) -> rpc.RangeResponse:
        at = request.revision or self.revision
        if not request.range_end:
            keys = [request.key] if request.key in self._keys else []
        else:
            keys = sorted(key for key in self._keys if within(key, request.key, request.range_end))
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
        if gone := [op.request_put.lease for op in todo if op.request_put.lease not in (0, *self._leases)]:
            raise LeaseNotFound(f"there is no lease {gone[0]:x}")
        writes = any(op.HasField("request_put") or op.HasField("request_delete_range") for op in todo)
        if writes:
            self.revision += 1
        answer = rpc.TxnResponse(succeeded=succeeded)
        for op in todo:
            response = answer.responses.add()
            match op.WhichOneof("request"):
                case "request_put":
                    put = op.request_put
                    self._put(put.key, put.value, self.revision, put.lease)
                    response.response_put.SetInParent()
                case "request_delete_range":
                    response.response_delete_range.deleted = self._delete(op.request_delete_range.key)
                case "request_range":
                    response.response_range.CopyFrom(self._range(op.request_range))
        answer.header.CopyFrom(self.header())
        if writes:
            self._tell()
        return answer

    def _tell(self) -> None:
        """Who watches any of what was written last is told."""
        first = bisect_left(self._events, self.revision, key=lambda event: event.kv.mod_revision)
        written = [event.kv.key for event in self._events[first:]]
        for watcher in list(self._watchers):
            if any(watcher.wants(key) for key in written):
                watcher.happened()

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

    def _put(self, key: bytes, value: bytes, revision: int, lease: int = 0) -> None:
        before = self._at(key, revision)
        if before is not None and before.lease in self._leases:
            self._leases[before.lease].keys.pop(key, None)
        if lease:
            self._leases[lease].keys[key] = None
        kv = rpc.KeyValue(
            key=key,
            value=value,
            mod_revision=revision,
            create_revision=before.create_revision if before else revision,
            version=before.version + 1 if before else 1,
            lease=lease,
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

    def _grant(self, request: rpc.LeaseGrantRequest) -> rpc.LeaseGrantResponse:
        if request.id in self._leases:
            raise LeaseExists(f"there is a lease {request.id:x} already")
        lease = self._leases[request.id] = _Lease(float(request.ttl), self.loop.time() + request.ttl)
        lease.timer = self.loop.call_at(lease.ends, self._look_at_lease, request.id)
        return rpc.LeaseGrantResponse(header=self.header(), id=request.id, ttl=request.ttl)

    def _look_at_lease(self, lease_id: int) -> None:
        lease = self._leases[lease_id]
        if lease.ends > self.loop.time():
            lease.timer = self.loop.call_at(lease.ends, self._look_at_lease, lease_id)
        else:
            self._end_lease(lease_id)

    def _end_lease(self, lease_id: int) -> None:
        """Its keys go with it."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            raise LeaseNotFound(f"there is no lease {lease_id:x}")
        if lease.timer is not None:
            lease.timer.cancel()
        if lease.keys:
            self.revision += 1
            for key in lease.keys:
                self._delete(key)
            self._tell()


def within(key: bytes, first: bytes, end: bytes) -> bool:
    if not end:
        return key == first
    return first <= key and (end == b"\x00" or key < end)
