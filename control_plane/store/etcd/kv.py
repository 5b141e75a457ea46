"""Keys and values: reads, lists that are consistent however long they are, and conditional writes.

Every read is linearizable. Every write that matters is a `txn`: comparisons of revisions, what to do when they
hold, what to read when they don't. None of the writes is repeated after an uncertain failure here, because only
the caller can tell whether what it then finds is its own doing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.store.etcd.client import Client, Method, Retry
from control_plane.store.etcd.errors import Compacted, EtcdError, Uncertain
from control_plane.store.etcd.rpc import etcd_pb2 as rpc
from control_plane.store.etcd.settling import Settler

_RANGE = Method("/etcdserverpb.KV/Range", rpc.RangeResponse)
_PUT = Method("/etcdserverpb.KV/Put", rpc.PutResponse)
_DELETE = Method("/etcdserverpb.KV/DeleteRange", rpc.DeleteRangeResponse)
_TXN = Method("/etcdserverpb.KV/Txn", rpc.TxnResponse)
_COMPACT = Method("/etcdserverpb.KV/Compact", rpc.CompactionResponse)

PAGE = 128  # keys: with values of 256 KiB each, 32 MiB at a time
MAX_OPERATIONS = 128  # etcd's default bound for each part of a txn
FIRST_KEY = b"\x00"  # as the beginning of a range: of everything
_ATTEMPTS = 5  # to read a list before its revision is compacted


@dataclass(frozen=True, slots=True)
class Item:
    """A key as it was at one revision. `revision` is its last write, `created` its making, `version` counts writes."""

    key: bytes
    value: bytes
    revision: int
    created: int
    version: int
    lease: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All items that were asked for, as they were at `revision`; those under one prefix in the order of their keys."""

    items: tuple[Item, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a txn did: whether its comparisons held, at which revision, and what each `read` of its branch found."""

    succeeded: bool
    revision: int
    reads: tuple[Item | None, ...]


def item(kv: rpc.KeyValue) -> Item:
    """The item that etcd speaks of."""
    return Item(kv.key, kv.value, kv.mod_revision, kv.create_revision, kv.version, kv.lease)


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix`; the zero byte, etcd's "no end", where there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\x00"


def absent(key: bytes) -> rpc.Compare:
    """Holds while there is no such key."""
    return created_at(key, 0)


def created_at(key: bytes, revision: int) -> rpc.Compare:
    """Holds while the key is the one that was made at `revision`, however often it was written since."""
    return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.CREATE, key=key, create_revision=revision)


def unchanged(key: bytes, revision: int) -> rpc.Compare:
    """Holds while `revision` is the key's last write."""
    return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.MOD, key=key, mod_revision=revision)


def has_value(key: bytes, value: bytes) -> rpc.Compare:
    """Holds while the key is there and has this value."""
    return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.VALUE, key=key, value=value)


def put(key: bytes, value: bytes, lease: int = 0) -> rpc.RequestOp:
    """Write the value, and bind the key to the lease (0 = to none)."""
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))


def delete(key: bytes) -> rpc.RequestOp:
    """Delete the key."""
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))


def read(key: bytes, *, keys_only: bool = False) -> rpc.RequestOp:
    """Read the key, with or without its value."""
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, keys_only=keys_only))


def read_below(prefix: bytes, most: int) -> rpc.RequestOp:
    """Read the first `most` keys under a prefix."""
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=prefix, range_end=prefix_end(prefix), limit=most))


class Kv:
    """The key-value part of etcd. All methods raise an EtcdError, see there for what that says about writes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.newest = 0  # the highest revision that an answer of a transaction has named
        self._settler = Settler(self._term) if client.config.settle else None

    async def get(self, key: bytes, *, revision: int = 0) -> Item | None:
        """The key now, or as it was at `revision`. Raises Compacted where that is no longer kept."""
        answer = await self.client.call(_RANGE, rpc.RangeRequest(key=key, revision=revision), Retry.ALWAYS)
        return item(answer.kvs[0]) if answer.kvs else None

    async def look(self, reads: Sequence[rpc.RequestOp]) -> Snapshot:
        """What these reads, at most MAX_OPERATIONS, find in one step."""
        answer = await self.client.call(_TXN, rpc.TxnRequest(success=reads), Retry.ALWAYS)
        self.newest = max(self.newest, answer.header.revision)
        found = (item(kv) for response in answer.responses for kv in response.response_range.kvs)
        return Snapshot(tuple(found), answer.header.revision)

    async def revision(self) -> int:
        """The store's revision: that of its last write, by anybody, as all members agree on it."""
        answer = await self.client.call(_RANGE, rpc.RangeRequest(key=b"\x00"), Retry.ALWAYS)
        return answer.header.revision

    async def list(
        self,
        prefix: bytes,
        *,
        exact: bool = False,
        revision: int = 0,
        keys_only: bool = False,
        page: int = PAGE,
    ) -> Snapshot:
        """Everything under `prefix` (with `exact`: that one key), at one revision, read in pages of `page` keys.

        Without `revision` it is that of the first page; should that be compacted before the last page is read, the
        list is begun again. With `revision`, raises Compacted where that is no longer kept.
        """
        for attempt in itertools.count(1):
            request = rpc.RangeRequest(
                key=prefix or FIRST_KEY,
                range_end=b"" if exact else prefix_end(prefix),
                limit=page,
                revision=revision,
                keys_only=keys_only,
            )
            try:
                return await self._pages(request)
            except Compacted:
                if revision or attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _pages(self, request: rpc.RangeRequest) -> Snapshot:
        items: list[Item] = []
        while True:
            answer = await self.client.call(_RANGE, request, Retry.ALWAYS)
            items += map(item, answer.kvs)
            request.revision = request.revision or answer.header.revision
            if not answer.more:
                return Snapshot(tuple(items), request.revision)
            request.key = answer.kvs[-1].key + b"\x00"

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> int:
        """Write unconditionally; returns the revision. For keys that only this process writes."""
        request = rpc.PutRequest(key=key, value=value, lease=lease)
        answer = await self.client.call(_PUT, request, Retry.UNSENT)
        await self._settled(answer.header)
        return answer.header.revision

    async def delete(self, key: bytes) -> bool:
        """Delete unconditionally; whether there was something to delete."""
        answer = await self.client.call(_DELETE, rpc.DeleteRangeRequest(key=key), Retry.UNSENT)
        await self._settled(answer.header)
        return answer.deleted > 0

    async def txn(
        self,
        compare: Sequence[rpc.Compare],
        success: Sequence[rpc.RequestOp],
        failure: Sequence[rpc.RequestOp] = (),
    ) -> Outcome:
        """If all of `compare` hold do all of `success`, else all of `failure`, as one step."""
        request = rpc.TxnRequest(compare=compare, success=success, failure=failure)
        answer = await self.client.call(_TXN, request, Retry.UNSENT)
        self.newest = max(self.newest, answer.header.revision)
        await self._settled(answer.header)
        reads = tuple(
            item(response.response_range.kvs[0]) if response.response_range.kvs else None
            for response in answer.responses
            if response.HasField("response_range")
        )
        return Outcome(answer.succeeded, answer.header.revision, reads)

    async def _settled(self, header: rpc.ResponseHeader) -> None:
        """What was acknowledged with this header will not be forgotten. Uncertain if that can't be found out."""
        if self._settler is None:
            return
        try:
            stays = await self._settler.settled(header.raft_term)
        except EtcdError as error:
            raise Uncertain(f"etcd acknowledged a write, and then: {error}") from error
        if not stays:
            raise Uncertain("etcd acknowledged a write and was started anew before that was in its log for certain")

    async def _term(self) -> int:
        answer = await self.client.call(_RANGE, rpc.RangeRequest(key=FIRST_KEY), Retry.ALWAYS)
        return answer.header.raft_term

    async def compact(self, revision: int) -> None:
        """Forget what was before `revision`. For tests and tools: etcd is told at its start to compact by itself."""
        request = rpc.CompactionRequest(revision=revision, physical=True)
        await self.client.call(_COMPACT, request, Retry.UNSENT)
