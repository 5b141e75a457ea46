"""Tokens in the store, and the certificates that are given for them.

    create ─▶ (handed over by a person) ─▶ join: the key is written into the token's record, on the condition that no
    other is ─▶ accept, where the token asks for it ─▶ certificate

A certificate is made after the store has the decision and with the generation that the store has then. So one that is
given while its cluster is being revoked is of the old generation, and worth nothing.
"""

from __future__ import annotations

import asyncio
import datetime
import math
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from bdw_fed.v1 import membership_pb2 as pb
from bdw_fed.v1 import store_pb2 as s
from control_plane.access.caller import Caller
from control_plane.kinds import Kinds
from control_plane.membership import tokens
from control_plane.membership.errors import (
    BadWish,
    JoinRefused,
    NoAuthority,
    NobodyWaits,
    NoSuchToken,
    NotHeardYet,
)
from control_plane.membership.members import Members
from control_plane.patience import persistently
from control_plane.store.base import Stored
from control_plane.store.errors import InvalidName
from control_plane.store.keys import checked_name
from topology.quantity import format_duration
from wire.identity import Identity, Role
from wire.identity.authority import Authority
from wire.identity.requests import BadRequestError, request_hash, requested_key

LONGEST_SECONDS = 30 * 86_400.0
_MOST_TOKENS = 50  # of one cluster; a revocation deletes them in one transaction

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Issuing:
    """How this hub certifies: a certificate is to be renewed within `life` seconds, and is valid for `grace` more.

    `join_address` is told to who makes a token: where clusters join, without a host where that is the hub's own.
    """

    authority: Authority
    life: float
    grace: float
    join_address: str

    @property
    def renew_after(self) -> float:
        """Seconds after which the holder asks for the next."""
        return self.life * 2 / 3

    def certify(self, identity: Identity, request: bytes) -> bytes:
        """The certificate (PEM) for a request. BadRequestError."""
        life = datetime.timedelta(seconds=self.life + self.grace)
        return self.authority.certify(identity, requested_key(request), life)


class Joining:
    """Tokens and certificates. Without `issuing` this hub makes neither. `relays`: the names of those in topologies."""

    def __init__(self, kinds: Kinds, members: Members, issuing: Issuing | None) -> None:
        self._kinds = kinds
        self._members = members
        self._issuing = issuing
        self.relays: Callable[[], Collection[str]] = tuple

    @property
    def renew_after(self) -> float:
        """Seconds after which the holder of a certificate asks for the next; 0 = not from this hub."""
        return self._issuing.renew_after if self._issuing else 0.0

    # ------------------------------------------------------------------------------------- asked by people

    async def create(self, request: pb.CreateTokenRequest, caller: str) -> pb.CreateTokenResponse:
        """Make a token; its secret is in the answer and nowhere else."""
        issuing = self._having_authority()
        if not issuing.join_address:
            raise NoAuthority("this hub lets nobody join: start it with --listen-join ADDRESS")
        checked_name(request.cluster)
        if not 0 < request.time_to_live <= LONGEST_SECONDS:
            finite = math.isfinite(request.time_to_live)
            asked = format_duration(request.time_to_live) if finite else f"{request.time_to_live} seconds"
            raise BadWish(f"a token lives for more than nothing and at most 30 days, not {asked}")
        now = time.time()
        theirs = [each for each in await self._without_forgotten(now) if each.value.cluster == request.cluster]
        if len(theirs) >= _MOST_TOKENS:
            raise BadWish(
                f"there are {len(theirs)} tokens for {request.cluster}: delete some that nobody will use "
                "(bdw-fed token list)"
            )
        token_id, secret = secrets.token_hex(tokens.ID_BYTES), secrets.token_hex(tokens.SECRET_BYTES)
        record = s.TokenRecord(
            id=token_id,
            cluster=request.cluster,
            digest=tokens.digest(token_id, secret),
            created_at=now,
            created_by=caller,
            expires_at=now + request.time_to_live,
            needs_acceptance=request.needs_acceptance,
        )
        await persistently(lambda: self._kinds.tokens.create(self._kinds.tokens.key(token_id), record))
        return pb.CreateTokenResponse(
            token=tokens.written(token_id, secret),
            authority_hash=issuing.authority.hash,
            join_address=issuing.join_address,
            info=tokens.shown(record, now),
        )

    async def all(self) -> list[pb.Token]:
        """All tokens, those that were made first before the others."""
        now = time.time()
        records = [stored.value for stored in await self._stored()]
        return [tokens.shown(record, now) for record in sorted(records, key=lambda record: record.created_at)]

    async def delete(self, token_id: str) -> None:
        """Delete a token; a certificate that was given for it stays. NoSuchToken."""

        async def attempt() -> None:
            stored = await self._token(token_id)
            if stored is None:
                raise NoSuchToken(f"there is no token {token_id}: bdw-fed token list shows those that there are")
            await self._kinds.tokens.delete(stored.key, stored.revision)

        await persistently(attempt)

    async def accept(self, cluster: str, key: str, caller: str) -> pb.Token:
        """Let in the key of the cluster that waits. NobodyWaits."""

        async def attempt() -> s.TokenRecord:
            stored = _the_one_that_waits(await self._stored(), cluster, key)
            record = s.TokenRecord()
            record.CopyFrom(stored.value)
            record.accepted_by = caller
            await self._kinds.tokens.update(stored.key, record, stored.revision)
            return record

        return tokens.shown(await persistently(attempt), time.time())

    def renew(self, caller: Caller, request: pb.RenewCertificateRequest) -> pb.RenewCertificateResponse:
        """The next certificate of a user who has one. BadWish."""
        issuing = self._having_authority()
        if caller.until is not None:
            raise BadWish(f"you are {caller.name}, by a token: there is no certificate to renew")
        try:
            return pb.RenewCertificateResponse(
                certificate=issuing.certify(Identity(Role.USER, caller.name), request.request)
            )
        except BadRequestError as error:
            raise BadWish(str(error)) from error

    # ------------------------------------------------------------------------------------- asked by clusters

    async def join(self, request: pb.JoinRequest, sender: str) -> pb.JoinResponse:
        """A certificate for the key, if its token allows that; JoinRefused otherwise."""
        issuing = self._having_authority()
        if request.node:
            raise JoinRefused("nodes join at the agent of their cluster, not at the hub")
        token_id, secret = tokens.parsed(request.token)
        try:
            key = bytes.fromhex(request_hash(request.request).removeprefix("sha256:"))
        except BadRequestError as error:
            raise JoinRefused(str(error)) from error

        async def attempt() -> s.TokenRecord:
            stored = await self._token(token_id)
            record = tokens.present(stored.value if stored else None, secret, request.cluster, key, sender, time.time())
            assert stored is not None
            if record is not stored.value:
                await self._kinds.tokens.update(stored.key, record, stored.revision)
            return record

        record = await persistently(attempt)
        if not tokens.admits(record):
            return pb.JoinResponse(cluster=record.cluster)
        generation = await self._members.joined(record.cluster, time.time())
        if await self._token(token_id) is None:  # revoked since: what is certified below would be the next generation
            raise JoinRefused("this token was deleted, or its cluster revoked, meanwhile")
        identity = Identity(Role.AGENT, record.cluster, generation)
        _log.info("a cluster has joined", cluster=record.cluster, sender=sender, key=tokens.key_words(record.key))
        return pb.JoinResponse(certificate=issuing.certify(identity, request.request), cluster=record.cluster)

    async def certify(self, caller: Identity, request: pb.CertifyRequest) -> pb.CertifyResponse:
        """The next certificate of an agent or a relay, or one of a node of the agent's cluster.

        BadWish, or JoinRefused if it is revoked, or a relay that no topology has any more. NotHeardYet, if a node was
        revoked and its agent may have let in the one that was.
        """
        issuing = self._having_authority()
        if caller.role is Role.RELAY:
            return self._certify_relay(issuing, caller, request)
        await self._members.refresh(caller.cluster)
        revocations = self._members.revocations
        if refusal := revocations.refusal(caller):
            raise JoinRefused(refusal)
        generation = revocations.valid_from(caller.cluster)
        try:
            identity = Identity(Role.AGENT, caller.cluster, generation)
            if request.node:
                name = f"{caller.cluster}/{checked_name(request.node)}"
                identity = Identity(Role.NODE, name, revocations.valid_from(name), generation)
                alone = identity.generation > generation  # it was revoked by itself
                if alone and request.valid_from < identity.generation:
                    raise NotHeardYet(f"{identity} was revoked, which agent {caller.cluster} does not know yet")
            return pb.CertifyResponse(certificate=issuing.certify(identity, request.request))
        except (BadRequestError, InvalidName, ValueError) as error:
            raise BadWish(str(error)) from error

    # ------------------------------------------------------------------------------------- how

    def _certify_relay(self, issuing: Issuing, caller: Identity, request: pb.CertifyRequest) -> pb.CertifyResponse:
        if request.node:
            raise BadWish("a relay has no nodes")
        if caller.name not in self.relays():
            raise JoinRefused(f"no topology has a relay {caller.name}: its certificate is not renewed")
        try:
            return pb.CertifyResponse(certificate=issuing.certify(caller, request.request))
        except BadRequestError as error:
            raise BadWish(str(error)) from error

    def _having_authority(self) -> Issuing:
        if self._issuing is None:
            raise NoAuthority(
                "this hub does not have the authority's key, so it certifies nobody: start it with --authority DIR"
            )
        return self._issuing

    async def _stored(self) -> tuple[Stored[s.TokenRecord], ...]:
        return (await persistently(self._kinds.tokens.list)).items

    async def _token(self, token_id: str) -> Stored[s.TokenRecord] | None:
        try:
            key = self._kinds.tokens.key(token_id)
        except InvalidName:
            return None
        return await self._kinds.tokens.get(key)

    async def _without_forgotten(self, now: float) -> list[Stored[s.TokenRecord]]:
        """All tokens, after those that nobody needs were deleted."""
        stored = await self._stored()
        forgotten = [each for each in stored if tokens.is_forgotten(each.value, now)]
        deletions = (self._kinds.tokens.delete(each.key, each.revision) for each in forgotten)
        await asyncio.gather(*deletions, return_exceptions=True)  # another hub may have come first
        return [each for each in stored if each not in forgotten]


def _the_one_that_waits(stored: tuple[Stored[s.TokenRecord], ...], cluster: str, key: str) -> Stored[s.TokenRecord]:
    waiting = [each for each in stored if each.value.cluster == cluster and tokens.waits(each.value)]
    if key:
        waiting = [each for each in waiting if tokens.key_words(each.value.key) == key]
    if len(waiting) == 1:
        return waiting[0]
    if waiting:
        keys = ", ".join(f"{tokens.key_words(each.value.key)} (from {each.value.presented_from})" for each in waiting)
        raise NobodyWaits(f"several keys of {cluster} wait: name the one that its agent shows, with --key: {keys}")
    named = f" with the key {key}" if key else ""
    raise NobodyWaits(f"nobody waits to be accepted as {cluster}{named}: bdw-fed token list shows who does")
