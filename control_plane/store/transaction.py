"""Several writes as one: all of them or none, each on the condition of a revision.

When the answer to a transaction is lost, it is sent again, which cannot apply it twice: every operation demands a
revision that its own success does away with. If the second sending is refused, it may be because the first had
come through; then the keys are asked (`_applied`), because what became of a revision right after it was named is
written in etcd's history. Only where that is gone as well does the caller hear that the outcome is uncertain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.store.errors import AlreadyExists, Conflict, NotFound, TooLarge
from control_plane.store.etcd import kv as etcd
from control_plane.store.etcd.client import backoff
from control_plane.store.etcd.errors import Compacted, EtcdError, Uncertain
from control_plane.store.etcd.kv import Item, Kv, Outcome
from control_plane.store.etcd.lock import Held
from control_plane.store.etcd.rpc import etcd_pb2 as rpc
from control_plane.store.keys import Key

MOST_BYTES = 1 << 20  # in one transaction: etcd takes 1.5 MiB, all told
_MOST_STEPS = 16  # back in the history of a key


@dataclass(frozen=True, slots=True)
class Operation:
    """One part of a transaction: a key that must be as it was at `expected` (0 = absent), and what to do with it.

    With a value it is written, bound to the lease; with `delete` it is deleted; with neither it is only checked.
    """

    key: Key
    expected: int
    value: bytes | None = None
    delete: bool = False
    lease: int = 0

    def does(self) -> rpc.RequestOp | None:
        """What etcd is to do."""
        if self.value is not None:
            return etcd.put(self.key.raw, self.value, self.lease)
        return etcd.delete(self.key.raw) if self.delete else None


async def commit(kv: Kv, operations: Sequence[Operation], *, under: Held | None = None) -> int:
    """Do all operations or none, at most 127 of them on different keys; returns the revision.

    With `under`, only while that lock is held. Raises Conflict for the first key that is not as expected, FenceLost,
    TooLarge, and an EtcdError: Uncertain where it can't be known whether it was done.
    """
    if len(operations) + (under is not None) > etcd.MAX_OPERATIONS:
        raise TooLarge(f"a transaction has {len(operations)} operations; etcd takes {etcd.MAX_OPERATIONS}")
    if (size := sum(len(operation.value or b"") for operation in operations)) > MOST_BYTES:
        raise TooLarge(f"a transaction writes {size} bytes; at most {MOST_BYTES} fit into one: use several, or blobs")
    outcome, uncertain = await _sent(kv, operations, under)
    if outcome.succeeded:
        return outcome.revision
    if uncertain is not None and (revision := await _applied(kv, operations, uncertain)) is not None:
        return revision
    if under is not None:
        under.check(outcome.reads[-1])
    for operation, found in zip(operations, outcome.reads, strict=False):
        current = found.revision if found else 0
        if current != operation.expected:
            kind = AlreadyExists if operation.expected == 0 else Conflict if current else NotFound
            raise kind(str(operation.key), operation.expected, current)
    raise AssertionError("etcd refused a transaction whose conditions hold")


async def _sent(kv: Kv, operations: Sequence[Operation], under: Held | None) -> tuple[Outcome, Uncertain | None]:
    """What etcd did in the end, and whether an earlier sending may have been what it did."""
    compare = [etcd.unchanged(operation.key.raw, operation.expected) for operation in operations]
    reads = [etcd.read(operation.key.raw, keys_only=True) for operation in operations]
    if under is not None:
        compare.append(under.fence())
        reads.append(etcd.read(under.key, keys_only=True))
    success = [done for operation in operations if (done := operation.does()) is not None]
    clock = asyncio.get_running_loop().time
    deadline = clock() + kv.client.config.patience
    uncertain: Uncertain | None = None
    for delay in backoff():
        try:
            return await kv.txn(compare, success, reads), uncertain
        except Uncertain as error:
            uncertain = error
        except EtcdError:
            if uncertain is not None:
                raise uncertain from None
            raise
        if clock() + delay > deadline:
            raise uncertain
        await asyncio.sleep(delay)
    raise AssertionError("a backoff does not end")


async def _applied(kv: Kv, operations: Sequence[Operation], uncertain: Uncertain) -> int | None:
    """The revision at which an earlier sending was applied; None = it certainly was not. Else raises `uncertain`.

    Whoever wrote the very same bytes on the same conditions is taken for us: the state is the one that was wanted. A
    value that says who won must say it in its bytes. All writes must have been made at one revision: a part of them may
    have come with another transaction of ours, whose answer was lost before.
    """
    written = [operation for operation in operations if operation.value is not None]
    deleted = [operation for operation in operations if operation.delete]
    if not written:
        found = [await kv.get(operation.key.raw) for operation in deleted]
        gone = [now is None or now.created > each.expected for each, now in zip(deleted, found, strict=True)]
        return await kv.revision() if gone and all(gone) else None
    revision = await _written(kv, written[0], uncertain)
    if revision is None:
        return None
    try:
        made = [await kv.get(each.key.raw, revision=revision) for each in written[1:]]
        left = [await kv.get(each.key.raw, revision=revision) for each in deleted]
    except Compacted:
        raise uncertain from None
    same = all(
        found is not None and (found.revision, found.value) == (revision, each.value)
        for each, found in zip(written[1:], made, strict=True)
    )
    return revision if same and not any(left) else None


async def _written(kv: Kv, operation: Operation, uncertain: Uncertain) -> int | None:
    """The same, for one write: whether the key's first write after `expected` was this one."""
    found: Item | None = await kv.get(operation.key.raw)
    for _ in range(_MOST_STEPS):
        if found is None or found.revision < operation.expected:
            break  # deleted since, or etcd was set back
        if found.revision == operation.expected:
            return None
        try:
            before = await kv.get(operation.key.raw, revision=found.revision - 1)
        except Compacted:
            break
        if (before.revision if before else 0) == operation.expected:
            return found.revision if found.value == operation.value else None
        found = before
    raise uncertain
