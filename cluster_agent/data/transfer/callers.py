"""Who asks a data server, and whether they may: by certificate, by a token where there is no TLS, or by a permit."""

from __future__ import annotations

from typing import Final

import structlog

from cluster_agent.data.transfer.channel import Channel
from cluster_agent.data.transfer.plain import Passes
from cluster_agent.data.transfer.readers import ReaderRefusedError, Readers
from cluster_agent.data.transfer.requests import AnswerError, Request
from wire.identity.peers import UnknownPeerError, identity_of_tls
from wire.identity.revocations import Revocations
from wire.identity.roles import Identity, Role

_REFUSALS: Final = (401, 403)
_log = structlog.get_logger(__name__)


class Callers:
    """Judges who asks. Whose certificate is among the `revocations` is refused, with each request."""

    def __init__(self, readers: Readers, revocations: Revocations) -> None:
        self._readers = readers
        self._revocations = revocations
        self._passes = Passes()

    def trust(self, clusters: frozenset[str]) -> None:
        """These clusters' nodes may have tokens, and no others."""
        self._passes.trusted = clusters

    def of(self, request: Request) -> Identity | None:
        """Who asks; None: somebody over TLS without a certificate. AnswerError."""
        channel = request.channel
        if channel.is_tls and not channel.certificate:
            return None
        try:
            if channel.certificate:
                identity = identity_of_tls(dict(channel.certificate))
            else:
                identity = self._passes.holder(request.authorization)
        except (UnknownPeerError, ValueError) as error:
            raise AnswerError(401, str(error)) from None
        if refusal := self._revocations.refusal(identity):
            raise AnswerError(401, refusal)
        return identity

    def node(self, request: Request) -> Identity:
        """The node that asks. AnswerError if it is none."""
        caller = self.of(request)
        if caller is None or caller.role is not Role.NODE:
            raise AnswerError(403, f"{caller or 'nobody known'} may not do this: it is for node")
        return caller

    def token(self, request: Request) -> str:
        """A token for connections without TLS, if whoever asks may have one; else it is empty. AnswerError."""
        caller = self.of(request)
        return self._passes.issue(caller) if caller is not None and request.channel.certificate is not None else ""

    def may_read(self, request: Request, caller: Identity | None, namespace: str, run: str) -> None:
        """AnswerError if they may not read a run's units."""
        try:
            self._readers.judge(caller, request.authorization, namespace, run)
        except ReaderRefusedError as refused:
            raise AnswerError(refused.status, str(refused)) from None


def note_refusal(channel: Channel, error: AnswerError) -> None:
    """Log what was answered, if it was a refusal of the caller."""
    if error.status in _REFUSALS:
        _log.warning("a caller was refused", sender=channel.sender, code=int(error.status), reason=str(error))
