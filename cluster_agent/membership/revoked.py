"""What this agent knows of revocations: from the hub's directory and from peers, kept, passed on, acted upon.

    hub, peers ─▶ take ─ signed by the authority? anything new? ─▶ log, peers, nodes

A list that is not the authority's is dropped, so no member can have another one cut off.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bdw_fed.v1.membership_pb2 import SignedRevocations
from cluster_agent.coordinator.intake import Intake
from wire.identity import Credentials, Identity
from wire.identity import requests as asking
from wire.identity.revocations import Revocations, believed

REVOKED = "revocations"
"""The name under which the log keeps the newest list, so that it is known before anybody can be asked."""

_log = structlog.get_logger(__name__)


class Revoked:
    """The newest list, and who wants to hear of news: the clusters of which more is revoked than before."""

    def __init__(self, credentials: Credentials, intake: Intake, kept: bytes | None) -> None:
        self._authority = credentials.ca
        self._intake = intake
        own = asking.identity_in(credentials)
        self.revocations = Revocations({own.cluster: own.generation} if own.generation else None)
        self.listeners: list[Callable[[set[str]], None]] = []
        self.signed = SignedRevocations()
        if kept is not None:
            self.signed = SignedRevocations.FromString(kept)
            self.revocations.learn(self._believed(self.signed) or {})

    def _believed(self, signed: SignedRevocations) -> dict[str, int] | None:
        return believed(signed, self._authority.read_bytes())

    def refusal(self, identity: Identity) -> str:
        """Why a member is refused; empty = it is not."""
        return self.revocations.refusal(identity)

    def take(self, signed: SignedRevocations, sender: str) -> None:
        """A list that `sender` has passed on."""
        if not signed.list or signed.list == self.signed.list:
            return
        told = self._believed(signed)
        if told is None:
            _log.warning("a list of revocations is not the authority's; it is dropped", sender=sender)
            return
        news = self.revocations.learn(told)
        if news:
            self.signed = signed
            self._intake.keep(REVOKED, signed.SerializeToString())
            _log.warning("certificates were revoked", clusters=sorted(news), told_by=sender)
            for listener in self.listeners:
                listener(news)
