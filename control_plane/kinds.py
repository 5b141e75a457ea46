"""The kinds of values that the hub stores, and how their keys are named.

topologies, steps, workflows, quotas
                                NAMESPACE/NAME            the newest revision of each object; a step's has VERSION too
topology-revisions, …           NAMESPACE/NAME/REVISION   all of them
generations                     NAMESPACE                 how often a namespace's objects have changed
runs                            NAMESPACE/RUN
plans                           NAMESPACE/RUN             the plan of a run, where it is small; else among the blobs
submissions                     NAMESPACE/DIGEST          idempotency key → run
admissions                      NAMESPACE                 the runs that were let in, where a quota bounds how many
outputs                         NAMESPACE/RUN/CLUSTER/EPOCH/FRAME.PIECE
measured                        NAMESPACE/STEP/VERSION    what runs have shown of a step
fragments                       CLUSTER/NAMESPACE/RUN     what is wanted of a cluster
agents                          CLUSTER                   what was last heard of it, and which hub it is connected to
members                         CLUSTER                   which of its certificates are valid
tokens                          ID                        a token to join with
hubs                            HUB ID                    where a hub is, as long as it lives
bindings                        everywhere/DIGEST, namespace/NAMESPACE/DIGEST   the role of a subject, by its digest
marks                           CLUSTER                   what operators want of it for the time being
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.store.base import M, Stored
from control_plane.store.etcd.lease import Lease
from control_plane.store.keys import Key
from control_plane.store.repository import EtcdRepository, Look, Store
from control_plane.store.transaction import Operation
from wire.digests import bytes_digest

OBJECT_KINDS = ("Topology", "Step", "Workflow", "Quota")
MOST_OPERATIONS = 120  # in one transaction, with room for what the caller adds
_MOST_BYTES = 900 << 10
_PLAIN = re.compile(r"(?!x-)[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")


class Kinds:
    """The repositories of all kinds, and transactions over several."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.objects: dict[str, EtcdRepository[cp.Object]] = {
            "Topology": store.repository("topologies", cp.Object),
            "Step": store.repository("steps", cp.Object),
            "Workflow": store.repository("workflows", cp.Object),
            "Quota": store.repository("quotas", cp.Object),
        }
        self.revisions: dict[str, EtcdRepository[cp.Object]] = {
            "Topology": store.repository("topology-revisions", cp.Object),
            "Step": store.repository("step-revisions", cp.Object),
            "Workflow": store.repository("workflow-revisions", cp.Object),
            "Quota": store.repository("quota-revisions", cp.Object),
        }
        self.generations = store.repository("generations", s.Generation)
        self.runs = store.repository("runs", m.Run)
        self.plans = store.repository("plans", m.Plan)
        self.admissions = store.repository("admissions", s.Admissions)
        self.submissions = store.repository("submissions", s.Submission)
        self.outputs = store.repository("outputs", s.RunOutputs)
        self.measured = store.repository("measured", s.StepMeasured)
        self.fragments = store.repository("fragments", m.Assignment)
        self.agents = store.repository("agents", s.AgentRecord)
        self.members = store.repository("members", s.MemberRecord)
        self.tokens = store.repository("tokens", s.TokenRecord)
        self.hubs = store.repository("hubs", s.HubRecord)
        self.bindings = store.repository("bindings", access_pb2.RoleBinding)
        self.marks = store.repository("marks", cp.ClusterMarks)

    def lease(self, seconds: float) -> Lease:
        """A lease that is kept alive while its context lasts, for keys that go when this process dies."""
        return Lease(self._store.kv.client, seconds)

    async def revision(self) -> int:
        """The store's revision now."""
        return await self._store.kv.revision()

    def newest_revision(self) -> int:
        """The newest revision of the store that this process has seen in an answer."""
        return self._store.kv.newest

    async def look(self, keys: Sequence[Key], below: Sequence[tuple[str, ...]] = (), most: int = 1) -> Look:
        """Read keys of several kinds at once; see `Store.look`."""
        return await self._store.look(keys, below, most)

    async def commit(self, operations: Sequence[Operation]) -> int:
        """All operations or none; returns the revision. Raises Conflict, TooLarge, and an EtcdError."""
        return await self._store.commit(operations)

    async def commit_in_turn(self, operations: Sequence[Operation]) -> None:
        """All operations, in as few transactions as they fit into."""
        for batch in batches(operations):
            await self._store.commit(batch)


def batches(operations: Sequence[Operation]) -> Iterator[list[Operation]]:
    """The operations in groups of which each fits into one transaction."""
    batch: list[Operation] = []
    size = 0
    for operation in operations:
        more = len(operation.value or b"")
        if batch and (len(batch) >= MOST_OPERATIONS or size + more > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(operation)
        size += more
    if batch:
        yield batch


def fit_together(operations: Sequence[Operation]) -> bool:
    """Whether one transaction can hold them all."""
    return len(operations) <= MOST_OPERATIONS and sum(len(each.value or b"") for each in operations) <= _MOST_BYTES


def object_names(kind: str, name: str) -> tuple[str, ...]:
    """An object's name as parts of a key: a step's, NAME@VERSION, has two."""
    if kind != "Step":
        return (name,)
    step, _, version = name.partition("@")
    return (step, version if _PLAIN.fullmatch(version) else "x-" + bytes_digest(version.encode())[:16].hex())


def submission_name(key: str) -> str:
    """An idempotency key as a part of a key."""
    return bytes_digest(key.encode())[:16].hex()


def revision_name(revision: int) -> str:
    """A revision as a part of a key, in order."""
    return f"{revision:08d}"


def piece_name(frame: int, piece: int) -> str:
    """A piece of outputs as a part of a key, in order."""
    return f"{frame:016d}.{piece:04d}"


def writing(
    repository: EtcdRepository[M], key: Key, before: Stored[M] | None, value: M, *, lease: int = 0
) -> Operation:
    """Make the key or write over it, whichever `before` says."""
    if before is None:
        return repository.creating(key, value, lease=lease)
    return repository.updating(key, value, before.revision, lease=lease)
