"""The generations of clusters and nodes: what is revoked, kept in the store and followed by every hub."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1 import store_pb2 as s
from control_plane.kinds import Kinds, writing
from control_plane.membership.errors import NoAuthority
from control_plane.patience import persistently
from control_plane.store.base import Deleted, Listing, Stored
from control_plane.store.keys import checked_name
from wire.identity.authority import Authority
from wire.identity.revocations import Revocations, statement

_log = structlog.get_logger(__name__)


class Members:
    """Who is cut off. `revoked` is called with a cluster, or CLUSTER/NODE, as soon as this hub hears of it."""

    def __init__(self, kinds: Kinds, authority: Authority | None) -> None:
        self._kinds = kinds
        self._authority = authority
        self._signed: tuple[bytes, pb.SignedRevocations] = (b"", pb.SignedRevocations())
        self.revocations = Revocations()
        self.revoked: Callable[[str], None] = lambda _: None

    def signed(self) -> pb.SignedRevocations:
        """All revocations as agents are told them; empty where there are none, or nobody here to sign them."""
        told = statement(self.revocations)
        if told != self._signed[0] and self._authority is not None:
            self._signed = told, pb.SignedRevocations(list=told, signature=self._authority.sign(told))
        return self._signed[1]

    async def load(self) -> Listing[s.MemberRecord]:
        """Read all. Returns what `keep` goes on from."""
        listing = await persistently(self._kinds.members.list, None)
        for item in listing.items:
            self.revocations.learn(_revoked_in(item.value))
        return listing

    async def keep(self, listing: Listing[s.MemberRecord]) -> None:
        """Follow what other hubs revoke. Run by the hub as long as it lives."""
        async with self._kinds.members.watch(after=listing) as watch:
            async for news in watch:
                for event in news.events:
                    if not isinstance(event, Deleted):
                        self._learn(event.value)

    async def refresh(self, cluster: str) -> None:
        """Know what of the cluster is revoked as the store has it now."""
        stored = await persistently(lambda: self._kinds.members.get(self._kinds.members.key(cluster)))
        if stored is not None:
            self._learn(stored.value)

    async def is_known(self, cluster: str) -> bool:
        """Whether the cluster has joined, been revoked, or been connected to some hub, once."""
        keys = [self._kinds.members.key(cluster), self._kinds.agents.key(cluster)]
        look = await persistently(lambda: self._kinds.look(keys))
        return any(look.items[key.raw] is not None for key in keys)

    async def joined(self, cluster: str, at: float) -> int:
        """The cluster is certified now. Returns the generation that it has."""

        async def attempt() -> int:
            key = self._kinds.members.key(cluster)
            before = await self._kinds.members.get(key)
            record = _copied(cluster, before)
            record.joined_at = at
            await self._kinds.commit([writing(self._kinds.members, key, before, record)])
            return record.generation

        return await persistently(attempt)

    async def revoke(self, cluster: str, caller: str) -> int:
        """Refuse all certificates that the cluster and its nodes have, and its tokens. Returns the next generation.

        NoAuthority: nobody could be told in a way that is believed.
        """
        self._check_authority()
        wanted = (await self._record(cluster)).generation + 1  # fixed here: tried again, it is one revocation

        async def attempt() -> s.MemberRecord:
            key = self._kinds.members.key(cluster)
            before = await self._kinds.members.get(key)
            record = _copied(cluster, before)
            if record.generation >= wanted:
                return record
            record.generation = max(record.generation, *record.nodes.values(), 0) + 1  # above all that its nodes have
            record.nodes.clear()
            record.revoked_at = time.time()
            record.revoked_by = caller
            operations = [writing(self._kinds.members, key, before, record)]
            for stored in (await self._kinds.tokens.list()).items:
                if stored.value.cluster == cluster:
                    operations.append(self._kinds.tokens.deleting(stored.key, stored.revision))
            await self._kinds.commit(operations)
            return record

        record = await persistently(attempt)
        _log.warning("a cluster was revoked", cluster=cluster, generation=record.generation, by=caller)
        self._learn(record)
        return record.generation

    async def revoke_node(self, cluster: str, node: str, caller: str) -> int:
        """Refuse all certificates that a node has. Returns the next ones' generation. NoAuthority, InvalidName."""
        self._check_authority()
        checked_name(node)
        wanted = _valid_from(await self._record(cluster), node) + 1

        async def attempt() -> s.MemberRecord:
            key = self._kinds.members.key(cluster)
            before = await self._kinds.members.get(key)
            record = _copied(cluster, before)
            if _valid_from(record, node) < wanted:
                record.nodes[node] = wanted
                await self._kinds.commit([writing(self._kinds.members, key, before, record)])
            return record

        record = await persistently(attempt)
        _log.warning("a node was revoked", cluster=cluster, node=node, generation=_valid_from(record, node), by=caller)
        self._learn(record)
        return _valid_from(record, node)

    def _check_authority(self) -> None:
        if self._authority is None:
            raise NoAuthority(
                "a revocation is signed with the authority's key, which this hub does not have: start it with "
                "--authority DIR"
            )

    async def _record(self, cluster: str) -> s.MemberRecord:
        """As the store has it; an empty one if it has none."""
        return _copied(cluster, await persistently(lambda: self._kinds.members.get(self._kinds.members.key(cluster))))

    def _learn(self, record: s.MemberRecord) -> None:
        for name in sorted(self.revocations.learn(_revoked_in(record))):
            self.revoked(name)


def _copied(cluster: str, stored: Stored[s.MemberRecord] | None) -> s.MemberRecord:
    """A record to change."""
    record = s.MemberRecord(cluster=cluster)
    if stored is not None:
        record.CopyFrom(stored.value)
    return record


def _valid_from(record: s.MemberRecord, node: str) -> int:
    """The lowest generation of the node's certificates that is valid."""
    return max(record.generation, record.nodes.get(node, 0))


def _revoked_in(record: s.MemberRecord) -> dict[str, int]:
    nodes = {f"{record.cluster}/{node}": valid_from for node, valid_from in record.nodes.items()}
    return {record.cluster: record.generation, **nodes}
